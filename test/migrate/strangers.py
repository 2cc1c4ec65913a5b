#!/usr/bin/env python3
"""Programs of different jobs, and of none, that write to one file through shared mappings: wherever they begin, nothing that one
of them writes is lost. See README.md."""

import os
import sqlite3
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]
import lab as labs  # noqa: E402
from workers import Worker, jobs, migrate  # noqa: E402

PROGRAM = HERE / "programs" / "strangers.py"
DEADLINE = 60
MANY = 1_000_000
COUNTS, ROWS = 300, 100


class Failure(Exception):
    pass


class Programs:
    """Those of one round, in a new folder with what they share."""

    def __init__(self, lab):
        self.lab = lab
        self.own = tempfile.TemporaryDirectory(prefix="tessera-strangers.")
        self.folder = Path(self.own.name)
        (self.folder / "page").write_bytes(bytes(4096))
        (self.folder / "lock").touch()
        with sqlite3.connect(self.folder / "base", isolation_level=None) as base:
            base.execute("pragma journal_mode=wal")
            base.execute("create table t (n integer)")
        base.close()
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.started:
            worker.close()
        self.own.cleanup()

    def start(self, kind, most, where=(), shares=True):
        """`where`: the command that starts it. `shares`: not before it has mapped what it shares."""
        part = self.folder / str(len(self.started))
        part.mkdir()
        program = ["sh", "-c", f'cd "{self.folder}" && exec "$@"', "sh", *where, "/usr/bin/python3", PROGRAM, kind, most]
        worker = Worker(self.lab, list(map(str, program)), True, part)
        self.started.append(worker)
        if shares:
            worker.wait_output(b".\n", DEADLINE)
        return worker

    def job(self, node, kind, most, shares=True):
        return self.start(kind, most, ("tess", "run", "--on", node), shares)

    def counted(self):
        """What all say that they have done, once they have ended."""
        total = 0
        for worker in self.started:
            status = worker.process.wait(DEADLINE)
            words = worker.output().split()
            if status != 0 or words[-2:-1] != [b"counted"]:
                raise Failure(f"a program ended with {status}: {worker.output()!r} {worker.errors()}")
            total += int(words[-1])
        return total

    def judge(self, what):
        wanted, found = self.counted(), int.from_bytes((self.folder / "page").read_bytes()[:8], "little")
        if found != wanted:
            raise Failure(f"{what}: {found} of {wanted} counts are there")

    def judge_rows(self, what):
        wanted = self.counted()
        with sqlite3.connect(self.folder / "base") as base:
            rows = base.execute("select count(*), count(distinct n) from t").fetchone()
            sound = base.execute("pragma integrity_check").fetchone()
        base.close()
        if rows != (wanted, wanted) or sound != ("ok",):
            raise Failure(f"{what}: {rows} rows of {wanted}, {sound}")


def place_of(lab, worker):
    return jobs(lab).get(worker.pid, {}).get("node", "n1")


def refused(lab, worker, other):
    """Who shares with a stranger stays at home, and the reason is told."""
    moved = migrate(lab, worker.pid, "n2")
    reason = f"with process {other.pid} "
    if moved.returncode == 0 or reason not in moved.stdout:
        raise Failure(f"it moved beside a stranger, or for no reason: {moved.stdout.strip()!r}")
    why = lab.run("n1", ["tess", "why", str(worker.pid)], check=False)
    if reason not in why.stdout + why.stderr:
        raise Failure(f"tess why tells nothing of the stranger: {why.stdout.strip()!r}")


def jobs_at_once(lab):
    with Programs(lab) as programs:
        for node in ("n2", "n3"):
            programs.job(node, "count", COUNTS, shares=False)
        programs.judge("two jobs at once")


def jobs_in_turn(lab, first, second):
    with Programs(lab) as programs:
        one = programs.job(first, "count", MANY)
        two = programs.job(second, "late", COUNTS)
        for worker in (one, two):  # told a moment after it is so
            labs.wait_until(lambda w=worker: place_of(lab, w) == "n1", DEADLINE, "two jobs that share to be at home")
        refused(lab, one, two)
        (programs.folder / "begin").touch()
        two.process.wait(DEADLINE)
        (programs.folder / "stop").touch()
        programs.judge(f"a job on {second} after one on {first}")


def native_comes(lab):
    with Programs(lab) as programs:
        one = programs.job("n2", "count", MANY)
        native = programs.start("late", COUNTS)
        labs.wait_until(lambda: place_of(lab, one) == "n1", DEADLINE, "the job to come home to the program that shares with it")
        refused(lab, one, native)
        (programs.folder / "begin").touch()
        native.process.wait(DEADLINE)
        (programs.folder / "stop").touch()
        programs.judge("a native program after a job")


def databases(lab):
    with Programs(lab) as programs:
        for node in ("n2", "n3"):
            programs.job(node, "rows", ROWS, shares=False)
        programs.judge_rows("two jobs with one database at once")
    with Programs(lab) as programs:
        programs.job("n3", "rows", 3 * ROWS)
        programs.job("n2", "rows", ROWS)
        programs.judge_rows("two jobs with one database in turn")


def steps(lab):
    jobs_at_once(lab)
    jobs_in_turn(lab, "n2", "n3")
    jobs_in_turn(lab, "n3", "n2")
    databases(lab)
    native_comes(lab)


def main():
    with labs.Lab(f"strangers-{os.getpid()}", 3) as lab:
        return labs.judge(lab, lambda: steps(lab), Failure)


if __name__ == "__main__":
    sys.exit(main())
