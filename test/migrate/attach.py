#!/usr/bin/env python3
"""Whoever may trace a process natively can trace it once it has come home: at once if nobody started it with `tess run`,
and when a person has sent it home once more if somebody did. And what a job executes can trace, away and at home. See
README.md."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import build_programs  # noqa: E402
import lab as labs  # noqa: E402
from workers import Worker, must_migrate  # noqa: E402

# The child waits in a call that the kernel repeats when tracing ends, for what comes through the pipe.
PROGRAM = """
import os, time

print(os.getpid(), flush=True)
while not os.path.exists("fork"):
    time.sleep(0.01)
inner, outer = os.pipe()
child = os.fork()
if child == 0:
    os.close(outer)
    print("child", os.getpid(), "waits", flush=True)
    print("child read", os.read(inner, 8), flush=True)
    os._exit(7)
while not os.path.exists("write"):
    time.sleep(0.01)
os.write(outer, b"word")
print("child ended", os.waitpid(child, 0)[1] >> 8, flush=True)
while not os.path.exists("stop"):
    time.sleep(0.01)
"""
# Seizes it, stops it, has it go on, and lets go of it.
TRACER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[1])
def ptrace(request, name):
    if libc.ptrace(request, pid, 0, 0) != 0:
        sys.exit(f"{name}: {os.strerror(ctypes.get_errno())}")
ptrace(0x4206, "PTRACE_SEIZE")
ptrace(0x4207, "PTRACE_INTERRUPT")
os.waitpid(pid, 0x40000000)
ptrace(17, "PTRACE_DETACH")
"""
DEADLINE = 60


class Failure(Exception):
    pass


def trace(lab, pid):
    return lab.run("n1", ["/usr/bin/python3", "-c", TRACER, str(pid)], check=False).stderr.strip()


def must_trace(lab, pid, what):
    if said := trace(lab, pid):
        raise Failure(f"{what} cannot be traced: {said}")


def child_of_one_away(lab):
    with Worker(lab, ["/usr/bin/python3", "-c", PROGRAM], True) as worker:
        must_migrate(lab, worker.pid, "n2")
        (worker.folder / "fork").touch()
        worker.wait_output(b" waits\n", DEADLINE)
        child = int(worker.output().split()[1])
        must_migrate(lab, child, "home")
        must_trace(lab, child, "a process that has come home while its parent is away")
        (worker.folder / "write").touch()
        worker.wait_output(b"child ended 7\n", DEADLINE)
        if b"child read b'word'\n" not in worker.output() or worker.stop() != 0:
            raise Failure(f"the program suffered: {worker.output()!r} {worker.errors()!r}")


def started_by_run(lab):
    with Worker(lab, ["tess", "run", "--on", "n2", "/usr/bin/python3", "-c", PROGRAM], True) as worker:
        if "not permitted" not in trace(lab, worker.pid):
            raise Failure("a process that is away could be traced")
        must_migrate(lab, worker.pid, "home")
        must_migrate(lab, worker.pid, "home")
        must_trace(lab, worker.pid, "a process that was sent home twice")
        must_migrate(lab, worker.pid, "n3")
        for name in ("fork", "write"):
            (worker.folder / name).touch()
        worker.wait_output(b"child ended 7\n", DEADLINE)
        if worker.stop() != 0:
            raise Failure(f"the program suffered: {worker.output()!r} {worker.errors()!r}")


def tracers_in_a_job(lab, programs):
    build_programs.build(["tracer"], programs)
    tracer = str(Path(programs) / "tracer")
    for options, command in ((["--home"], [tracer]), ([], ["sh", "-c", f"{tracer}; {tracer}"]), (["--on", "n2"], [tracer]),
                             (["--on", "n2"], ["sh", "-c", f"{tracer}; {tracer}"])):
        argv = ["tess", "run", *options, *command]
        done = lab.run("n1", argv, DEADLINE, check=False)
        if done.returncode != 0 or set(done.stdout.split()) != {"traced"}:
            raise Failure(f"{argv}: exit {done.returncode}: {done.stdout!r} {done.stderr!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", default=str(labs.ROOT / "build" / "test-programs"))
    options = parser.parse_args()
    with labs.Lab(f"attach-{os.getpid()}", 3) as lab:

        def steps():
            child_of_one_away(lab)
            started_by_run(lab)
            tracers_in_a_job(lab, options.programs)

        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
