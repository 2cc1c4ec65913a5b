"""A parent that maps a file which its child has mapped and moved away with; what it writes is there for the child at once.
Prints its own pid and its child's, and at the end what either has read."""

import mmap
import os
import time


def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.005)


def attach():
    with open("page", "r+b") as page:
        return mmap.mmap(page.fileno(), 4096)


def child(told, tell):
    memory = attach()
    memory[:5] = b"child"
    os.write(tell, b"x")
    os.read(told, 1)
    os.write(1, b"child reads " + memory[:6].rstrip(b"\0") + b"\n")


def main():
    with open("page", "wb") as page:
        page.truncate(4096)
    told, tell_child = os.pipe()
    heard, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(told, tell)
        os._exit(0)
    os.read(heard, 1)
    print(os.getpid(), pid, flush=True)
    wait_for("join")
    memory = attach()
    before = memory[:5].decode()
    open("joined", "w").close()
    wait_for("write")
    memory[:6] = b"parent"
    os.write(tell_child, b"x")
    status = os.waitpid(pid, 0)[1]
    print("parent reads", before, "status", status)


main()
