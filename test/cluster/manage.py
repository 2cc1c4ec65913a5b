#!/usr/bin/env python3
"""Computations that a user started without Tessera spread by a rule of `tess manage`, stay and come home as it says, and end with
the right result; see README.md."""

import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from spread import Failure, check, labs, nodes, tess

DEADLINE = 60
COUNT = 6
NOBODY, SOMEBODY = 65534, 65533
FACTOR, SUMMAND, MODULUS = 6364136223846793005, 1442695040888963407, 2 ** 61 - 1
WORK = f"""
import os, sys
me, stop = sys.argv[1:]
with open(me + ".pid", "w") as file:
    file.write(str(os.getpid()))
x, steps = 1, 0
while not os.path.exists(stop):
    for _ in range(100000):
        x = (x * {FACTOR} + {SUMMAND}) % {MODULUS}
    steps += 100000
with open(me + ".part", "w") as file:
    file.write(f"{{steps}} {{x}}")
os.rename(me + ".part", me + ".result")
"""
# A shell that computes, and leads a session.
SHELL = 'echo $$ > "$1.pid"; while [ ! -e "$2" ]; do i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); done; done; echo $i > "$1.result"'


def after(steps):
    """What `steps` steps make of 1, without making them."""
    a, b, factor, summand = 1, 0, FACTOR, SUMMAND
    while steps:
        if steps & 1:
            a, b = a * factor % MODULUS, (b * factor + summand) % MODULUS
        factor, summand = factor * factor % MODULUS, (summand * factor + summand) % MODULUS
        steps >>= 1
    return (a + b) % MODULUS


