"""One of several programs, not of one family, that share memory. Prints its pid, then a dot when it has mapped or opened what
they share, and at the end how often it has counted.

count: in a page of the file `page`, under a lock of the file `lock`, that many times or until the file `stop` is there.
late: the same, but begins only when the file `begin` is there. rows: adds rows to the SQLite database `base` (WAL mode)."""

import fcntl
import mmap
import os
import sqlite3
import sys
import time


def attach():
    with open("page", "r+b") as page:
        return mmap.mmap(page.fileno(), 4096)


def count(most, begin=None):
    memory = attach()
    print(".", flush=True)
    while begin and not os.path.exists(begin):
        time.sleep(0.005)
    done = 0
    with open("lock", "r+b") as lock:
        while done < most and not os.path.exists("stop"):
            fcntl.lockf(lock, fcntl.LOCK_EX)
            number = int.from_bytes(memory[:8], "little")
            memory[:8] = (number + 1).to_bytes(8, "little")
            fcntl.lockf(lock, fcntl.LOCK_UN)
            done += 1
            time.sleep(0.001)
    return done


def add_rows(most):
    base = sqlite3.connect("base", timeout=60, isolation_level=None)
    for done in range(most):
        base.execute("begin immediate")
        number = base.execute("select count(*) from t").fetchone()[0]
        base.execute("insert into t values (?)", (number,))
        base.execute("commit")
        if done == 0:
            print(".", flush=True)
        time.sleep(0.002)
    return most


def main():
    kind, most = sys.argv[1], int(sys.argv[2])
    print(os.getpid(), flush=True)
    done = add_rows(most) if kind == "rows" else count(most, "begin" if kind == "late" else None)
    print("counted", done, flush=True)


main()
