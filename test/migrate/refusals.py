#!/usr/bin/python3
"""What cannot move is refused in words, at once, and goes on untouched: unknown pids and nodes, other users' processes,
32-bit, traced, io_uring, seccomp filters, memory shared with another user's process, hosts that cannot take it."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]
import build_programs  # noqa: E402
import lab as labs  # noqa: E402
from workers import Worker, jobs, migrate  # noqa: E402

# name, how to be so, what the message must say
STATES = [
    ("traced", "spin", ["traced"], r"(?i)trace|debug"),
    ("io_uring", "spin", ["uring"], r"(?i)io_uring"),
    ("seccomp", "spin", ["seccomp"], r"(?i)seccomp"),
    ("32-bit", "spin.m32", ["plain"], r"(?i)32[- ]bit"),
]


class Wrong(Exception):
    pass


def expect_refusal(done, pattern, what):
    text = done.stdout.strip()
    if done.returncode == 0:
        raise Wrong(f"{what}: it was not refused: {text!r}")
    if not re.search(pattern, text) or len(text) < 12:
        raise Wrong(f"{what}: the message does not say why (wanted {pattern}): {text!r}")
    if re.search(r"(?i)assert|abort|core dumped|terminate called|Traceback", text):
        raise Wrong(f"{what}: that is a crash, not a message: {text!r}")
    return text.splitlines()[-1][:140]


def why(lab, pid):
    done = lab.run("n1", ["tess", "why", str(pid), "--json"], check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise Wrong(f"tess why {pid} --json: exit {done.returncode}: {done.stdout!r} {done.stderr!r}") from None


def state_case(lab, programs, program, words, pattern):
    with Worker(lab, [Path(programs) / program, *words]) as worker:
        try:
            worker.wait_output(b"ready\n")
        except labs.LabError:
            if worker.process.poll() == 77 or b"no io_uring" in worker.output():
                return None
            raise
        message = expect_refusal(migrate(lab, worker.pid, "n2"), pattern, words[0])
        answer = why(lab, worker.pid)
        if answer["can_move"] or not any(re.search(pattern, reason) for reason in answer["reasons"]):
            raise Wrong(f"tess why does not say so: {answer}")
        untouched(lab, worker)
        return message


def untouched(lab, worker):
    entry = jobs(lab).get(worker.pid)
    if entry and entry["state"] != "native":
        raise Wrong(f"it is not as before: {entry}")
    if worker.stop() != 0 or b"untouched\n" not in worker.output():
        raise Wrong(f"it ended with {worker.process.returncode}: {worker.output()!r} {worker.errors()!r}")


def unknown_pid(lab, _programs):
    return expect_refusal(migrate(lab, 3999999, "n2"), r"(?i)no (such )?process|not exist|3999999", "unknown pid")


def unknown_node(lab, programs):
    with Worker(lab, [Path(programs) / "spin"]) as worker:
        worker.wait_output(b"ready\n")
        message = expect_refusal(migrate(lab, worker.pid, "nowhere"), r"(?i)nowhere", "unknown node")
        untouched(lab, worker)
        return message


def down_node(lab, programs):
    with Worker(lab, [Path(programs) / "spin"]) as worker:
        worker.wait_output(b"ready\n")
        lab.run("n4", ["ip", "link", "set", "eth0", "down"], host_files=True)
        try:
            message = expect_refusal(migrate(lab, worker.pid, "n4", 90), r"(?i)n4", "node out of reach")
            if "this node's tessd" in message:
                raise Wrong(f"it blames the wrong node: {message!r}")
            untouched(lab, worker)
        finally:
            lab.run("n4", ["ip", "link", "set", "eth0", "up"], host_files=True)
        return message


def migrate_as_nobody(lab, pid, target):
    """Asked by a user who may talk to tessd: one of the group of its socket."""
    ask = f'setpriv --reuid=65534 --regid=65534 --groups=$(stat -c %g /run/tessera/control.sock) tess migrate {pid} {target}'
    return subprocess.run(lab.command("n1", ["sh", "-c", ask]), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=60, env=labs.clean_environment(lab.bin_dir))


def other_user(lab, programs):
    with Worker(lab, [Path(programs) / "spin"]) as worker:
        worker.wait_output(b"ready\n")
        message = expect_refusal(migrate_as_nobody(lab, worker.pid, "n2"), r"(?i)belongs to uid", "another user's process")
        untouched(lab, worker)
        return message


# A server's manner: memory shared with a child that has become another user.
TWO_USERS = """
import mmap, os, time
shared = mmap.mmap(-1, 4096)
child = os.fork()
if child == 0:
    os.setuid(65534)
    shared[0] = 1
    while shared[1] == 0:
        time.sleep(0.01)
    shared[2] = 7
    os._exit(0)
while shared[0] == 0:
    time.sleep(0.01)
print(f"child {child} ready", flush=True)
while not os.path.exists("stop"):
    time.sleep(0.01)
