"""A family that counts in shared memory, under a lock of the file `lock`. Prints its own pid and its child's; the child counts all the
time, until the file `stop` is there. For each line of input (a way to map) a process at home maps the memory so, counts a hundred times
and says so. At the end the child says how often it has counted."""

import ctypes
import fcntl
import mmap
import os
import select
import sys
import threading
import time

COUNTS = 100
SIZE = 4096
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.shmat.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]


def checked(address):
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "no shared memory")
    return address


def of_file(prot=mmap.PROT_READ | mmap.PROT_WRITE):
    fd = os.open("page", os.O_RDWR)
    address = checked(libc.mmap(None, SIZE, prot, mmap.MAP_SHARED, fd, 0))
    os.close(fd)
    return address


def made_writable():
    address = of_file(mmap.PROT_READ)
    if libc.mprotect(address, SIZE, mmap.PROT_READ | mmap.PROT_WRITE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    return address


def of_system_v():
    return checked(libc.shmat(int(open("segment").read()), None, 0))


def count(address, goes_on):
    counter = ctypes.c_uint64.from_address(address)
    done = 0
    with open("lock", "r+b") as lock:
        while goes_on(done):
            fcntl.lockf(lock, fcntl.LOCK_EX)
            counter.value += 1
            fcntl.lockf(lock, fcntl.LOCK_UN)
            done += 1
    return done


def count_some(address):
    return count(address, lambda done: done < COUNTS)


def in_child(attach):
    pid = os.fork()
    if pid == 0:
        count_some(attach())
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def in_program():
    """A program that begins now."""
    return os.spawnv(os.P_WAIT, sys.executable, [sys.executable, __file__, "of_file"])


def in_thread():
    """While others wait for what comes late or never."""
    ready, never = os.pipe()
    waiting = threading.Thread(target=lambda: os.read(ready, 1))
    waiting.start()
    epoll = select.epoll()
    worker = threading.Thread(target=lambda: count_some(of_file()))
    worker.start()
    epoll.poll(0.01)
    worker.join()
    os.write(never, b"x")
    waiting.join()
    return 0


WAYS = {
    "file": lambda: in_child(of_file),
    "protect": lambda: in_child(made_writable),
    "segment": lambda: in_child(of_system_v),
    "program": in_program,
    "thread": in_thread,
}


def child():
    places = of_file(), of_system_v()
    done = 0
    while not os.path.exists("stop"):
        for address in places:
            count(address, lambda n: n < 10)
        done += 10
        time.sleep(0.001)
    print("child counted", done, flush=True)


def main():
    if len(sys.argv) > 1:
        if sys.argv[1] == "child":
            child()
        else:
            count_some(of_file())
        return
    segment = libc.shmget(0, SIZE, 0o600)
    with open("segment", "w") as file:
        file.write(str(segment))
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, __file__, "child"])
    print(os.getpid(), pid, flush=True)
    for line in sys.stdin:
        print(line.strip(), WAYS[line.strip()](), flush=True)
    status = os.waitpid(pid, 0)[1]
    print("segment has", ctypes.c_uint64.from_address(of_system_v()).value, flush=True)
    libc.shmctl(segment, 0, None)  # IPC_RMID
    sys.exit(os.waitstatus_to_exitcode(status))


main()
