#!/usr/bin/env python3
"""A node leaves a lab for good, joins again by a token, and is expelled; see README.md."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import lab as labs  # noqa: E402


INTERVAL = 0.2  # asking takes CPU time of the node that is asked


class Failure(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


def tess(lab, *args, node="n1"):
    return lab.run(node, ["tess" if node != "n1" else lab.tess, *args], deadline=60).stdout


def states(lab, node="n1"):
    return {entry["name"]: entry["state"] if entry["up"] else entry["state"] + ", no answer"
            for entry in json.loads(tess(lab, "nodes", "--json", node=node))["nodes"]}


def leave_and_join(lab):
    everybody = {"n1": "alive", "n2": "alive", "n3": "alive"}
    labs.wait_until(lambda: states(lab) == everybody, 60, "all three to be alive", interval=INTERVAL)
    tess(lab, "leave", "--remove", node="n3")
    labs.wait_until(lambda: states(lab).get("n3", "").startswith("left"), 60, "n1 to know that n3 has left", interval=INTERVAL)
    token = tess(lab, "token").strip()
    said = tess(lab, "join", token, "--name", "n3", node="n3")
    check("joined as node n3" in said, said)
    lab.start("n3")
    for node in everybody:
        labs.wait_until(lambda: states(lab, node) == everybody, 60, f"{node} to see all three", interval=INTERVAL)
    print("n3 left and came back by a token", flush=True)


def expel(lab):
    tess(lab, "node", "expel", "n3")
    for node in ("n1", "n2"):  # both have confirmed
        check(states(lab, node).get("n3", "").startswith("expelled"), f"{node} says of n3: {states(lab, node).get('n3')}")
        labs.wait_until(lambda: states(lab, node).get("n1") == states(lab, node).get("n2") == "alive", 60, f"{node} to see the other", interval=INTERVAL)
    for node in ("n1", "n2"):
        check(states(lab, node).get("n3", "").startswith("expelled"), f"{node} says of n3 later: {states(lab, node).get('n3')}")
    labs.wait_until(lambda: "alive" not in (states(lab, "n3").get(n) for n in ("n1", "n2")), 60, "n3 to see nobody", interval=INTERVAL)
    print("n3 was expelled", flush=True)


def main():
    with labs.Lab(f"joining-{os.getpid()}", 3) as lab:

        def steps():
            leave_and_join(lab)
            expel(lab)
        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