shared[1] = 1
os.waitpid(child, 0)
print("untouched" if shared[2] == 7 else "torn apart", flush=True)
"""


def two_users(lab, _programs):
    """The child's owner may not move the parent, so neither moves; root may move both."""
    with Worker(lab, ["/usr/bin/python3", "-c", TWO_USERS]) as worker:
        worker.wait_output(b" ready\n", 60)
        child = int(worker.output().split()[1])
        message = expect_refusal(migrate_as_nobody(lab, child, "n2"), rf"shares writable memory .* process {worker.pid} .* same user", "a child's owner")
        done = migrate(lab, child, "n2")
        places = {pid: entry["node"] for pid, entry in jobs(lab).items() if pid in (child, worker.pid)}
        if done.returncode != 0 or places != {child: "n2", worker.pid: "n2"}:
            raise Wrong(f"root moves both: {done.stdout!r} {places}")
        if worker.stop() != 0 or b"untouched\n" not in worker.output():
            raise Wrong(f"it ended with {worker.process.returncode}: {worker.output()!r} {worker.errors()!r}")
        return message


def init_process(lab, _programs):
    return expect_refusal(migrate(lab, 1, "n2"), r"(?i)pid 1|init|cannot|kernel|itself", "process 1")


def too_big(lab, programs):
    """Both nodes have 1 GiB; most of the target's is taken."""
    with tempfile.TemporaryDirectory(prefix="tessera-hog.") as folder:
        taker = lab.popen("n2", [Path(programs) / "hog", "600"], host_files=True, cwd=folder, stdout=subprocess.PIPE)
        try:
            if taker.stdout.readline() != b"ready\n":
                raise labs.LabError("could not fill the target's memory")
            with Worker(lab, [Path(programs) / "hog", "600"]) as worker:
                worker.wait_output(b"ready\n", 60)
                message = expect_refusal(migrate(lab, worker.pid, "n2", 120), r"(?i)memory", "a host with too little memory")
                worker.stop()
                if b"kept\n" not in worker.output():
                    raise Wrong(f"the program suffered: {worker.output()!r} {worker.errors()!r}")
                return message
        finally:
            Path(folder, "stop").touch()
            taker.wait(60)


def run_unknown_node(lab, _programs):
    done = lab.run("n1", ["tess", "run", "--on", "nowhere", "true"], check=False)
    if done.returncode != 125 or "nowhere" not in done.stderr:
        raise Wrong(f"exit {done.returncode} (wanted 125): {done.stderr!r}")
    done = lab.run("n1", ["tess", "run", "--on", "n2", "/no/such/program"], check=False)
    if done.returncode != 127 or "/no/such/program" not in done.stderr:
        raise Wrong(f"a missing command: exit {done.returncode} (wanted 127): {done.stderr!r}")
    return "125 and 127 with messages"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="run those whose name contains this")
    parser.add_argument("--programs", default=str(labs.ROOT / "build" / "test-programs"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("skip: needs root")
        return 77
    build_programs.build(["spin", "hog"], options.programs)
    can_run_32 = True
    try:
        build_programs.build(["spin.m32"], options.programs)
        subprocess.run([Path(options.programs) / "spin.m32", "stop?"], cwd=options.programs,
                       stdout=subprocess.DEVNULL, timeout=0.3)
    except subprocess.TimeoutExpired:
        pass
    except (subprocess.CalledProcessError, OSError) as error:
        can_run_32 = f"{error}".splitlines()[0][:120]
    cases = [("unknown pid", unknown_pid), ("unknown node", unknown_node), ("node out of reach", down_node),
             ("another user's", other_user), ("two users' memory", two_users), ("process 1", init_process), ("run: bad node, command", run_unknown_node)]
    for name, program, words, pattern in STATES:
        cases.append((name, lambda lab, programs, p=program, w=words, t=pattern: state_case(lab, programs, p, w, t)))
    failed = 0
    with labs.Lab(f"refuse-{os.getpid()}", 4) as lab:
        failed += run_all(lab, options, cases, can_run_32)
    with labs.Lab(f"refuse-{os.getpid()}", 2, ["--memory", "1G"]) as lab:
        failed += run_all(lab, options, [("too little memory", too_big)], True)
    return 1 if failed else 0


def run_all(lab, options, cases, can_run_32):
    failed = 0
    for name, function in cases:
        if options.only and options.only not in name:
            continue
        if name == "32-bit" and can_run_32 is not True:
            print(f"skip  {name:24} this kernel or compiler has no 32-bit programs: {can_run_32}", flush=True)
            continue
        try:
            message = function(lab, options.programs)
            print(f"{'ok   ' if message else 'skip '} {name:24} {message or 'not possible on this machine'}", flush=True)
        except (Wrong, labs.LabError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAIL  {name:24} {error}\nrerun: test/migrate/refusals.py --only '{name}'\n", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
