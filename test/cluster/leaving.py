#!/usr/bin/env python3
"""A node that hosts guests and has jobs out leaves its cluster, gets another name, and is expelled; all of them end with the right result;
see README.md."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from joining import states
from manage import DEADLINE, WORK, after
from spread import Failure, check, labs, tess

EVERYBODY = {"n1": "alive", "n2": "alive", "n3": "alive"}


class Job:
    """A computation under `tess run` that has moved from its home to another node."""

    def __init__(self, lab, folder, name, home, place):
        self.lab, self.name, self.home, self.me = lab, name, home, Path(folder) / name
        program = Path(folder) / "work.py"
        program.write_text(WORK)
        # Only n1 has a Python of its own; elsewhere the machine's is run, which finds tessd by another way then.
        environment = dict(labs.clean_environment(lab.bin_dir), TESS_RUN_DIR=f"/proc/{lab.node_pid(home)}/root/run/tessera")
        self.process = lab.popen(home, [lab.tess, "run", "--on", place, "/usr/bin/python3", program, self.me, f"{self.me}.stop"],
                                 host_files=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
        text = labs.wait_until(self.begun, DEADLINE, f"{name} to run", interval=0.05)
        self.pid = int(text)
        labs.wait_until(lambda: self.where() == place, DEADLINE, f"{name} to be on {place}", interval=0.1)

    def begun(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} ended with {self.process.returncode}: {self.process.stderr.read()}")
        file = Path(f"{self.me}.pid")
        return file.exists() and file.read_text()

    def where(self):
        """The node that its home says; None if that does not know it."""
        table = json.loads(tess(self.lab, "ps", "--json", node=self.home))["processes"]
        return next((p["node"] for p in table if p["pid"] == self.pid and p["state"] != "moving"), None)

    def end(self):
        Path(f"{self.me}.stop").touch()
        _, errors = self.process.communicate(timeout=DEADLINE)
        check(self.process.returncode == 0, f"{self.name} ended with {self.process.returncode}: {errors}")
        steps, x = map(int, Path(f"{self.me}.result").read_text().split())
        check(steps > 0 and x == after(steps), f"{self.name}: {x} after {steps} steps, not {after(steps)}")


def all_alive(lab):
    for node in EVERYBODY:
        labs.wait_until(lambda: states(lab, node) == EVERYBODY, DEADLINE, f"{node} to see all three", interval=0.1)


def test_leave(lab, folder):
    guest, out = Job(lab, folder, "leave-guest", "n1", "n3"), Job(lab, folder, "leave-out", "n3", "n2")
    tess(lab, "leave", node="n3")
    labs.wait_until(lambda: guest.where() == "n1", DEADLINE, "the guest of n3 to be home", interval=0.1)
    labs.wait_until(lambda: states(lab).get("n3", "").startswith("left"), DEADLINE, "n1 to know that n3 has left", interval=0.1)
    labs.wait_until(lambda: not hosted(lab, "n2"), DEADLINE, "n2 to host nothing of n3", interval=0.1)
    guest.end()
    out.end()
    lab.start("n3")
    all_alive(lab)


def hosted(lab, node):
    return [p for p in json.loads(tess(lab, "ps", "--json", node=node))["processes"] if p["state"] == "guest"]


def test_rename(lab, folder):
    """n2 becomes pc2; a guest goes home, its own process comes back, and both may go away again."""
    guest, own = Job(lab, folder, "rename-guest", "n1", "n2"), Job(lab, folder, "rename-own", "n2", "n3")
    tess(lab, "node", "rename", "n2", "pc2")
    labs.wait_until(lambda: guest.where() == "n1", DEADLINE, "the guest of n2 to be home", interval=0.1)
    renamed = {"n1": "alive", "pc2": "alive", "n3": "alive"}
    for node in EVERYBODY:
        labs.wait_until(lambda: answers(lab, node) and states(lab, node) == renamed, DEADLINE, f"{node} to know pc2", interval=0.1)
    labs.wait_until(lambda: own.where() == "pc2", DEADLINE, "the process of pc2 to be home", interval=0.1)
    tess(lab, "migrate", str(own.pid), "n3", node="n2")
    # It was started with --on n2, which other nodes' root may not overrule: pc2 is that machine.
    table = json.loads(tess(lab, "ps", "-a", "--json", node="n3"))["processes"]
    job = next(p["job"] for p in table if p["pid"] == guest.pid and p["home"] == "n1")
    tess(lab, "migrate", "--job", job, "pc2", node="n3")
    check((own.where(), guest.where()) == ("n3", "pc2"), f"they are on {own.where()} and {guest.where()}")
    guest.end()
    own.end()


def answers(lab, node):
    return lab.run(node, ["tess" if node != "n1" else lab.tess, "nodes", "--json"], check=False).returncode == 0


def test_expel(lab, folder):
    guest, out = Job(lab, folder, "expel-guest", "n1", "n3"), Job(lab, folder, "expel-out", "n3", "pc2")
    tess(lab, "node", "expel", "n3")
    labs.wait_until(lambda: guest.where() == "n1", DEADLINE, "the guest of n3 to be home", interval=0.1)
    labs.wait_until(lambda: out.where() == "n3", DEADLINE, "the process of n3 to be sent home", interval=0.1)
    labs.wait_until(lambda: not hosted(lab, "n2"), DEADLINE, "n2 to host nothing of n3", interval=0.1)
    guest.end()
    out.end()


def main():
    started = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - started:5.1f} s  {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="tess-leaving-") as folder, labs.Lab(f"leaving-{os.getpid()}", 3) as lab:

        def steps():
            all_alive(lab)
            test_leave(lab, folder)
            say("n3 left with a guest there and a job of its own elsewhere; both ended well")
            test_rename(lab, folder)
            say("n2 became pc2 with a guest there and a job of its own elsewhere; both moved again and ended well")
            test_expel(lab, folder)
            say("n3 was expelled with a guest there and a job of its own elsewhere; both ended well")
        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
