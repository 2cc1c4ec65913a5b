#!/usr/bin/env python3
"""What the cluster costs when it is idle and how well it balances, on a lab of nodes that have a part of a CPU each.

  idle    CPU that `tessd` uses on a node where nothing runs, in per cent of one CPU
  mixed   32 jobs of very different lengths started at once on one node: the time until the last has ended, against the best
          possible one, and how often a job was moved
  death   seconds until all others know that a node has lost its power while every node is full of work

Prints one JSON line; see README.md. The quota makes the nodes the limit, not the machine: nodes x cpus must be below what the
machine has to spare. The best possible time counts the CPU seconds that the jobs themselves say they took.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test" / "common"))
import lab as labs  # noqa: E402

WORK = """
import time
left, value = {rounds}, 1
while left:
    left -= 1
    for _ in range(20000):
        value = value * 3 % 1000003
print(value, time.process_time())
"""
SPIN = "x = 1\nwhile True:\n    x = x * 3 % 1000003\n"
TICKS = os.sysconf("SC_CLK_TCK")


def tess(lab, *args, node="n1"):
    return json.loads(lab.run(node, ["tess" if node != "n1" else lab.tess, *args, "--json"], deadline=60).stdout)


def states(lab, node):
    return {entry["name"]: entry["state"] for entry in tess(lab, "nodes", node=node)["nodes"]}


def settled(lab, names):
    def all_known():
        table = tess(lab, "nodes")["nodes"]
        return len([e for e in table if e["state"] == "alive" and e.get("speed")]) == len(names)

    labs.wait_until(all_known, 60, "all nodes to be known with their loads")


def daemon_cpu(lab, name):
    """CPU seconds of the node's tessd so far."""
    for pid in lab.processes(name):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        if stat.split("(", 1)[1].rsplit(")", 1)[0] == "tessd":
            fields = stat.rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / TICKS
    raise SystemExit(f"{name} has no tessd")


def idle(lab, names, seconds):
    before = {name: daemon_cpu(lab, name) for name in names}
    began = time.monotonic()
    labs.wait_until(lambda: time.monotonic() - began >= seconds, seconds + 5, "the time to pass", interval=0.5)
    passed = time.monotonic() - began
    return {name: round(100 * (daemon_cpu(lab, name) - before[name]) / passed, 2) for name in names}


def round_cost():
    """CPU seconds of one round of WORK here: how long the jobs are made, nothing else. The least of several runs: what else
    the machine does only makes it more."""
    def once():
        done = subprocess.run(["/usr/bin/python3", "-c", WORK.format(rounds=100)], capture_output=True, text=True, check=True)
        return float(done.stdout.split()[1]) / 100

    return min(once() for _ in range(7))


def lengths(count, longest, seed):
    """CPU seconds: many short jobs and a few long ones, the longest of them as given."""
    pick = random.Random(seed)
    drawn = [min(pick.paretovariate(1.1), 20) for _ in range(count)]
    return [longest * value / max(drawn) for value in drawn]


def mixed(lab, nodes, cpus, count, longest, seed, deadline):
    cost = round_cost()
    rounds = [max(1, round(seconds / cost)) for seconds in lengths(count, longest, seed)]
    began = time.monotonic()
    jobs = [lab.popen("n1", [lab.tess, "run", "/usr/bin/python3", "-c", WORK.format(rounds=r)], stdin=subprocess.DEVNULL,
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for r in rounds]
    took = []
    for job in jobs:
        out, err = job.communicate(timeout=deadline)
        if job.returncode != 0:
            raise SystemExit(f"a job ended with {job.returncode}: {err.strip()}")
        took.append(float(out.split()[1]))
    makespan = time.monotonic() - began
    moves = [m for m in tess(lab, "log")["moves"]]
    by_cause = {}
    for move in moves:
        by_cause[move["cause"]] = by_cause.get(move["cause"], 0) + 1
    best = max(sum(took) / (nodes * cpus), max(took) / min(cpus, 1))
    return {"jobs": count, "cpu_s": round(sum(took), 1), "longest_cpu_s": round(max(took), 1), "makespan_s": round(makespan, 1),
            "best_possible_s": round(best, 1), "ratio": round(makespan / best, 2), "moves": len(moves),
            "moves_per_job": round(len(moves) / count, 2), "moves_by_cause": by_cause}


def death(lab, names, count):
    jobs = [lab.popen("n1", [lab.tess, "run", "/usr/bin/python3", "-c", SPIN], stdin=subprocess.DEVNULL,
                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(count)]
    last = names[-1]

    def spread():
        table = tess(lab, "ps")["processes"]
        return {p["node"] for p in table} >= set(names)

    labs.wait_until(spread, 120, "jobs to be on every node")
    killed = time.monotonic()
    subprocess.run([lab.tess, "lab", "kill", "--name", lab.name, last], check=True, timeout=60)
    known = {}

    def all_know():
        for name in names[:-1]:
            if name not in known and states(lab, name)[last] == "dead":
                known[name] = time.monotonic() - killed
        return len(known) == len(names) - 1

    labs.wait_until(all_know, 180, f"all to know that {last} is dead")
    load = os.getloadavg()[0]
    for job in jobs:
        job.kill()
        job.wait()
    return {"jobs": count, "first_s": round(min(known.values()), 1), "all_s": round(max(known.values()), 1), "machine_load": load}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nodes", type=int, default=4)
    options.add_argument("--cpus", type=float, default=0.4)
    options.add_argument("--jobs", type=int, default=32)
    options.add_argument("--longest", type=float, default=12, help="CPU seconds of the longest job")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--idle-seconds", type=int, default=20)
    options.add_argument("--deadline", type=int, default=900)
    options.add_argument("--only", default="idle,mixed,death")
    given = options.parse_args()
    names = [f"n{i + 1}" for i in range(given.nodes)]
    wanted = given.only.split(",")
    result = {"nodes": given.nodes, "cpus": given.cpus}
    with labs.Lab("bench", given.nodes, ["--cpus", str(given.cpus)], up_deadline=180, balance=True) as lab:
        settled(lab, names)
        if "idle" in wanted:
            result["idle_percent"] = idle(lab, names, given.idle_seconds)
            result["idle_percent_median"] = statistics.median(result["idle_percent"].values())
        if "mixed" in wanted:
            result["mixed"] = mixed(lab, given.nodes, given.cpus, given.jobs, given.longest, given.seed, given.deadline)
        if "death" in wanted:
            result["death"] = death(lab, names, given.nodes * 6)
    result["machine_load"] = os.getloadavg()[0]
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
