#!/usr/bin/python3
"""The demonstration: three ordinary Debian programs, started natively in a lab of four nodes, are moved while they run, hop
from node to node and come home. A live display shows who runs where; at the end each result is compared with a native run.

Exit status 0 only if everything is identical. Needs root. $TESS_BIN_DIR names the folder with tess, tessd and tess-agent.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "common"), str(HERE.parent / "migrate")]
import inputs  # noqa: E402
import lab as labs  # noqa: E402

NODES = ("n1", "n2", "n3", "n4")
MOVE_DEADLINE = 60
PROGRAM_DEADLINE = 100  # for programs of the first size
ATTEMPTS = 3
CPU_SECONDS = {"bc": 6.0, "gzip": 6.0, "python3": 22.0}  # the threads take a bigger share of the machine

THREADS = """
import hashlib, sys, threading
parts = {}
def work(n):
    value = b"%d" % n
    for _ in range(600):
        value = hashlib.pbkdf2_hmac("sha256", value, b"tessera", 1500)
    parts[n] = value.hex()
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest())
"""


class TooShort(Exception):
    """A program ended well before it had made its moves: this machine moves more slowly than it computes."""

    def __init__(self, task, everything):
        self.moves = sum(task.moves for task in everything)
        self.needed = sum(len(task.route) for task in everything)
        super().__init__(f"{task.name} ended after {self.moves} of {self.needed} moves")


class Task:
    """One program, its argument vector and the files it leaves, and where it is to go."""

    def __init__(self, name, what, argv, results, route):
        self.name, self.what, self.argv, self.results, self.route = name, what, argv, results, route
        self.deadline = PROGRAM_DEADLINE
        self.process = self.pid = self.moving = None
        self.where, self.moves, self.state, self.frozen_ms = "n1", 0, "waiting", []
        self.native_digest = self.digest = None
        self.native_seconds = self.seconds = 0.0
        self.failure = None


BC = "for (i = 0; i < {n}; i++) {{ x = 4*a(1+i/1000); }}; x"


def make_tasks(folder, sizes, times):
    """`times`: how many times as long as calibrated."""
    again = "$(seq " + str(times) + ")"
    pack = f"for i in {again}; do tar -cf - -C {folder / 'data'} --sort=name .; done | gzip -9 -n | tee pack.gz | sha256sum"
    formula = BC.format(n=sizes["bc"] * times)
    everything = [
        Task("bc", "long numbers, one thread", ["sh", "-c", f"echo 'scale=320; {formula}' > in.bc; exec bc -lq in.bc"],
             ["stdout"], ["n2", "n3", "n4", "home"]),
        Task("gzip", "a stream: tar | gzip | tee | sha256sum", ["sh", "-c", pack], ["stdout", "pack.gz"],
             ["n3", "n4", "n2", "home"]),
        Task("python3", "four threads hashing", ["/usr/bin/python3", "-c", THREADS.replace("600", str(sizes["python3"] * times))],
             ["stdout"], ["n4", "n2", "n3", "home"]),
    ]
    for task in everything:
        task.deadline = PROGRAM_DEADLINE * times
    return everything


def calibrate(folder):
    """How big each program must be to take CPU_SECONDS of this machine's CPU."""
    def cpu_of_run(argv, data=None):
        before = os.times()
        subprocess.run(argv, input=data, stdout=subprocess.DEVNULL, check=True, timeout=60)
        after = os.times()
        return max(0.02, after.children_user + after.children_system - before.children_user - before.children_system)

    block = inputs.words(1, 9000) + random.Random(1).randbytes(1 << 19)
    bc = cpu_of_run(["bc", "-lq"], f"scale=320; {BC.format(n=60)}\n".encode()) / 60
    gzip = cpu_of_run(["gzip", "-9", "-n"], block)
    python = cpu_of_run(["/usr/bin/python3", "-c", THREADS.replace("600", "60")]) / 60
    blocks = min(400, int(CPU_SECONDS["gzip"] / gzip))
    (folder / "data").mkdir()
    for number in range(blocks):
        body = inputs.words(number, 900) * 10 + random.Random(number).randbytes(1 << 19)
        (folder / "data" / f"part{number:03}").write_bytes(body)
    return {"bc": int(CPU_SECONDS["bc"] / bc), "python3": int(CPU_SECONDS["python3"] / python)}


class Display:
    """One screen of 80x24 redrawn in place on a terminal; a line for each event otherwise."""

    def __init__(self, everything):
        self.tasks, self.live, self.lines, self.began = everything, sys.stdout.isatty(), 0, time.monotonic()
        self.note = ""

    def event(self, text):
        self.note = text
        if not self.live:
            print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def draw(self):
        if not self.live:
            return
        rows = ["\033[1mTessera\033[0m  three programs on the way through four nodes"
                f"{time.monotonic() - self.began:20.1f} s", "", " " * 12 + "".join(f"{node:^12}" for node in NODES)]
        for task in self.tasks:
            cells = ""
            for node in NODES:
                here = task.where == node and task.state not in ("waiting",)
                cells += f"\033[7m{task.name:^10}\033[0m  " if here else f"{'·':^10}  "
            rows += [f"{task.name:<12}" + cells, f"{'':12}{task.what}; {task.state}, {task.moves} moves", ""]
        rows += ["n1 is home: the files, pipes and parents of all three stay there.", self.note[:79]]
        if self.lines:
            sys.stdout.write(f"\033[{self.lines}A")
        sys.stdout.write("".join(f"\033[2K{row}\n" for row in rows))
        sys.stdout.flush()
        self.lines = len(rows)


