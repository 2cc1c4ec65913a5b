#!/usr/bin/env python3
"""A handler that runs while its thread's wait is being moved ends the wait, as it would have at rest: pause, poll, select,
epoll and semop, out, between hosts and home, with a signal sent at some moment of each move. See README.md."""

import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import lab as labs  # noqa: E402

# Each wait lasts for ever if the handler's exception does not end it.
PROGRAM = """
import ctypes, os, select, signal

class Woken(Exception):
    pass

def handler(number, frame):
    raise Woken

libc = ctypes.CDLL(None)
semaphores = libc.semget(0, 1, 0o600)

def take():
    libc.semop(semaphores, (ctypes.c_short * 3)(0, -1, 0), 1)

signal.signal(signal.SIGUSR1, handler)
print(os.getpid(), flush=True)
waits = [signal.pause, lambda: select.poll().poll(), lambda: select.select([], [], [], 9000), lambda: select.epoll().poll(9000), take]
for number in range(ROUNDS):
    try:
        while True:
            waits[number % len(waits)]()
    except Woken:
        print(number, flush=True)
libc.semctl(semaphores, 0, 0)
"""
ROUNDS = 30
WAITS = {7, 23, 34, 65, 220, 232, 270, 271, 281}  # what those waits are to the kernel
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


def waits_now(process):
    """It has begun its wait: at home it, or its deputy, is in the call."""
    try:
        return int(Path(f"/proc/{process}/syscall").read_text().split()[0]) in WAITS
    except (OSError, ValueError, IndexError):
        return False


def line_of(program, what):
    ready, _, _ = select.select([program.stdout], [], [], DEADLINE)
    if not ready:
        raise Failure(f"{what}: the wait went on for {DEADLINE} s after the signal")
    line = program.stdout.readline()
    if not line:
        raise Failure(f"{what}: the program has ended")
    return int(line)


def one_round(lab, program, process, number, pick):
    target = ("n2", "n3", "home")[number % 3]
    labs.wait_until(lambda: waits_now(process), DEADLINE, f"round {number} to wait")
    command = [lab.tess, "migrate", str(program.pid_there), target]
    mover = lab.popen("n1", command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # Any moment of the move will do: what is tested may not depend on it.
    time.sleep(pick.uniform(0, 0.25))
    os.kill(process, 10)
    answer = line_of(program, f"round {number}, a move to {target}")
    if answer != number:
        raise Failure(f"round {number}: the program is at {answer}")
    said, _ = mover.communicate(timeout=DEADLINE)
    if mover.returncode != 0:
        raise Failure(f"round {number}: tess migrate to {target}: {said.strip()}")


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(1 << 32)
    print(f"again: {Path(__file__).name} {seed}", flush=True)
    pick = random.Random(seed)
    with labs.Lab(f"waits-{os.getpid()}", 3) as lab:

        def steps():
            program = lab.popen("n1", ["/usr/bin/python3", "-c", f"ROUNDS = {ROUNDS}\n{PROGRAM}"], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                program.pid_there = line_of(program, "the start")
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
