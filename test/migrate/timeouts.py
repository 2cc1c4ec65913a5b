#!/usr/bin/env python3
"""A wait with a relative timeout ends at its own time however often it is moved meanwhile: out, between hosts, home, and by
`tess migrate PID home` at home. See README.md."""

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import build_programs  # noqa: E402
import lab as labs  # noqa: E402

ROUTES = {"hops": ("n2", "n3"), "returns": ("n2", "home"), "home": ("home",)}
# Its time begins again at home (docs/known-limits.md).
LENGTHENED_AT_HOME = {"socket_recv", "socket_read", "socket_accept"}
# Stays at home between two moves are not always counted (docs/known-limits.md).
LATER = {("returns", name): 3000 for name in ("epoll", "sigtimedwait", "semtimedop")}
EARLIEST, LATEST = 1900, 3800  # ms, of 2000: moves take their time
MOVING = 1000  # ms that they take in all where nothing else runs
DEADLINE = 20


class Failure(Exception):
    pass


# In n1: starts the wait, and moves it until it ends. Prints how many moves there were, the milliseconds that they took, and what
# the wait said.
MOVER = """
import itertools, subprocess, sys, time
program, name, *route = sys.argv[1:]
wait = subprocess.Popen([program, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
end = time.monotonic() + DEADLINE
moves = moving = 0
for target in itertools.cycle(route):
    time.sleep(0.1)
    if wait.poll() is not None or time.monotonic() > end:
        break
    begun = time.monotonic()
    moved = subprocess.run(["tess", "migrate", str(wait.pid), target], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    moves += moved.returncode == 0
    moving += time.monotonic() - begun
if wait.poll() is None:
    wait.kill()
print(moves, round(1000 * moving), wait.communicate()[0].strip() or "no-end")
"""


def one(lab, program, name, kind):
    command = ["/usr/bin/python3", "-c", f"DEADLINE = {DEADLINE}\n{MOVER}", program, name, *ROUTES[kind]]
    moves, moving, said = lab.run("n1", command, deadline=3 * DEADLINE).stdout.split(maxsplit=2)
    print(f"{kind} {name}: {said.strip()} ms, {moves} moves in {moving} ms", flush=True)
    if int(moves) < 1:
        raise Failure(f"{kind} {name}: it was not moved")
    latest = LATEST + LATER.get((kind, name), 0) + max(0, int(moving) - MOVING)  # on a busy machine they take longer
    if not said.strip().isdigit() or not EARLIEST <= int(said) <= latest:
        raise Failure(f"{kind} {name}: a wait of 2000 ms took {said.strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", default="build/test-programs", help="where test programs are built")
    parser.add_argument("--wait", action="append", help="these only")
    arguments = parser.parse_args()
    build_programs.build(["relwaits"], arguments.programs)
    program = Path(arguments.programs).resolve() / "relwaits"
    names = arguments.wait or subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    with labs.Lab(f"timeouts-{os.getpid()}", 3) as lab:

        def steps():
            for kind, name in itertools.product(ROUTES, names):
                if kind != "returns" or name not in LENGTHENED_AT_HOME:
                    one(lab, program, name, kind)

        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