def result_of(task, folder):
    digest = hashlib.sha256()
    for name in task.results:
        path = folder / name
        digest.update(path.read_bytes() if path.exists() else b"(missing)")
    status = task.process.returncode
    errors = (folder / "stderr").read_bytes()
    digest.update(f"{status} {errors!r}".encode())
    return digest.hexdigest()[:16]


def start(lab, task, folder):
    folder.mkdir()
    out, err = open(folder / "stdout", "wb"), open(folder / "stderr", "wb")
    argv = ["sh", "-c", f'echo $$ > {folder}.pid; exec "$@"', "sh", *task.argv]
    with out, err:
        task.process = lab.popen("n1", argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    pid_file = Path(f"{folder}.pid")
    labs.wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), 60, f"{task.name} to start")
    task.pid = int(pid_file.read_text())
    task.began = time.monotonic()


def run_native(lab, everything, folder, display):
    """All three at once in n1, as they will run afterwards, but not moved."""
    for task in everything:
        task.state = "native run"
        start(lab, task, folder / f"native-{task.name}")
        display.event(f"{task.name}: native run, for the comparison")
    waiting = list(everything)
    end = time.monotonic() + everything[0].deadline
    while waiting:
        for task in list(waiting):
            if task.process.poll() is not None:
                task.native_seconds = time.monotonic() - task.began
                task.native_digest = result_of(task, folder / f"native-{task.name}")
                if task.process.returncode != 0:
                    raise labs.LabError(f"{task.name} ended natively with {task.process.returncode}")
                waiting.remove(task)
        if time.monotonic() > end:
            raise labs.LabError("the native run takes too long")
        display.draw()
        time.sleep(0.05)


def busiest(lab, task):
    """The pid to move: the busiest process of the task's tree (of a pipeline: its compressor)."""
    script = ("import os,sys\nroot=int(sys.argv[1]); found=[]; parents={}\n"
              "for e in os.listdir('/proc'):\n"
              "  if e.isdigit():\n"
              "    try: f=open(f'/proc/{e}/stat').read().rsplit(')',1)[1].split()\n"
              "    except OSError: continue\n"
              "    parents[int(e)]=(int(f[1]), int(f[11])+int(f[12]), f[0])\n"
              "def below(p):\n"
              "  while p in parents:\n"
              "    if p==root: return True\n"
              "    p=parents[p][0]\n"
              "  return False\n"
              "found=[(c,p) for p,(pp,c,s) in parents.items() if s not in 'ZX' and below(p)]\n"
              "print(max(found)[1] if found else 0)")
    return int(lab.run("n1", ["/usr/bin/python3", "-c", script, task.pid]).stdout)


def ended_too_early(task, everything, folder):
    """Raises TooShort if it has ended as its native run did, LabError if it has ended in another way."""
    if task.process.poll() is None:
        return
    said = f"{(folder / f'moved-{task.name}' / 'stderr').read_text()[-300:]}"
    if result_of(task, folder / f"moved-{task.name}") != task.native_digest:
        raise labs.LabError(f"{task.name} ended ({task.process.returncode}) with another result than its native run: {said}")
    raise TooShort(task, everything)


def move(lab, task, target):
    began = time.monotonic()
    done = subprocess.run(lab.command("n1", ["tess", "migrate", str(task.moving), target]), stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=MOVE_DEADLINE, errors="replace",
                          env=labs.clean_environment(lab.bin_dir))
    if done.returncode != 0:
        raise labs.LabError(f"{task.name} to {target}: {done.stdout.strip()}")
    task.moves += 1
    task.frozen_ms.append((time.monotonic() - began) * 1000)
    task.where = "n1" if target == "home" else target


def confirm_places(lab, everything, display):
    """What the display shows is what `tess ps` says."""
    listed = {entry["pid"]: entry for entry in json.loads(lab.run("n1", ["tess", "ps", "--json"]).stdout)["processes"]}
    for task in everything:
        entry = listed.get(task.moving)
        if task.process.poll() is None and task.where != "n1" and (not entry or entry["node"] != task.where):
            raise labs.LabError(f"tess ps says {entry} of {task.name}, which should be on {task.where}")
    display.draw()


