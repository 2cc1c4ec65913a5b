#!/usr/bin/env python3
"""What nodes know of their links, on a lab of three whose links have a tenth of a gigabit; see README.md."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from spread import DEADLINE, Failure, check, labs, nodes, tess

RATE = 100e6 / 8  # bytes per second of each node's link
SIZE = 64 << 20
# Nothing of it can be compressed, and it says when all of it is there.
HOLD = f"import os, time; held = os.urandom({SIZE}); print('ready', flush=True)\nwhile True:\n    time.sleep(0.1)\n"


def start(lab):
    """A process of n1 that holds memory: what ran it, and its pid there."""
    job = lab.popen("n1", [lab.tess, "run", "/usr/bin/python3", "-c", HOLD], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    check(job.stdout.readline().strip() == "ready", "the program did not begin")
    return job, labs.wait_until(lambda: holder(lab), DEADLINE, "tess ps to list the program", interval=0.2)


def holder(lab):
    table = json.loads(tess(lab, "ps", "--json"))["processes"]
    return next((p["pid"] for p in table if p["command"].startswith("/usr/bin/python3 -c import")), None)


def near(rate):
    """No faster than the link, but for what its buckets let pass at once; and not by far slower, however busy the machine is."""
    return RATE / 8 < rate < RATE * 1.25


def nominal(lab, node):
    try:
        said = Path(f"/proc/{lab.node_pid(node)}/root/sys/class/net/eth0/speed").read_text().strip()
    except OSError:
        return 0
    return int(said) if said.isdigit() else 0


def test_nominal(lab):
    # n1 has the machine's /sys, and does not take the interface there for its own.
    links = {"n1": 0, "n2": nominal(lab, "n2"), "n3": nominal(lab, "n3")}
    for node in ("n1", "n2"):
        known = labs.wait_until(lambda: (found := nodes(lab, node)) and all(e["state"] == "alive" and e.get("speed") for e in found.values())
                                and {name: e.get("link_mbit", 0) for name, e in found.items()} == links and found,
                                DEADLINE, f"{node} to know of the links {links} (Mbit/s)", interval=0.2)
        other = known["n2" if node == "n1" else "n1"]
        check(other["bandwidth_bytes_per_s"] > 4 * RATE, f"what is expected before anything has moved: {other}")
        check("measured_bytes_per_s" not in other, f"measured before anything has moved: {other}")


def test_measured(lab):
    job, pid = start(lab)
    try:
        # Out, a hop, the return: both ends of each know it, and nobody else.
        rates = []
        for source, target in (("n1", "n2"), ("n2", "n3"), ("n3", "n1")):
            tess(lab, "migrate", str(pid), "home" if target == "n1" else target, deadline=DEADLINE)
            rates += [told(lab, source, target), told(lab, target, source)]
            check(target != "n2" or "measured_bytes_per_s" not in nodes(lab, "n3")["n2"], "n3 knows of what it had no part in")
        check("M/s" in tess(lab, "nodes"), "tess nodes does not show it")
        return rates
    finally:
        job.kill()
        job.wait()


def told(lab, node, other):
    """What a node tells of a transfer between the two."""
    known = labs.wait_until(lambda: (found := nodes(lab, node)[other]).get("measured_bytes_per_s") and found, DEADLINE,
                            f"{node} to tell what the transfer has achieved", interval=0.2)
    measured, expected = known["measured_bytes_per_s"], known["bandwidth_bytes_per_s"]
    check(near(measured), f"{node}: {measured:.0f} bytes a second over a link of {RATE:.0f} to {other}")
    check(near(expected), f"{node}: {expected:.0f} bytes a second expected over a link of {RATE:.0f} to {other}")
    return measured


def main():
    started = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - started:5.1f} s  {text}", flush=True)

    with labs.Lab(f"links-{os.getpid()}", 3, ["--rate", "100mbit"]) as lab:
        def steps():
            test_nominal(lab)
            say("nominal speeds")
            rates = [f"{rate * 8 / 1e6:.0f}" for rate in test_measured(lab)]
            say(f"measured over {RATE * 8 / 1e6:.0f} Mbit/s: {', '.join(rates)}")
        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
