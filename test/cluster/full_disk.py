#!/usr/bin/env python3
"""The disk with the state of the node that holds the CA and a queue of batch jobs is full: everybody is told so, nothing is lost, and nothing is half done; see README.md."""

import json
import os
import sys
import time

from joining import states
from spread import Failure, check, labs, tess

DEADLINE = 60
STATE = "/var/lib/tessera"
FULL = ("No space left", "full")
SMALL = f"cp -a {STATE} /run/state && mount -t tmpfs -o size=3m tmpfs {STATE} && cp -a /run/state/. {STATE}"
FILL = f"cat /dev/zero > {STATE}/filler; [ -s {STATE}/filler ]"


def shell(lab, text):
    lab.run("n1", ["sh", "-c", text])


def refused(lab, *args, node="n1", deadline=60):
    """What tess says about a full disk."""
    done = lab.run(node, [lab.tess if node == "n1" else "tess", *args], deadline=deadline, check=False)
    words = done.stdout + done.stderr
    check(done.returncode not in (0, 2), f"tess {args} on a full disk: exit {done.returncode}: {words}")
    check(any(word in words for word in FULL), f"tess {args} on a full disk says: {words}")
    return words.strip()


def jobs(lab):
    return {j["job"]: j for j in json.loads(tess(lab, "batch", "list", "--all", "--json"))["jobs"]}


def submit(lab, *options):
    return json.loads(tess(lab, "batch", "submit", "--json", *options, "--output", "/dev/null", "--", "/bin/true"))["job"]


def restart(lab, between="true"):
    lab._tess(["lab", "stop", "--name", lab.name, "n1"], 60)
    shell(lab, between)
    lab.start("n1")


def fill_and_free(lab, say):
    token = tess(lab, "token").strip()
    held = submit(lab, "--hold")
    shell(lab, FILL)
    say(refused(lab, "batch", "submit", "--", "/bin/true"))
    say(refused(lab, "token"))
    say(refused(lab, "set", "residency", "7"))
    say(refused(lab, "manage", "user", "nobody"))
    say(refused(lab, "join", token, "--name", "n2", node="n2"))
    say(refused(lab, "batch", "release", str(held)))
    check(lab.run("n2", ["tess", "nodes"], check=False).returncode != 0, "n2 runs")
    # What was not done is not there, now and later, and the node goes on.
    check(set(jobs(lab)) == {held} and jobs(lab)[held]["state"] == "held", f"jobs: {jobs(lab)}")
    check(json.loads(tess(lab, "set", "--json"))["values"]["residency"] != 7, "a setting that is not on the disk is in force")
    check(not json.loads(tess(lab, "manage", "list", "--json"))["rules"], "a rule that is not on the disk is in force")
    shell(lab, f"rm {STATE}/filler")
    return token, held


def afterwards(lab, token, held):
    tess(lab, "batch", "release", str(held))
    more = submit(lab)
    labs.wait_until(lambda: all(jobs(lab)[j]["state"] == "done" for j in (held, more)), DEADLINE, "both jobs to be done", interval=0.2)
    restart(lab)
    check({j: one["state"] for j, one in jobs(lab).items()} == {held: "done", more: "done"}, f"jobs after a restart: {jobs(lab)}")
    # The invitation was not used up by the attempt.
    check("joined as node n2" in tess(lab, "join", token, "--name", "n2", node="n2"), "n2 does not join")
    lab.start("n2")
    labs.wait_until(lambda: states(lab) == {"n1": "alive", "n2": "alive"}, DEADLINE, "n2 to be back", interval=0.2)


def main():
    started = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - started:5.1f} s  {text}", flush=True)

    with labs.Lab(f"full-{os.getpid()}", 2) as lab:

        def steps():
            labs.wait_until(lambda: states(lab) == {"n1": "alive", "n2": "alive"}, DEADLINE, "both to be alive", interval=0.2)
            tess(lab, "leave", "--remove", node="n2")
            restart(lab, SMALL)
            token, held = fill_and_free(lab, say)
            say("the disk has room again")
            afterwards(lab, token, held)
            say("nothing was lost")
        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