def run_moved(lab, everything, folder, display):
    for task in everything:
        task.state = "runs at home, native"
        start(lab, task, folder / f"moved-{task.name}")
        display.event(f"{task.name}: started natively in n1, pid {task.pid}")
        display.draw()
    for task in everything:
        labs.wait_until(lambda t=task: cpu_of(lab, t) >= 0.3 or t.process.poll() is not None, 90, f"{task.name} to work", interval=0.05)
        ended_too_early(task, everything, folder)
        task.moving = busiest(lab, task)
    for leg in range(max(len(task.route) for task in everything)):
        for task in everything:
            target = task.route[leg]
            ended_too_early(task, everything, folder)
            task.state = f"moving to {target}"
            display.draw()
            try:
                move(lab, task, target)
            except labs.LabError:
                # Perhaps because there was nothing to move any more: then all of its tree ends.
                if not exists(lab, task.moving):
                    task.process.wait(timeout=task.deadline)
                ended_too_early(task, everything, folder)
                raise
            task.state = "runs at home, native again" if target == "home" else f"runs on {target}"
            display.event(f"{task.name}: {'back home' if target == 'home' else 'now on ' + target} after {task.frozen_ms[-1]:.0f} ms")
            display.draw()
        confirm_places(lab, everything, display)
        pause = time.monotonic() + 0.5  # for the eye, and so that it runs a while at each place
        while time.monotonic() < pause:
            display.draw()
            time.sleep(0.1)
    finish(everything, folder, display)


def exists(lab, pid):
    return lab.run("n1", ["test", "-e", f"/proc/{pid}"], check=False).returncode == 0


def end_all(lab, everything, folder):
    """Ends what still runs of an attempt, in the lab and the commands that joined it."""
    for pid in lab.processes("n1"):
        try:
            if f"/{folder.name}/moved-" in os.readlink(f"/proc/{pid}/cwd"):
                os.kill(pid, signal.SIGKILL)
        except OSError:
            continue
    for task in everything:
        if task.process and task.process.poll() is None:
            task.process.kill()  # the command that joined the node
            task.process.wait()


def attempts(lab, folder, sizes, display, everything):
    """Runs them natively and moved; again with longer ones if they ended before they had made their moves."""
    times = 1
    for attempt in range(ATTEMPTS):
        everything[:] = make_tasks(folder, sizes, times)
        place = folder / f"attempt{attempt}"
        place.mkdir()
        try:
            run_native(lab, everything, place, display)
            run_moved(lab, everything, place, display)
            return
        except TooShort as early:
            if attempt == ATTEMPTS - 1:
                raise labs.LabError(f"{early}, with {times} times the work that is enough on a quiet machine") from early
            # The first move of a program takes longest, so the moves made say more than all will take.
            times *= min(3, max(2, round(early.needed / max(early.moves, 1))))
            display.event(f"{early}: moves take long on this machine; again with {times} times the work")
        finally:
            end_all(lab, everything, place)


def cpu_of(lab, task):
    """CPU seconds of the task's tree, as seen from the machine through the node."""
    total = 0.0
    for pid in lab.processes("n1"):
        try:
            environ = os.readlink(f"/proc/{pid}/cwd")
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if environ.endswith(f"moved-{task.name}"):
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def finish(everything, folder, display):
    end = time.monotonic() + everything[0].deadline
    for task in everything:
        while task.process.poll() is None:
            if time.monotonic() > end:
                raise labs.LabError(f"{task.name} does not end")
            display.draw()
            time.sleep(0.05)
        task.seconds = time.monotonic() - task.began
        task.digest = result_of(task, folder / f"moved-{task.name}")
        task.state = "ended"
        display.event(f"{task.name}: ended, exit status {task.process.returncode}")
        display.draw()


def summary(everything, failure):
    print("\n  program   moves  median move   native     moved   result")
    good = failure is None
    for task in everything:
        same = task.digest is not None and task.digest == task.native_digest
        good &= same
        median = f"{sorted(task.frozen_ms)[len(task.frozen_ms) // 2]:8.0f} ms" if task.frozen_ms else "       -   "
        verdict = "identical" if same else "DIFFERS" if task.digest else "not finished"
        print(f"  {task.name:<9} {task.moves:5}  {median}  {task.native_seconds:7.1f} s {task.seconds:7.1f} s   {verdict}")
    print("\n  Output, exit status and files of each program, migrated over three nodes and back,\n"
          "  are compared byte for byte with a run that never moved.")
    if failure:
        print(f"\n  FAILED: {failure}")
    print(f"\n  {'All identical.' if good else 'Not all is identical.'}", flush=True)
    return 0 if good else 1


def main():
    if os.geteuid() != 0:
        print("The demonstration makes virtual nodes and needs root: run it with sudo.", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="tessera-demo."))
    failure, everything = None, []
    try:
        sizes = calibrate(folder)
        everything = make_tasks(folder, sizes, 1)
        display = Display(everything)
        display.event("starting a lab of four nodes")
        with labs.Lab(f"demo-{os.getpid()}", 4) as lab:
            try:
                attempts(lab, folder, sizes, display, everything)
            except (labs.LabError, subprocess.TimeoutExpired) as error:
                failure = str(error)
                log = Path(f"/tmp/tessera-demo-{os.getpid()}.log")
                log.write_text(f"{failure}\n{lab.evidence()}\n")
                failure += f" (evidence: {log})"
    except labs.LabError as error:
        failure = str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return summary(everything, failure)


if __name__ == "__main__":
    sys.exit(main())
