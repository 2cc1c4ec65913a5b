#!/usr/bin/env python3
"""What a process has used on other nodes: home's tessd logs it, and a parent of its job that is at home finds it in what
wait4 says. See README.md."""

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import lab as labs  # noqa: E402

WAITING = Path(__file__).resolve().parent / "programs" / "waiting.py"
PROGRAM = """
import time
while time.process_time() < 0.7:
    pass
print(time.process_time())
"""
DEADLINE = 60


class Failure(Exception):
    pass


def told(lab):
    found = re.search(r"has used ([0-9.]+) s of CPU time on other nodes", lab.log("n1").read_text(errors="replace"))
    return float(found[1]) if found else None


def steps(lab):
    done = lab.run("n1", ["tess", "run", "--on", "n2", "/usr/bin/python3", "-c", PROGRAM], DEADLINE)
    own = float(done.stdout)
    used = labs.wait_until(lambda: told(lab), DEADLINE, "the CPU time in the log")
    # Its end costs something, its start before the first move was at home.
    if not own - 0.2 <= used <= own + 1:
        raise Failure(f"the log says {used} s, the program itself {own}")


def parents(lab):
    done = lab.run("n1", ["tess", "run", "--home", "/usr/bin/python3", str(WAITING), "n2"], DEADLINE)
    said = dict(line.split() for line in done.stdout.splitlines())
    # Each child uses 0.7 s, and its end costs something.
    if len(said) != 5 or not all(0.69 <= float(used) <= 2 for used in said.values()):
        raise Failure(f"the parent was told {done.stdout!r} {done.stderr!r}")


def main():
    with labs.Lab(f"cputime-{os.getpid()}", 2) as lab:
        return labs.judge(lab, lambda: (steps(lab), parents(lab)), Failure)


if __name__ == "__main__":
    sys.exit(main())
