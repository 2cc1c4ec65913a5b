#!/usr/bin/env python3
"""A cluster in the middle of an upgrade: n1 speaks protocol version 2, n2 the one before, n3 the one after. See README.md."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from leaving import Job
from spread import Failure, check, labs, tess

DEADLINE = 60
VERSIONS = {"n1": "2", "n2": "1", "n3": "3"}


def listing(lab, node):
    done = lab.run(node, [lab.tess if node == "n1" else "tess", "nodes", "--json"], check=False)
    return {e["name"]: e for e in json.loads(done.stdout)["nodes"]} if done.returncode == 0 else {}


def upgrade(lab, folder, node):
    """Its tessd is started again, and says that it speaks another version."""
    lab._tess(["lab", "stop", "--name", lab.name, node], 60)
    environment = dict(labs.clean_environment(lab.bin_dir), TESS_PROTOCOL_VERSION=VERSIONS[node])
    with open(Path(folder) / f"{node}.log", "wb") as log:
        tessd = str(lab.bin_dir / "tessd") if node == "n1" else "tessd"
        lab.popen(node, [tessd], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    labs.wait_until(lambda: listing(lab, node), DEADLINE, f"tessd of {node} to answer", interval=0.1)


def spoken(lab, node):
    return {name: e.get("protocol") for name, e in listing(lab, node).items() if e["up"] and name != node}


def main():
    started = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - started:5.1f} s  {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="tess-mixed-") as folder, labs.Lab(f"mixed-{os.getpid()}", 3) as lab:

        def steps():
            for node in VERSIONS:
                upgrade(lab, folder, node)
            for node, wanted in (("n1", {"n2": 1, "n3": 2}), ("n2", {"n1": 1}), ("n3", {"n1": 2})):
                labs.wait_until(lambda: spoken(lab, node) == wanted, DEADLINE, f"{node} to speak {wanted}", interval=0.1)
            say("neighbours speak the older one's version")
            # Datagrams know no such bounds: everybody is alive for everybody.
            for node in VERSIONS:
                labs.wait_until(lambda: all(e["state"] == "alive" and e.get("speed") for e in listing(lab, node).values()), DEADLINE,
                                f"{node} to hear all", interval=0.1)
            check("upgrade n2 first" in listing(lab, "n3")["n2"]["why"], listing(lab, "n3")["n2"]["why"])
            job = Job(lab, folder, "mixed", "n1", "n2")
            tess(lab, "migrate", str(job.pid), "n1")
            check(job.where() == "n1", f"it is on {job.where()}")
            tess(lab, "migrate", str(job.pid), "n3")
            check(job.where() == "n3", f"it is on {job.where()}")
            done = lab.run("n1", [lab.tess, "migrate", str(job.pid), "n2"], deadline=60, check=False)
            say(f"from n3 to n2, which do not understand each other: {(done.stdout + done.stderr).strip()}")
            where = job.where()
            check(where in ("n2", "n3", "n1"), f"it is on {where}")
            job.end()
            say("it ran on hosts of the version before and after, and its result is right")
        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
