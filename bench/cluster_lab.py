#!/usr/bin/env python3
"""What the cluster costs when it is idle and how well it balances, on a lab of nodes that have a part of a CPU each.

  idle    CPU that `tessd` uses on a node where nothing runs, in per cent of one CPU
  mixed   32 jobs of very different lengths started at once on one node: the time until the last has ended, against the best
          possible one, what else the nodes' CPUs did meanwhile, and how often a job was moved
  death   seconds until all others know that a node has lost its power while every node is full of work
  starve  (not unless asked for: --only starve --nodes 32 --cpus 0.03) a program that computes without end in the quota of each
          node: nodes falsely held for dead within a minute, and seconds until all know of a tessd that was killed, of a node in
          which everything was killed, and of one that fell silent (its link is down)

Prints one JSON line; see README.md. The quota makes the nodes the limit, not the machine: nodes x cpus must be below what the
machine has to spare. The best possible time counts the CPU seconds that the jobs themselves say they took.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test" / "common"))
import lab as labs  # noqa: E402

# A job: rounds of work, and what it does besides. Says what it took: CPU seconds (its clock may go back when it comes home),
# and seconds that it slept.
WORK = """
import os, time
kind, left, value, slept, took = {kind!r}, {rounds}, 1, 0.0, 0.0
memory = bytearray({memory} << 20)
page, last = 0, time.process_time()
file = os.open('/etc/passwd', os.O_RDONLY) if kind == 'calls' else -1
while left:
    left -= 1
    for _ in range(20000):
        value = value * 3 % 1000003
    if memory:
        memory[page] = value & 255
        page = (page + 4096 * 17) % len(memory)
    if kind == 'calls' and left % 4 == 0:
        os.pread(file, 512, 0)
    if kind == 'sleeps' and left % 50 == 0:
        time.sleep(0.1)
        slept += 0.1
    if left % 16 == 0:
        now = time.process_time()
        took, last = took + max(0.0, now - last), now
print(value, took, slept)
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


def daemon_pid(lab, name):
    for pid in lab.processes(name):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        if stat.split("(", 1)[1].rsplit(")", 1)[0] == "tessd":
            return pid
    raise SystemExit(f"{name} has no tessd")


