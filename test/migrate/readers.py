#!/usr/bin/env python3
"""A file that processes have mapped shared only for reading shows what others write to it, by write() or through a mapping
of their own: programs outside of the job, and processes of it. Readers may be on several nodes, and stay where they are. See
README.md."""

import mmap
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import lab as labs  # noqa: E402
from workers import Worker, jobs, must_migrate  # noqa: E402

# Two pages of the file are looked at, by way of the mapping that was there from the start; then again by a new one.
PROGRAM = """
import mmap, os, time

def map_file():
    with open("data", "rb") as file:
        return mmap.mmap(file.fileno(), SIZE, mmap.MAP_SHARED, mmap.PROT_READ)

def words(mapping):
    return mapping[0:4] + mapping[FAR:FAR + 4]

print(os.getpid(), flush=True)
held = map_file()
child = os.fork()
who = "parent" if child else f"child {os.getpid()}"
last = None
while not os.path.exists("stop"):
    seen = words(held)
    if seen != last:
        fresh = words(map_file())
        print(who, seen.decode(), fresh.decode(), flush=True)
        last = seen
    if who == "parent" and os.path.exists("write"):
        with open("data", "r+b") as file:
            for offset in (FAR, 0):
                file.seek(offset)
                file.write(b"kin.")
                file.flush()
        os.unlink("write")
    time.sleep(0.01)
if child:
    os.waitpid(child, 0)
"""
SIZE, FAR = 65536, 40000
DEADLINE = 60


class Failure(Exception):
    pass


def by_write(folder, word):
    with open(folder / "data", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), word, FAR)
        os.pwrite(file.fileno(), word, 0)


def by_mapping(folder, word):
    with open(folder / "data", "r+b") as file, mmap.mmap(file.fileno(), SIZE) as mapping:
        mapping[FAR:FAR + 4] = word
        mapping[0:4] = word


def by_kin(folder, _word):
    (folder / "write").touch()


def all_see(worker, word):
    line = f"{word}{word} {word}{word}\n"
    for who in ("parent", f"child {worker.child}"):
        worker.wait_output(f"{who} {line}".encode(), DEADLINE)


def stay(lab, worker, places):
    found = {pid: entry["node"] for pid, entry in jobs(lab).items() if pid in (worker.pid, worker.child)}
    if found != dict(zip((worker.pid, worker.child), places)):
        raise Failure(f"readers are on {found}, not on {places}")


def steps(lab, folder):
    by_hand = Path(folder)
    (by_hand / "data").write_bytes(b"zero".ljust(FAR, b"-") + b"zero".ljust(SIZE - FAR, b"-"))
    program = f"SIZE, FAR = {SIZE}, {FAR}\n{PROGRAM}"
    with Worker(lab, ["tess", "run", "--on", "n2", "/usr/bin/python3", "-c", program], True, folder) as worker:
        worker.wait_output(b"child ", DEADLINE)
        worker.child = int(worker.output().split(b"child ")[1].split()[0])
        all_see(worker, "zero")
        for number, places in enumerate((("n2", "n3"), ("n1", "n3"), ("n3", "n2"))):
            must_migrate(lab, worker.pid, places[0])
            must_migrate(lab, worker.child, places[1])
            for name, change in (("wri", by_write), ("map", by_mapping)):
                change(by_hand, f"{name}{number}".encode())
                all_see(worker, f"{name}{number}")
            stay(lab, worker, places)
        by_kin(by_hand, b"kin.")
        all_see(worker, "kin.")
        if worker.stop(DEADLINE) != 0:
            raise Failure(f"the program ended with {worker.process.returncode}: {worker.errors()}")


def main():
    with tempfile.TemporaryDirectory(prefix="tessera-readers.") as folder, labs.Lab(f"readers-{os.getpid()}", 3) as lab:
        return labs.judge(lab, lambda: steps(lab, folder), Failure)


if __name__ == "__main__":
    sys.exit(main())
