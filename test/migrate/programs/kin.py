"""A family that counts in shared memory, under a lock of the file `lock`. Prints its own pid and its child's; the child counts all the
time, until the file `stop` is there, and does what it is asked in between. For each line of input (a way to share) a process at home
maps the memory so and counts a hundred times, or reads or writes the file, and says whether all went well. At the end the file `counted`
has how often the child has counted."""

import ctypes
import fcntl
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
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


def asked(pipes, text):
    os.write(pipes[1], text.encode() + b"\n")
    return os.read(pipes[0], 100).decode().strip()


def reads(pipes):
    """What the child writes to its memory is in the file for whoever reads that, as soon as the child says that it has."""
    with open("page", "r+b", buffering=0) as page:
        for turn in range(COUNTS):
            mark = b"%08d" % turn
            asked(pipes, f"put {turn}")
            copy = mmap.mmap(page.fileno(), SIZE, flags=mmap.MAP_PRIVATE) if turn % 4 == 3 else None
            found = (
                os.pread(page.fileno(), 8, 100) if turn % 4 == 0 else
                os.preadv(page.fileno(), [buffer := bytearray(8)], 100) and bytes(buffer) if turn % 4 == 1 else
                os.lseek(page.fileno(), 100, os.SEEK_SET) and os.read(page.fileno(), 8) if turn % 4 == 2 else
                copy[100:108]
            )
            if found != mark:
                return f"finds {found} for {mark}"
    return 0


def writes(pipes):
    """What a process at home writes to the file is in the child's memory as soon as the call has returned."""
    with open("page", "r+b", buffering=0) as page:
        for turn in range(COUNTS):
            mark = b"%08d" % (turn + 5_000)
            if turn % 2:
                os.pwrite(page.fileno(), mark, 200)
            else:
                os.lseek(page.fileno(), 200, os.SEEK_SET)
                os.write(page.fileno(), mark)
            if asked(pipes, "get") != mark.decode():
                return f"does not reach it with {mark}"
    return 0


def follows(pipes):
    """Who only reads the memory sees what the child writes there."""
    with open("page", "rb") as page:
        memory = mmap.mmap(page.fileno(), SIZE, prot=mmap.PROT_READ)
    for turn in range(COUNTS):
        asked(pipes, f"put {turn}")
        if memory[100:108] != b"%08d" % turn:
            return f"sees {memory[100:108]} for {turn}"
    return 0


def in_wait(kind):
    """In a process that has been waiting, some with a time limit, since before the others wrote elsewhere."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 60, 0) if kind == "recv" else bytes(16))
        epoll = select.epoll()
        epoll.register(theirs, select.EPOLLIN)
        {
            "read": lambda: os.read(theirs.fileno(), 1),
            "recv": lambda: theirs.recv(1),
            "epoll": lambda: epoll.poll(60),
            "signal": lambda: signal.sigtimedwait({signal.SIGUSR1}, 60),
        }[kind]()
        count_some(of_file())
        os._exit(0)
    while " S " not in open(f"/proc/{pid}/stat").read():
        time.sleep(0.001)
    print("waits", flush=True)
    sys.stdin.readline()
    os.kill(pid, signal.SIGUSR1)
    ours.send(b"x")
    return os.waitpid(pid, 0)[1]


WAYS = {
    **{f"late {kind}": lambda _, kind=kind: in_wait(kind) for kind in ("read", "recv", "epoll", "signal")},
    "file": lambda _: in_child(of_file),
    "protect": lambda _: in_child(made_writable),
    "segment": lambda _: in_child(of_system_v),
    "program": lambda _: in_program(),
    "thread": lambda _: in_thread(),
    "reads": reads,
    "writes": writes,
    "follows": follows,
}


def answer(page):
    word, *value = os.read(0, 100).decode().split() or [""]
    if word == "put":
        ctypes.memmove(page + 100, b"%08d" % int(value[0]), 8)
    os.write(1, ctypes.string_at(page + 200, 8) + b"\n")


def child():
    page, _ = places = of_file(), of_system_v()
    done = 0
    while not os.path.exists("stop"):
        for address in places:
            count(address, lambda n: n < 10)
        done += 10
        if select.select([0], [], [], 0.001)[0]:
            answer(page)
    with open("counted", "w") as file:
        file.write(str(done))


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
    other = subprocess.Popen([sys.executable, __file__, "child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pipes = other.stdout.fileno(), other.stdin.fileno()
    print(os.getpid(), other.pid, flush=True)
    for line in sys.stdin:
        print(line.strip(), WAYS[line.strip()](pipes), flush=True)
    status = other.wait()
    print("segment has", ctypes.c_uint64.from_address(of_system_v()).value, flush=True)
    libc.shmctl(segment, 0, None)  # IPC_RMID
    sys.exit(status)


main()
