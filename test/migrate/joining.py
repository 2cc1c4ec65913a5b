#!/usr/bin/env python3
"""A process begins to share memory with another that is just moving away. See README.md."""

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
WANTED = "child reads parent\nparent reads child status 0\n"


class Failure(Exception):
    pass


def round_of(lab, folder, point):
    """The parent, on n3, maps what the child has mapped, which is held at that point of its way from home to n2."""
    for name in ("join", "joined", "write"):
        (folder / name).unlink(missing_ok=True)
    program = lab.popen("n1", ["tess", "run", "--home", "/usr/bin/python3", str(HERE / "programs" / "joining.py")], cwd=folder,
                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    parent, child = map(int, program.stdout.readline().split())
    must_migrate(lab, parent, "n3")
    armed = Path(f"/proc/{lab.node_pid('n1')}/root/run/tessera/fault")
    armed.write_text(point + ":delay")
    moving = lab.popen("n1", ["tess", "migrate", str(child), "n2"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    labs.wait_until(lambda: not armed.exists(), DEADLINE, f"the move to reach {point}")
    (folder / "join").touch()
    moved, _ = moving.communicate(timeout=DEADLINE)
    if moving.returncode != 0:
        raise Failure(f"{point}: the child did not move: {moved.strip()}")
    labs.wait_until((folder / "joined").exists, DEADLINE, "the parent to map the file")
    (folder / "write").touch()
    said, _ = program.communicate(timeout=DEADLINE)
    if said != WANTED:
        raise Failure(f"{point}: it said {said!r}; the move: {moved.strip()!r}")


def steps(lab):
    with tempfile.TemporaryDirectory(prefix="tessera-joining.") as folder:
        for point in ("out.before_freeze", "out.after_freeze", "out.after_transfer", "out.before_switch"):
            round_of(lab, Path(folder), point)


def main():
    with labs.Lab(f"joining-{os.getpid()}", 3) as lab:
        return labs.judge(lab, lambda: steps(lab), Failure)


if __name__ == "__main__":
    sys.exit(main())