def daemon_cpu(lab, name):
    """CPU seconds of the node's tessd so far."""
    fields = Path(f"/proc/{daemon_pid(lab, name)}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def prefer(lab, names):
    """Lets the nodes have their share before all else on this machine: the quota, not the others, is to be their limit."""
    for name in names:
        for line in Path(f"/proc/{lab.node_pid(name)}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            top = Path("/sys/fs/cgroup")
            for file, value in ((top / "cpu" / path[1:] / "cpu.shares", "200000"), (top / path[1:] / "cpu.weight", "10000")):
                if ("cpu" in controllers.split(",") or not controllers) and path != "/" and file.exists():
                    file.write_text(value)


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
        done = subprocess.run(["/usr/bin/python3", "-c", WORK.format(kind="computes", rounds=160, memory=0)], capture_output=True,
                              text=True, check=True)
        return float(done.stdout.split()[1]) / 160

    return min(once() for _ in range(7))


def lengths(count, longest, seed, draw):
    """CPU seconds, the longest as given. "mixed" as in the simulator: two of five jobs are short (2 to 8), two middling (15 to
    35), one long (50 to 80); "heavy-tailed": many short ones and a few that are longer than all others together."""
    pick = random.Random(seed)
    if draw == "mixed":
        kinds = ((2, 8), (15, 35), (2, 8), (15, 35), (50, 80))
        drawn = [pick.uniform(*kinds[i % len(kinds)]) for i in range(count)]
        pick.shuffle(drawn)
    else:
        drawn = [min(pick.paretovariate(1.1), 20) for _ in range(count)]
    return [longest * value / max(drawn) for value in drawn]


def fair_time(took, nodes, cpus):
    """Seconds that a schedule takes that does not know the lengths, shares all nodes evenly among those left at every instant,
    and costs nothing: what lies between it and the best possible one is the price of not knowing the future."""
    time_s, done = 0.0, 0.0
    for left, length in zip(range(len(took), 0, -1), sorted(took)):
        time_s += (length - done) / min(cpus, 1, nodes * cpus / left)
        done = length
    return time_s


def kinds_of(count, mix):
    """Of every eight jobs four compute, two have memory, one reads a file at home all the time, one sleeps now and then."""
    order = ["computes", "remembers", "computes", "calls", "computes", "remembers", "computes", "sleeps"] if mix else ["computes"]
    return [order[i % len(order)] for i in range(count)]


def agents(lab, names):
    """Pids of agents that have not ended yet."""
    found = []
    for pid in (pid for name in names for pid in lab.processes(name)):
        try:
            if Path(f"/proc/{pid}/comm").read_text() == "tess-agent\n":
                found.append(pid)
        except OSError:
            pass
    return found


def used_by_nodes(lab, names):
    """CPU seconds of every tessd and of all that they have waited for: agents that have ended, and with them bodies."""
    total = 0
    for name in names:
        stat = Path(f"/proc/{daemon_pid(lab, name)}/stat").read_text().rsplit(")", 1)[1].split()
        total += sum(int(stat[i]) for i in range(11, 15)) / TICKS
    return total


def used_by_children():
    """Of this program: what jobs used at home, and `tess run` itself."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def back_and_forth(moves):
    """Moves for balance that return a process to a node that it had left for balance within 30 s."""
    left, count = {}, 0
    for move in sorted(moves, key=lambda one: -one["ago_s"]):
        if move["cause"] not in ("balance", "turn", "memory") or move["outcome"] != "moved":
            continue
        gone = left.setdefault(move["pid"], {})
        if move["to"] in gone and gone[move["to"]] - move["ago_s"] < 30:
            count += 1
        gone[move["from"]] = move["ago_s"]
    return count


def mixed(lab, names, cpus, given):
    cost, count = round_cost(), given.jobs
    rounds = [max(1, round(seconds / cost)) for seconds in lengths(count, given.longest, given.seed, given.lengths)]
    kinds = kinds_of(count, given.mix)
    nodes_before, children_before, load = used_by_nodes(lab, names), used_by_children(), []
    began = time.monotonic()
    jobs = [lab.popen("n1", [lab.tess, "run", "/usr/bin/python3", "-c",
                             WORK.format(kind=kind, rounds=r, memory=given.memory if kind == "remembers" else 0)],
                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for kind, r in zip(kinds, rounds)]
    took, slept = [], []
    for job in jobs:
        out, err = job.communicate(timeout=given.deadline)
        if job.returncode != 0:
            raise SystemExit(f"a job ended with {job.returncode}: {err.strip()}")
        took.append(float(out.split()[1]))
        slept.append(float(out.split()[2]))
        load.append(os.getloadavg()[0])
    makespan = time.monotonic() - began
    labs.wait_until(lambda: not agents(lab, names), 60, "the agents to end")
    total = used_by_nodes(lab, names) - nodes_before + used_by_children() - children_before
    moves = tess(lab, "log")["moves"]
    if given.moves:
        Path(given.moves).write_text("".join(f"{m['ago_s']:7.1f} {m['pid']} {m['from']} {m['to']} {m['cause']} {m['outcome']} {m['text']} "
                                             f"{m['because']}\n" for m in moves))
    by_cause = {}
    for move in moves:
        by_cause[move["cause"]] = by_cause.get(move["cause"], 0) + 1
    capacity = len(names) * cpus
    best = max(sum(took) / capacity, max(t / min(cpus, 1) + s for t, s in zip(took, slept)))
    fair = fair_time(took, len(names), cpus) if not any(slept) else None
    return {"jobs": count, "kinds": "mixed" if given.mix else "compute", "lengths": given.lengths, "cpu_s": round(sum(took), 1),
            "longest_cpu_s": round(max(took), 1), "makespan_s": round(makespan, 1), "best_possible_s": round(best, 1),
            "ratio": round(makespan / best, 3), "fair_to_best": fair and round(fair / best, 3),
            "ratio_to_fair": fair and round(makespan / fair, 3), "overhead_cpu_s": round(total - sum(took), 1),
            "not_used_cpu_s": round(makespan * capacity - total, 1), "moves": len(moves),
            "moves_per_job": round(len(moves) / count, 2), "moves_by_cause": by_cause, "back_and_forth": back_and_forth(moves),
            "machine_load": [round(min(load), 1), round(statistics.mean(load), 1), round(max(load), 1)]}


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


def limit(lab, name, cpus):
    """Another quota for a node that is up."""
    for line in Path(f"/proc/{lab.node_pid(name)}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        top = Path("/sys/fs/cgroup")
        if "cpu" in controllers.split(",") and path != "/":
            period = int((top / "cpu" / path[1:] / "cpu.cfs_period_us").read_text())
            (top / "cpu" / path[1:] / "cpu.cfs_quota_us").write_text(str(int(period * cpus)))
        elif not controllers and path != "/" and (top / path[1:] / "cpu.max").exists():
            (top / path[1:] / "cpu.max").write_text(f"{int(100000 * cpus)} 100000")


def deaths(lab, name):
    return lab.log(name).read_text(errors="replace").count("event=member_died")


def known_after(lab, names, end):
    """Seconds from when `end` has begun until each of the nodes has told of one death more."""
    before = {name: deaths(lab, name) for name in names}
    began, known = time.monotonic(), {}
    end()

    def all_know():
        for name in names:
            if name not in known and deaths(lab, name) > before[name]:
                known[name] = time.monotonic() - began
        return len(known) == len(names)

    labs.wait_until(all_know, 180, "all to know of a death")
    return {"median_s": round(statistics.median(known.values()), 2), "all_s": round(max(known.values()), 2)}


def starve(lab, names, cpus, seconds):
    spinning = [lab.popen(name, ["/usr/bin/python3", "-c", SPIN], host_files=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL) for name in names]
    for name in names:
        limit(lab, name, cpus)
    began = time.monotonic()
    labs.wait_until(lambda: time.monotonic() - began >= seconds, seconds + 60, "the time to pass", interval=0.5)
    result = {"seconds": round(time.monotonic() - began, 1), "false_deaths": sum(deaths(lab, name) for name in names)}
    victim = daemon_pid(lab, names[-1])
    result["killed"] = known_after(lab, names[:-1], lambda: os.kill(victim, 9))
    kill = [lab.tess, "lab", "kill", "--name", lab.name, names[-2]]
    result["all_killed"] = known_after(lab, names[:-2], lambda: subprocess.run(kill, check=True, timeout=60))
    silence = ["nsenter", "-t", str(lab.node_pid(names[-3])), "-n", "ip", "link", "set", "eth0", "down"]
    result["silent"] = known_after(lab, names[:-3], lambda: subprocess.run(silence, check=True, timeout=60))
    result["machine_load"] = os.getloadavg()[0]
    for one in spinning:
        one.kill()
        one.wait()
    return result


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nodes", type=int, default=4)
    options.add_argument("--cpus", type=float, default=0.4)
    options.add_argument("--jobs", type=int, default=32)
    options.add_argument("--longest", type=float, default=12, help="CPU seconds of the longest job")
    options.add_argument("--lengths", choices=("mixed", "heavy-tailed"), default="mixed", help="how the lengths are drawn")
    options.add_argument("--mix", action="store_true", help="not all jobs only compute: some have memory, call home, sleep")
    options.add_argument("--memory", type=int, default=32, help="MiB of a job that has memory, with --mix")
    options.add_argument("--prefer", action="store_true", help="the nodes come before all else on this machine")
    options.add_argument("--name", default="bench", help="of the lab")
    options.add_argument("--moves", help="file for the moves and their reasons")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--idle-seconds", type=int, default=20)
    options.add_argument("--deadline", type=int, default=900)
    options.add_argument("--only", default="idle,mixed,death")
    given = options.parse_args()
    names = [f"n{i + 1}" for i in range(given.nodes)]
    wanted = given.only.split(",")
    result = {"nodes": given.nodes, "cpus": given.cpus}
    # Nodes that starve from their start would be long in coming up.
    at_first = max(given.cpus, 0.5) if wanted == ["starve"] else given.cpus
    with labs.Lab(given.name, given.nodes, ["--cpus", str(at_first)], up_deadline=300, balance=wanted != ["starve"]) as lab:
        settled(lab, names)
        if given.prefer:
            prefer(lab, names)
        if "idle" in wanted:
            result["idle_percent"] = idle(lab, names, given.idle_seconds)
            result["idle_percent_median"] = statistics.median(result["idle_percent"].values())
        if "mixed" in wanted:
            result["mixed"] = mixed(lab, names, given.cpus, given)
        if "starve" in wanted:
            result["starve"] = starve(lab, names, given.cpus, 60)
        if "death" in wanted:
            result["death"] = death(lab, names, given.nodes * 6)
    result["machine_load"] = os.getloadavg()[0]
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
