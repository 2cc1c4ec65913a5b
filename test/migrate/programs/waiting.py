"""A parent at home learns how much CPU time a child has used that was away, however it waits for it. Moves each child to
the node that is named."""

import os
import select
import signal
import subprocess
import sys

CHILD = """
import time
input()
while time.process_time() < 0.7:
    pass
print(flush=True)
input()
"""


def move(child, where):
    subprocess.run(["tess", "migrate", str(child.pid), where], check=True, stdout=subprocess.DEVNULL)


def child_that_was_away(comes_home=False):
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    move(child, sys.argv[1])
    child.stdin.write(b"\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"\n"
    if comes_home:
        move(child, "home")
    child.stdin.write(b"\n")
    child.stdin.close()
    return child.pid


def reap(pid, options=0):
    got, status, usage = os.wait4(pid, options)
    assert status == 0, status
    return usage.ru_utime + usage.ru_stime if got else None


def by_polling(pid):
    while (used := reap(pid, os.WNOHANG)) is None:
        select.select([], [], [], 0.01)
    return used


def by_handler(pid):
    seen = []
    signal.signal(signal.SIGCHLD, lambda *_: seen.append(reap(pid)))
    while not seen:
        signal.pause()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return seen[0]


def by_pidfd(pid):
    pidfd = os.pidfd_open(pid)
    select.select([pidfd], [], [])
    os.close(pidfd)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return reap(-1)


for way in (reap, by_polling, by_handler, by_pidfd):
    print(f"{way.__name__} {way(child_that_was_away()):.2f}", flush=True)
print(f"returned {reap(child_that_was_away(comes_home=True)):.2f}", flush=True)
