#!/usr/bin/env python3
"""A process at home maps, reads or writes what another of its job is just writing to on another node: nothing that either writes
is lost, or seen late, in whichever way the one comes to it. See README.md."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]
import lab as labs  # noqa: E402
from workers import must_migrate  # noqa: E402

DEADLINE = 60
COUNTING = ("file", "protect", "segment", "program", "thread", "late read", "late recv", "late epoll", "late signal")
WAYS = ("reads", "writes", *COUNTING, "follows")
ROUNDS = 2
COUNTS = 100


class Failure(Exception):
    pass


def family(lab, folder):
    (folder / "page").write_bytes(bytes(4096))
    (folder / "lock").touch()
    program = lab.popen("n1", ["tess", "run", "--home", "/usr/bin/python3", str(HERE / "programs" / "kin.py")], cwd=folder,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    child = int(program.stdout.readline().split()[1])
    for way in WAYS * ROUNDS:
        late = way.startswith("late")
        if late:
            program.stdin.write(way + "\n")
            program.stdout.readline()
        must_migrate(lab, child, "n2")
        program.stdin.write("go\n" if late else way + "\n")
        said = program.stdout.readline().strip()
        if said != f"{way} 0":
            raise Failure(f"who maps it by {way!r} said {said!r}")
    must_migrate(lab, child, "n2")  # its last counts are written elsewhere
    (folder / "stop").touch()
    said, _ = program.communicate(timeout=DEADLINE)
    if program.returncode != 0 or not said.startswith("segment has "):
        raise Failure(f"the family ended with {program.returncode}: {said!r}")
    by_child, segment = int((folder / "counted").read_text()), int(said.split()[-1])
    page = int.from_bytes((folder / "page").read_bytes()[:8], "little")
    to_segment = ROUNDS * COUNTING.count("segment") * COUNTS
    wanted = by_child + ROUNDS * len(COUNTING) * COUNTS - to_segment, by_child + to_segment
    if (page, segment) != wanted:
        raise Failure(f"counted {wanted[0]} and {wanted[1]}, there are {page} and {segment}")


def steps(lab):
    with tempfile.TemporaryDirectory(prefix="tessera-kin.") as folder:
        family(lab, Path(folder))


def main():
    with labs.Lab(f"kin-{os.getpid()}", 2) as lab:
        return labs.judge(lab, lambda: steps(lab), Failure)


if __name__ == "__main__":
    sys.exit(main())
