#!/usr/bin/env python3
"""A handler that runs while its thread's wait is being moved ends the wait, as it would have at rest, or lets it go on if it
was installed with SA_RESTART and the call is one that heeds that: out, between hosts and home, with a signal sent at some
moment of each move. See README.md."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import lab as labs  # noqa: E402

# Each wait lasts for ever if the handler's exception does not end it.
PROGRAM = """
import ctypes, fcntl, os, select, signal, socket, struct, subprocess, sys, tempfile

class Woken(Exception):
    pass

def wake(number, frame):
    raise Woken

# python runs it when the call has come back: with SA_RESTART not before the other signal has ended the call.
def count(number, frame):
    global counted
    counted += 1

libc = ctypes.CDLL(None)
semaphores = libc.semget(0, 1, 0o600)
pipe = os.pipe()
ours, theirs = socket.socketpair()
listener = socket.create_server(("127.0.0.1", 0))
timed, timed_end = socket.socketpair()
timed_listener = socket.create_server(("127.0.0.1", 0))
for timed_socket in timed, timed_listener:
    timed_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 9000, 0))
child = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
lock = tempfile.NamedTemporaryFile()
lock_again = open(lock.name)
fcntl.flock(lock, fcntl.LOCK_EX)

def take():
    libc.semop(semaphores, (ctypes.c_short * 3)(0, -1, 0), 1)

def suspend():
    libc.sigsuspend((ctypes.c_ulong * 16)())

signal.signal(signal.SIGUSR1, wake)
signal.signal(signal.SIGUSR2, count)
signal.siginterrupt(signal.SIGUSR2, False)
counted = 0
print(os.getpid(), flush=True)
waits = [signal.pause, lambda: select.poll().poll(), lambda: select.select([], [], [], 9000), lambda: select.epoll().poll(9000), take, suspend,
         lambda: timed.recvmsg(1), timed_listener.accept, lambda: os.read(pipe[0], 1), lambda: ours.recvmsg(1), listener.accept, child.wait, lambda: fcntl.flock(lock_again, fcntl.LOCK_EX)]
for number in range(ROUNDS):
    which = number % len(waits)
    signal.siginterrupt(signal.SIGUSR1, which >= RESTARTED or number // len(waits) % 2 == 1)
    before = counted
    ended = 0
    try:
        while True:
            waits[which]()
            ended += 1
    except Woken:
        early = counted - before
        print(number, early, ended, flush=True)
libc.semctl(semaphores, 0, 0)
child.kill()
sys.stdin.read()
"""
WAITS = 13
RESTARTED = 8  # those from here on go on after a handler with SA_RESTART; the others end, with and without it
ROUNDS = 3 * WAITS
# What those waits are to the kernel; 219: restart_syscall, after a stop.
CALLS = {0, 7, 23, 34, 43, 47, 61, 65, 73, 130, 219, 220, 232, 247, 270, 271, 281, 288}
RECVMSG, OWN_DESCRIPTORS = 47, 32
DEADLINE = 60


class Failure(Exception):
    pass


def machine_pid(lab, pid):
    """The machine's number of a process of n1."""
    for candidate in lab.processes("n1"):
        try:
            status = Path(f"/proc/{candidate}/status").read_text()
            name = Path(f"/proc/{candidate}/cmdline").read_bytes()
        except OSError:
            continue
        line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
        if int(line.split()[2]) == pid and name.startswith(b"/usr/bin/python3"):
            return candidate
    raise Failure(f"n1 has no process {pid}")


def state_of(process):
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]


def waits_now(process):
    """It has begun its wait: at home it, or its deputy, is in the call, and in no ptrace-stop with a signal that it has yet
    to take. A deputy that rests receives, too, from a descriptor out of the program's sight."""
    try:
        if state_of(process) != "S":
            return False
        number, first = Path(f"/proc/{process}/syscall").read_text().split()[:2]
        return int(number) in CALLS and (int(number) != RECVMSG or int(first, 16) < OWN_DESCRIPTORS)
    except (OSError, ValueError):
        return False


def line_of(program, what):
    ready, _, _ = select.select([program.stdout], [], [], DEADLINE)
    if not ready:
        raise Failure(f"{what}: the wait went on for {DEADLINE} s after the signal")
    line = program.stdout.readline()
    if not line:
        raise Failure(f"{what}: the program has ended")
    return [int(word) for word in line.split()]


def moved(mover, number, target):
    said, _ = mover.communicate(timeout=DEADLINE)
    if mover.returncode != 0:
        raise Failure(f"round {number}: tess migrate to {target}: {said.strip()}")


def stop_and_continue(process):
    """What waited goes on by restart_syscall, or by itself after an EINTR."""
    os.kill(process, signal.SIGSTOP)
    labs.wait_until(lambda: state_of(process) == "T", DEADLINE, "the program to stop")
    os.kill(process, signal.SIGCONT)
    labs.wait_until(lambda: state_of(process) != "T", DEADLINE, "the program to go on")
    labs.wait_until(lambda: waits_now(process), DEADLINE, "the program to wait again")


def one_round(lab, program, process, number, pick):
    target = ("n2", "n3", "home")[number % 3]
    labs.wait_until(lambda: waits_now(process), DEADLINE, f"round {number} to wait")
    stopped = target == "n2" and pick.random() < 0.5
    if stopped:
        stop_and_continue(process)
    command = [lab.tess, "migrate", str(program.pid_there), target]
    mover = lab.popen("n1", command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # Any moment of the move will do: what is tested may not depend on it.
    time.sleep(pick.uniform(0, 0.25))
    goes_on = number % WAITS >= RESTARTED and pick.random() < 0.5
    os.kill(process, signal.SIGUSR2 if goes_on else signal.SIGUSR1)
    if goes_on:
        moved(mover, number, target)
        labs.wait_until(lambda: waits_now(process), DEADLINE, f"round {number} to go on waiting")
        os.kill(process, signal.SIGUSR1)
    answer = line_of(program, f"round {number}, a move to {target}")
    if answer[:2] != [number, 0]:
        raise Failure(f"round {number}: the program is at {answer[0]}, {answer[1]} waits with SA_RESTART have ended")
    if answer[2] != 0 and not stopped:  # a stop ends semop (signal(7))
        raise Failure(f"round {number}, a move to {target}: the wait has ended by itself")
    if not goes_on:
        moved(mover, number, target)


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(1 << 32)
    print(f"again: {Path(__file__).name} {seed}", flush=True)
    pick = random.Random(seed)
    with labs.Lab(f"waits-{os.getpid()}", 3) as lab:

        def steps():
            program = lab.popen("n1", ["/usr/bin/python3", "-c", f"ROUNDS, RESTARTED = {ROUNDS}, {RESTARTED}\n{PROGRAM}"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                [program.pid_there] = line_of(program, "the start")
                process = machine_pid(lab, program.pid_there)
                for number in range(ROUNDS):
                    one_round(lab, program, process, number, pick)
                _, err = program.communicate(timeout=DEADLINE)
                if program.returncode != 0:
                    raise Failure(f"the program ended with {program.returncode}: {err.decode()[-400:]}")
            finally:
                if program.poll() is None:
                    program.kill()
                    program.communicate()

        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
