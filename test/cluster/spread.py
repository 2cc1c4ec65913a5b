#!/usr/bin/env python3
"""What a cluster does by itself, on a lab of four nodes; see README.md."""

import collections
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import lab as labs  # noqa: E402

JOBS = 12
DEADLINE = 90  # of every wait: how long things take on a busy machine is not what is tested
INTERVAL = 0.3  # asking takes CPU time of the node that is asked
TIOCSPTLCK, TIOCGPTN = 0x40045431, 0x80045430  # asm-generic/ioctls.h
QUIET_ROUNDS = 5  # rounds of decisions (one a second) that must pass without a move
SPIN = "x = 1\nwhile True:\n    x = x * 3 % 1000003\n"


class Failure(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


def tess(lab, *args, node="n1", deadline=60):
    done = lab.run(node, ["tess" if node != "n1" else lab.tess, *args], deadline=deadline)
    return done.stdout


def nodes(lab, node="n1"):
    return {entry["name"]: entry for entry in json.loads(tess(lab, "nodes", "--json", node=node))["nodes"]}


def places(lab, pids):
    """How many of the jobs run where, by what their home says."""
    table = json.loads(tess(lab, "ps", "--json"))["processes"]
    return collections.Counter(p["node"] for p in table if p["pid"] in pids)


def moves_of(lab, pids):
    return sum(p["moves"] for p in json.loads(tess(lab, "ps", "--json"))["processes"] if p["pid"] in pids)


def wait_until(condition, what, interval=INTERVAL):
    return labs.wait_until(condition, DEADLINE, what, interval=interval)


class Jobs:
    """Endless computing programs in n1 under `tess run`, by their pids there (tess run becomes the program)."""

    def __init__(self, lab, count, *options):
        self.lab = lab
        known = self.pids_now()
        self.processes = [
            lab.popen("n1", [lab.tess, "run", *options, "/usr/bin/python3", "-c", SPIN], stdin=subprocess.DEVNULL,
                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(count)]
        self.pids = wait_until(lambda: self.new_pids(known, count), f"{count} jobs to run")

    def new_pids(self, known, count):
        for process in self.processes:
            if process.poll() is not None:
                raise Failure(f"a job ended with {process.returncode}: {process.stderr.read().strip()}")
        pids = self.pids_now() - known
        return pids if len(pids) == count else None

    def pids_now(self):
        table = json.loads(tess(self.lab, "ps", "--json"))["processes"]
        return {p["pid"] for p in table if p["command"].startswith("/usr/bin/python3 -c x")}

    def end(self):
        """Ends them through their home, as any signal would."""
        self.lab.run("n1", ["/bin/kill", "-KILL", *self.pids])
        for process in self.processes:
            process.communicate(timeout=DEADLINE)


def test_membership(lab):
    for node in ("n1", "n4"):
        wait_until(lambda: len([e for e in nodes(lab, node).values() if e["state"] == "alive" and e.get("speed")]) == 4,
                   f"{node} to know everybody's load")


def test_spread(lab):
    jobs = Jobs(lab, JOBS)
    best = wait_until(lambda: even(places(lab, jobs.pids)), f"{JOBS} jobs to spread over four nodes evenly")
    wait_until(lambda: explained(lab, jobs), "tess why to explain a process that is away")
    log = json.loads(tess(lab, "log", "--json"))["moves"]
    check(len(log) >= JOBS // 2 and all(m["text"] for m in log), f"tess log says {log}")
    return jobs, best


def explained(lab, jobs):
    """Of some process that is away; any of them may just be moving on when it is asked for."""
    away = [p["pid"] for p in json.loads(tess(lab, "ps", "--json"))["processes"]
            if p["pid"] in jobs.pids and p["node"] != "n1" and p["state"] != "moving"]
    for pid in away:
        done = lab.run("n1", [lab.tess, "why", str(pid), "--json"], deadline=60, check=False)  # fails for one that moves
        why = json.loads(done.stdout)
        if done.returncode == 0 and why["can_move"] and why["why_here"] and why["would_move"] and why["last_moves"]:
            return True
    return False


def test_priority(lab):
    """The daemon and the agents come before the guests; nothing that they have started does."""
    wait_until(lambda: {"tessd", "tess-agent", "python3"} <= set(niceness(lab, "n1", "n2")), "a daemon, an agent and a guest to run")
    # A process that has just been forked has its parent's name and niceness until it executes its own program.
    wait_until(lambda: all(values == {-10} if name in ("tessd", "tess-agent") else min(values) >= 0
                           for name, values in niceness(lab, "n1", "n2").items()),
               "tessd and agents to run at nice -10, and nothing else above its share")


def niceness(lab, *names):
    """Command name -> the nice values of its processes in these nodes."""
    found = collections.defaultdict(set)
    for pid in (pid for node in names for pid in lab.processes(node)):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        name, fields = stat.split("(", 1)[1].rsplit(")", 1)
        found[name].add(int(fields.split()[16]))
    return found


def even(counts):
    return counts if len(counts) == 4 and max(counts.values()) <= JOBS // 4 + 2 else None


def test_drain(lab, jobs):
    tess(lab, "node", "drain", "n3")
    wait_until(lambda: places(lab, jobs.pids)["n3"] == 0, "n3 to be empty after `tess node drain n3`")
    check(sum(places(lab, jobs.pids).values()) == JOBS, "a job was lost by the drain")
    wait_until(lambda: nodes(lab)["n3"].get("draining"), "all to know that n3 is drained")


def test_balance_off(lab, jobs):
    """A program that wants to stay does; with balance off even an idle node attracts nobody."""
    for node in ("n1", "n2", "n3", "n4"):
        tess(lab, "set", "balance", "off", node=node)
    wait_for_rounds(lab)  # what was decided before has begun by then
    settled = wait_until(lambda: steady(lab, jobs), "moves under way to end")
    tess(lab, "node", "undrain", "n3")
    wait_for_rounds(lab)
    check(steady(lab, jobs) == settled, "processes moved with balance off")
    check(places(lab, jobs.pids)["n3"] == 0, "n3 got a process with balance off")


def wait_for_rounds(lab):
    """Each node measures itself once a round: then what n1 knows of itself is young again."""
    ages = []

    def passed():
        ages.append(nodes(lab)["n1"]["age_s"])
        return sum(late < early for early, late in zip(ages, ages[1:])) >= QUIET_ROUNDS

    wait_until(passed, f"{QUIET_ROUNDS} rounds of decisions", interval=0.2)


def steady(lab, jobs):
    """The moves of each job, unless one is moving."""
    table = [p for p in json.loads(tess(lab, "ps", "--json"))["processes"] if p["pid"] in jobs.pids]
    return {p["pid"]: p["moves"] for p in table} if all(p["state"] != "moving" for p in table) else None


def test_stay(lab):
    for node in ("n1", "n2", "n3", "n4"):
        tess(lab, "set", "balance", "on", node=node)
    staying = Jobs(lab, 1, "--stay")
    check(places(lab, staying.pids)["n1"] == 1, "a job with --stay did not start at home")
    wait_until(lambda: nodes(lab)["n3"].get("guests", 0) > 0, "n3 to be used again")
    check(places(lab, staying.pids)["n1"] == 1, "a job with --stay moved")
    staying.end()


def configuration(lab, node):
    return Path(f"/proc/{lab.node_pid(node)}/root/etc/tessera/tessera.toml")


def reconfigure(lab, node, text):
    configuration(lab, node).write_text(text)
    daemon = next(pid for pid in lab.processes(node) if labs.name_of(pid) == "tessd")
    os.kill(daemon, signal.SIGHUP)


def test_owner(lab, jobs):
    """Guests leave a node when somebody types at one of its terminals."""
    wait_until(lambda: places(lab, jobs.pids)["n2"] > 0, "n2 to have guests")
    devices = f"/proc/{lab.node_pid('n2')}/root/dev/pts"
    master = os.open(f"{devices}/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("i", fcntl.ioctl(master, TIOCGPTN, b"0000"))[0]
    terminal = os.open(f"{devices}/{number}", os.O_RDWR | os.O_NOCTTY)

    def type_a_line():
        os.write(master, b"x\n")
        os.read(terminal, 8)
        return places(lab, jobs.pids)["n2"] == 0

    try:
        old = configuration(lab, "n2").read_text()
        reconfigure(lab, "n2", 'owner = "logins"\n' + old)
        wait_until(type_a_line, "the guests of n2 to leave for its owner")
        check(sum(places(lab, jobs.pids).values()) == JOBS, "a job was lost when the owner came")
    finally:
        os.close(terminal)
        os.close(master)
    reconfigure(lab, "n2", old)


def test_death(lab):
    lab._tess(["lab", "kill", "--name", lab.name, "n4"], DEADLINE)
    for node in ("n1", "n2", "n3"):
        wait_until(lambda: nodes(lab, node)["n4"]["state"] == "dead", f"{node} to know that n4 is dead")


def main():
    started = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - started:5.1f} s  {text}", flush=True)

    # Less than two CPUs in all: the machine's other work must not make nodes look unequal.
    with labs.Lab(f"spread-{os.getpid()}", 4, ["--cpus", "0.3"], balance=True) as lab:

        def steps():
            test_membership(lab)
            say("all know all")
            jobs, counts = test_spread(lab)
            say(f"spread: {dict(counts)}, {moves_of(lab, jobs.pids)} moves")
            test_priority(lab)
            test_drain(lab, jobs)
            say(f"n3 drained: {dict(places(lab, jobs.pids))}")
            test_balance_off(lab, jobs)
            say("balance off: nothing moves")
            test_stay(lab)
            say(f"balance on: {dict(places(lab, jobs.pids))}")
            test_owner(lab, jobs)
            say(f"n2's owner came: {dict(places(lab, jobs.pids))}")
            jobs.end()
            test_death(lab)
            say("n4 is dead, and known to be")
        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
