#!/usr/bin/python3
"""The demonstration, second part: 24 programs that compute, all started on one node of a lab of four, spread by themselves; then
a node is drained, then one is killed. The display is that of `tess top --once`, again and again.

Exit status 0 only if all of that was seen. Needs root. $TESS_BIN_DIR names the folder with tess, tessd and tess-agent.
"""

import collections
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import lab as labs  # noqa: E402

NODES = ("n1", "n2", "n3", "n4")
JOBS = 24
DEADLINE = 60
# Each node has this much of a CPU, so that four nodes are more than one of them even where the machine is small.
CPUS = "0.35"
SPIN = "x = 1\nwhile True:\n    x = x * 3 % 1000003\n"


class Display:
    """The picture of `tess top --once` in place on a terminal; a line for each event, and a picture for each, otherwise."""

    def __init__(self, lab):
        self.lab, self.live, self.began, self.note = lab, sys.stdout.isatty(), time.monotonic(), ""

    def event(self, text, picture=True):
        self.note = text
        if not self.live:
            print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)
            if picture:
                print("\n".join(f"          {line}" for line in self.picture(80)[:6]), flush=True)

    def picture(self, width):
        return self.lab.run("n1", [self.lab.tess, "top", "--once", "--sort", "where", "--width", str(width)], deadline=DEADLINE).stdout.splitlines()

    def draw(self):
        if not self.live:
            return
        width, height = os.get_terminal_size()
        lines = self.picture(max(40, min(width, 200)))[:height - 2]
        head = f"\033[1m{time.monotonic() - self.began:6.1f} s  {self.note}\033[0m"
        print("\033[H\033[2J" + "\n".join([head, *lines]), end="", flush=True)


class Crowd:
    """The programs, by their pids at home."""

    def __init__(self, lab):
        self.lab = lab
        self.processes = [lab.popen("n1", [lab.tess, "run", "/usr/bin/python3", "-c", SPIN], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(JOBS)]

    def table(self):
        listed = json.loads(self.lab.run("n1", [self.lab.tess, "ps", "--json"], deadline=DEADLINE).stdout)["processes"]
        return {p["pid"]: p for p in listed if p["command"].startswith("/usr/bin/python3 -c x")}

    def places(self):
        return collections.Counter(p["node"] for p in self.table().values())

    def end(self):
        pids = list(self.table())
        if pids:
            self.lab.run("n1", ["/bin/kill", "-KILL", *map(str, pids)], check=False)
        for process in self.processes:
            process.wait(timeout=DEADLINE)


def told(counts):
    return ", ".join(f"{node}: {counts[node]}" for node in NODES)


def wait_until(display, predicate, what):
    """The same as for tests, with the picture drawn meanwhile."""
    def look():
        display.draw()
        return predicate()

    began = time.monotonic()
    labs.wait_until(look, DEADLINE, what, interval=0.3)
    return time.monotonic() - began


def nodes(lab, node):
    return {n["name"]: n for n in json.loads(lab.run(node, ["tess" if node != "n1" else lab.tess, "nodes", "--json"]).stdout)["nodes"]}


def spread(lab, display):
    display.event(f"{JOBS} programs are started on n1", picture=False)
    began = time.monotonic()
    crowd = Crowd(lab)
    wait_until(display, lambda: len(crowd.table()) == JOBS, f"{JOBS} programs to run")

    def even():
        counts = crowd.places()
        return all(JOBS // 4 - 2 <= counts[node] <= JOBS // 4 + 2 for node in NODES)

    wait_until(display, even, "them to spread over the four nodes")
    seconds = time.monotonic() - began
    display.event(f"nobody moved them; after {seconds:.0f} s: {told(crowd.places())}")
    return crowd, seconds


def drain(lab, display, crowd):
    lab.run("n1", [lab.tess, "node", "drain", "n3"])
    display.event("n3 is drained", picture=False)
    seconds = wait_until(display, lambda: crowd.places()["n3"] == 0, "n3 to be empty")
    if len(crowd.table()) != JOBS:
        raise labs.LabError("a program was lost by the drain")
    display.event(f"n3 is empty after {seconds:.0f} s, all {JOBS} go on: {told(crowd.places())}")
    return seconds


def kill(lab, display, crowd):
    """Whatever is not on the node that dies goes on."""
    before = crowd.table()
    safe = {pid for pid, process in before.items() if process["node"] != "n4" and process["state"] != "moving"}
    lab._tess(["lab", "kill", "--name", lab.name, "n4"], DEADLINE)
    display.event("n4 is killed: its power is cut", picture=False)
    seconds = wait_until(display, lambda: all(nodes(lab, node)["n4"]["state"] == "dead" for node in NODES[:3]), "all to know that n4 is dead")
    wait_until(display, lambda: crowd.places()["n4"] == 0, "nothing to be thought on n4")
    after = crowd.table()
    if not safe <= set(after):
        raise labs.LabError(f"{len(safe - set(after))} programs that were not on n4 ended with it")
    display.event(f"all know after {seconds:.0f} s; {len(before) - len(after)} programs went with n4, {len(after)} go on: {told(crowd.places())}")
    return seconds, len(after)


def main():
    if os.geteuid() != 0:
        print("The demonstration makes virtual nodes and needs root: run it with sudo.", file=sys.stderr)
        return 2
    failure, words = None, []
    print(f"\nSecond part: {JOBS} programs on one of four nodes, and nobody says where they should go.", flush=True)
    try:
        with labs.Lab(f"crowd-{os.getpid()}", 4, ["--cpus", CPUS], balance=True) as lab:
            try:
                display = Display(lab)
                crowd, seconds = spread(lab, display)
                words.append(f"{JOBS} programs spread in {seconds:.0f} s")
                words.append(f"n3 drained in {drain(lab, display, crowd):.0f} s")
                seconds, left = kill(lab, display, crowd)
                words.append(f"the death of n4 known everywhere in {seconds:.0f} s, {left} programs go on")
                display.draw()
                crowd.end()
            except (labs.LabError, subprocess.TimeoutExpired) as error:
                log = Path(f"/tmp/tessera-crowd-{os.getpid()}.log")
                log.write_text(f"{error}\n{lab.evidence()}\n")
                failure = f"{error} (evidence: {log})"
    except labs.LabError as error:
        failure = str(error)
    if failure:
        print(f"\n  FAILED: {failure}")
        return 1
    print(f"\n  By themselves: {'; '.join(words)}.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