class Work:
    """Programs in n1, started by no word of Tessera's; they compute until told to stop."""

    def __init__(self, lab, folder):
        self.lab, self.folder = lab, Path(folder)
        os.chmod(folder, 0o777)
        (self.folder / "work.py").write_text(WORK)
        self.processes = {}
        self.mine = self.start(NOBODY, COUNT)
        self.other = self.start(SOMEBODY, 1)[0]
        self.leader = self.begin(NOBODY, "leader", ["setsid", "sh", "-c", SHELL, "sh"])

    def start(self, uid, count):
        return [self.begin(uid, f"work-{uid}-{i}", ["/usr/bin/python3", self.folder / "work.py"]) for i in range(count)]

    def begin(self, uid, name, argv):
        me = self.folder / name
        self.processes[name] = self.lab.popen(
            "n1", ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *argv, me, f"{me}.stop"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        text = labs.wait_until(lambda: (self.folder / f"{name}.pid").exists() and (self.folder / f"{name}.pid").read_text().strip(),
                               DEADLINE, f"{name} to run", interval=0.05)
        return int(text)

    def end(self, names):
        """Tells them to stop; how many steps they have made."""
        for name in names:
            (self.folder / f"{name}.stop").touch()
        steps = 0
        for name in names:
            _, errors = self.processes[name].communicate(timeout=DEADLINE)
            check(self.processes[name].returncode == 0, f"{name} ended with {self.processes[name].returncode}: {errors}")
            made, x = map(int, (self.folder / f"{name}.result").read_text().split())
            check(x == after(made), f"{name}: {x} after {made} steps, not {after(made)}")
            steps += made
        return steps

    def end_others(self):
        self.end([f"work-{SOMEBODY}-0"])
        (self.folder / "leader.stop").touch()
        self.processes["leader"].communicate(timeout=DEADLINE)
        check((self.folder / "leader.result").read_text().strip() == "2000", "the shell's result")


def away(lab, pids):
    """How many of the processes run on which other node."""
    table = json.loads(tess(lab, "ps", "--json"))["processes"]
    return collections.Counter(p["node"] for p in table if p["pid"] in pids and p["node"] != "n1" and p["state"] == "deputy")


def spread(lab, work):
    return labs.wait_until(lambda: sum((places := away(lab, work.mine)).values()) >= COUNT - 2 and len(places) == 2 and places,
                           DEADLINE, "computations of nobody to spread over two other nodes", interval=0.3)


def all_listed(lab, work, node, state):
    """Whether everybody's list has them, those at home too, with what they use, and some in that state."""
    table = {p["pid"]: p for p in json.loads(tess(lab, "ps", "-a", "--json", node=node))["processes"] if p["home"] == "n1"}
    mine = [table.get(pid, {}) for pid in work.mine]
    return all(p and p["memory_bytes"] > 0 and p["threads"] == 1 for p in mine) and any(p["state"] == state for p in mine)


def wait_listed(lab, work, state):
    for node in ("n1", "n2"):
        labs.wait_until(lambda: all_listed(lab, work, node, state), DEADLINE, f"{node} to list all, some of them {state}", interval=0.3)


def why(lab, pid):
    done = lab.run("n1", [lab.tess, "why", str(pid), "--json"], check=False)
    return " ".join(json.loads(done.stdout)["why_here"])


def listing(lab):
    return {p["pid"]: p for p in json.loads(tess(lab, "manage", "list", "--json"))["processes"]}


def test_left_alone(lab, work):
    check(not away(lab, [work.other, work.leader]), "one that no rule covers, or that leads a session, was moved")
    check("no rule" in why(lab, work.other), why(lab, work.other))
    check("leads a session" in why(lab, work.leader), why(lab, work.leader))
    # Only those that have wanted much of a CPU lately are listed.
    listed = labs.wait_until(lambda: work.leader in (now := listing(lab)) and now, DEADLINE, "the shell to be listed", interval=0.3)
    check("leads a session" in listed[work.leader]["excluded"] and work.other not in listed, f"tess manage list says {listed}")
    labs.wait_until(lambda: any(explained(lab, pid) for pid in work.mine if away(lab, [pid])), DEADLINE,
                    "tess why to explain one that is away", interval=0.3)


def explained(lab, pid):
    done = lab.run("n1", [lab.tess, "why", str(pid), "--json"], check=False)  # fails for one that just moves on
    told = json.loads(done.stdout) if done.returncode == 0 else {}
    return told and told["last_moves"] and any("tess manage user nobody" in line for line in told["why_here"])


def crash(lab, work):
    """tessd of their home dies; what is away stays there, and is known to be managed afterwards."""
    before = json.loads(tess(lab, "ps", "--json"))["processes"]
    lab.run("n1", ["sh", "-c", "kill -KILL $(cat /run/tessera/tessd.pid)"])
    lab.start("n1")
    # An agent comes back to the new tessd by itself.
    labs.wait_until(lambda: sum(away(lab, work.mine).values()) >= COUNT - 2, DEADLINE, f"those away to be known again: {before}", interval=0.3)
    rules = json.loads(tess(lab, "manage", "list", "--json"))["rules"]
    check([(r["kind"], r["pattern"]) for r in rules] == [("user", "nobody")], f"rules after a restart: {rules}")


def test_words(lab):
    done = lab.run("n1", [lab.tess, "manage", "user", "no such user"], check=False)
    check(done.returncode == 2 and "no user" in done.stderr, f"{done}")
    done = lab.run("n1", [lab.tess, "manage", "command", "never", "--remove"], check=False)
    check(done.returncode == 6 and "no such rule" in done.stderr, f"{done}")


def main():
    started = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - started:5.1f} s  {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="tess-manage-") as folder, \
            labs.Lab(f"manage-{os.getpid()}", 3, ["--cpus", "0.3"], balance=True) as lab:

        def steps():
            labs.wait_until(lambda: len([e for e in nodes(lab).values() if e["state"] == "alive" and e.get("speed")]) == 3, DEADLINE,
                            "n1 to know everybody's load", interval=0.1)
            test_words(lab)
            tess(lab, "manage", "user", "nobody")
            tess(lab, "set", "balance", "off")  # nobody leaves before it was seen at home
            say("the rule is made")
            work = Work(lab, folder)
            say("they run")
            wait_listed(lab, work, "native")
            tess(lab, "set", "balance", "default")
            say(f"spread: {dict(spread(lab, work))}")
            wait_listed(lab, work, "deputy")
            test_left_alone(lab, work)
            work.end_others()
            say("the others stay")
            crash(lab, work)
            say(f"after a crash of tessd: {dict(away(lab, work.mine))}")
            tess(lab, "manage", "user", "nobody", "--remove")
            labs.wait_until(lambda: not away(lab, work.mine), DEADLINE, "all to come home when the rule is gone", interval=0.2)
            say("home again without the rule")
            say(f"results are right: {work.end([f'work-{NOBODY}-{i}' for i in range(COUNT)])} steps")
        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
