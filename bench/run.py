#!/usr/bin/python3
"""Benchmarks of migration, in labs on this machine: medians and ratios of one run, as JSON and as the table of
docs/performance.md.

  run.py [--quick] [--only call,cpu,home,mapped,move,start] [--json FILE] [--docs]

What is compared runs in turns within the same minute, so that a busy machine touches both alike.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT / "test" / "common")]
import lab as labs  # noqa: E402

PARTS = ("call", "cpu", "home", "mapped", "move", "start")


class Worker:
    """A bench_worker in n1: one command line, one answer."""

    def __init__(self, lab, program):
        self.lab = lab
        self.process = lab.popen("n1", [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pid = int(self.ask("p"))

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise labs.LabError(f"the worker ended ({self.process.wait(10)}) at {command!r}")
        return answer.strip()

    def move(self, target, deadline=300):
        """Seconds that `tess migrate` took."""
        began = time.monotonic()
        done = subprocess.run(self.lab.command("n1", ["tess", "migrate", str(self.pid), target]), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=deadline,
                              env=labs.clean_environment(self.lab.bin_dir))
        if done.returncode != 0:
            raise labs.LabError(f"tess migrate to {target}: {done.stdout.strip()}")
        return time.monotonic() - began

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.lab.run("n1", ["sh", "-c", f"kill -KILL {self.pid}"], check=False)
            self.process.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def spread(values):
    values = sorted(values)
    return {"median": statistics.median(values), "low": values[len(values) // 10], "high": values[-1 - len(values) // 10],
            "samples": len(values)}


def address_of(lab, node):
    return lab.status()[node]["address"].split("/")[0]


def bench_call(lab, programs, rounds):
    """One forwarded null call against a raw ping-pong between the same two nodes."""
    server = lab.popen("n1", [programs / "pingpong", "serve", address_of(lab, "n1")], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        with Worker(lab, programs / "bench_worker") as worker:
            native = [float(worker.ask("n 20000")) for _ in range(rounds)]
            worker.move("n2")
            worker.ask("n 2000")  # warm
            away, raw = [], []
            for _ in range(rounds):
                away.append(float(worker.ask("n 5000")))
                raw.append(float(lab.run("n2", [programs / "pingpong", address_of(lab, "n1"), port, 5000], host_files=True).stdout))
            worker.move("home")
    finally:
        server.terminate()
        server.wait(10)
    return {"native_ns": spread(native), "forwarded_ns": spread(away), "ping_pong_ns": spread(raw),
            "ratio": statistics.median(away) / statistics.median(raw), "goal": 1.5}


def bench_cpu(lab, programs, rounds):
    """A computing body against a native process, in turns."""
    rounds_of_loop = "c 30000000"
    with Worker(lab, programs / "bench_worker") as native, Worker(lab, programs / "bench_worker") as moved:
        moved.move("n2")
        at_home, away = {"wall": [], "cpu": []}, {"wall": [], "cpu": []}
        for _ in range(rounds):
            for worker, into in ((native, at_home), (moved, away)):
                wall, cpu, _ = worker.ask(rounds_of_loop).split()
                into["wall"].append(float(wall))
                into["cpu"].append(float(cpu))
        moved.move("home")
    return {"native_ns": spread(at_home["wall"]), "away_ns": spread(away["wall"]),
            "ratio": statistics.median(away["wall"]) / statistics.median(at_home["wall"]),
            "cpu_time_ratio": statistics.median(away["cpu"]) / statistics.median(at_home["cpu"]), "goal": 1.01}


def bench_home(lab, programs, rounds):
    """A process that was away and has returned against one that nobody ever touched, in turns."""
    with Worker(lab, programs / "bench_worker") as untouched, Worker(lab, programs / "bench_worker") as returned:
        returned.move("n2")
        returned.ask("n 100")
        returned.move("home")
        calls, loops = {"untouched": [], "returned": []}, {"untouched": [], "returned": []}
        for number in range(rounds * 2):
            order = [("untouched", untouched), ("returned", returned)]
            for name, worker in order if number % 2 else reversed(order):
                calls[name].append(float(worker.ask("n 100000")))
                loops[name].append(float(worker.ask("c 10000000").split()[0]))
    result = {"goal": 1.02}
    for name, values in (("call", calls), ("cpu", loops)):
        result[name] = {"untouched_ns": spread(values["untouched"]), "returned_ns": spread(values["returned"]),
                        "ratio": statistics.median(values["returned"]) / statistics.median(values["untouched"])}
    return result


def bench_mapped(lab, programs, rounds):
    """Calls on a file that the process away has mapped shared, and changes in between, against those on one that it has not."""
    result = {}
    for mib in (1, 64):
        found = {name: {"write": [], "read": []} for name in ("mapped", "plain")}
        for _ in range(rounds):
            for name, into in found.items():
                took = lab.run("n1", ["tess", "run", "--on", "n2", programs / "turns", programs / "turns.data", mib, 500, name]).stdout.split()
                into["write"].append(float(took[0]))
                into["read"].append(float(took[1]))
        for kind in ("write", "read"):
            mapped, plain = found["mapped"][kind], found["plain"][kind]
            result[f"{kind}_{mib}"] = {"mapped_ns": spread(mapped), "plain_ns": spread(plain),
                                       "ratio": statistics.median(mapped) / statistics.median(plain)}
    return result


def iperf(lab):
    """Bits a second from n1 to n2."""
    port = 5201
    server = lab.popen("n2", ["iperf3", "-s", "-1", "-p", port], host_files=True, stdout=subprocess.DEVNULL)
    try:
        def tried():
            done = lab.run("n1", ["iperf3", "-c", address_of(lab, "n2"), "-p", port, "-t", "5", "-J"], check=False, deadline=40)
            return json.loads(done.stdout) if done.returncode == 0 else None
        result = labs.wait_until(tried, 30, "iperf3's server")
        return result["end"]["sum_received"]["bits_per_second"]
    finally:
        server.terminate()
        server.wait(10)


def bench_move(lab, programs, rounds, mib):
    """Moving memory: time of the command, throughput against iperf3 before and after, the freeze that the program sees."""
    lines, out, back, freezes = [iperf(lab)], [], [], []
    with Worker(lab, programs / "bench_worker") as worker:
        if worker.ask(f"m {mib}") != "ok":
            raise labs.LabError("no memory for the benchmark")
        worker.ask("g")
        for _ in range(rounds):
            worker.ask("g")
            out.append(worker.move("n2"))
            freezes.append(float(worker.ask("g")) / 1e6)
            back.append(worker.move("home"))
            worker.ask("g")
        if worker.ask("v") != "ok":
            raise labs.LabError("the memory is not what it was")
    lines.append(iperf(lab))
    line, bits = statistics.median(lines), mib * (1 << 20) * 8
    return {"mib": mib, "iperf_bits": line, "out_s": spread(out), "back_s": spread(back), "freeze_s": spread(freezes),
            "out_bits": bits / statistics.median(out), "back_bits": bits / statistics.median(back),
            "ratio": bits / statistics.median(out) / line, "back_ratio": bits / statistics.median(back) / line, "goal": 0.8}


def bench_start(lab, folder, rounds):
    """Starting `true` on another node: tess run against ssh with a key, in turns."""
    key, config = folder / "key", folder / "sshd_config"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host_key"], check=True)
    shutil.copy(f"{key}.pub", folder / "authorized_keys")
    config.write_text(f"Port 2222\nListenAddress {address_of(lab, 'n2')}\nHostKey {folder}/host_key\nStrictModes no\nUsePAM no\n"
                      f"PidFile none\nAuthorizedKeysFile {folder}/authorized_keys\nPermitRootLogin prohibit-password\n")
    made = not Path("/run/sshd").exists()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    daemon = lab.popen("n2", ["/usr/sbin/sshd", "-D", "-e", "-f", config], host_files=True, stderr=open(folder / "sshd.log", "wb"))
    ssh = ["ssh", "-F", "none", "-p", "2222", "-i", key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
           "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", f"root@{address_of(lab, 'n2')}", "true"]
    ways = {"ssh": ssh, "tess_run": ["tess", "run", "--on", "n2", "true"], "native": ["true"]}
    try:
        labs.wait_until(lambda: lab.run("n1", ssh, check=False).returncode == 0, 30, f"sshd: {labs.tail(folder / 'sshd.log')}")
        script = ("import json,subprocess,sys,time\nways=json.loads(sys.argv[1]); found={k: [] for k in ways}\n"
                  "for _ in range(int(sys.argv[2])):\n"
                  "  for name, argv in ways.items():\n"
                  "    began=time.monotonic(); done=subprocess.run(argv, stdin=subprocess.DEVNULL)\n"
                  "    found[name].append(time.monotonic()-began)\n"
                  "    if done.returncode: sys.exit(f'{name}: exit {done.returncode}')\n"
                  "print(json.dumps(found))")
        text = json.dumps({name: list(map(str, argv)) for name, argv in ways.items()})
        found = json.loads(lab.run("n1", ["/usr/bin/python3", "-c", script, text, rounds * 2], deadline=240).stdout)
    finally:
        daemon.terminate()
        daemon.wait(10)
        if made:
            shutil.rmtree("/run/sshd", ignore_errors=True)
    return {**{f"{name}_s": spread(values) for name, values in found.items()},
            "ratio": statistics.median(found["tess_run"]) / statistics.median(found["ssh"]), "goal": 1.0}


def build(folder):
    for name in ("bench_worker", "pingpong", "turns"):
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", folder / name, HERE / "programs" / f"{name}.c"],
                       check=True)


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {"kernel": platform.release(), "cpus": os.cpu_count(), "cpu": model.group(1) if model else "?",
            "load_before": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d")}


def measure(options, folder):
    """Every chosen part; a part that fails is told and leaves no figure."""
    results, wanted = {"machine": machine()}, options.only.split(",")
    rounds = 5 if options.quick else 11
    memory = 256 if options.quick else 1024

    def part(name, function, *args):
        if name.split(" ")[0] in wanted:
            print(f"{name}…", file=sys.stderr, flush=True)
            try:
                results[name] = function(*args)
            except (labs.LabError, subprocess.SubprocessError, OSError) as error:
                results[name] = {"error": str(error)[:500]}
                print(f"{name} failed: {error}", file=sys.stderr)

    with labs.Lab(f"bench-{os.getpid()}", 2) as lab:
        part("call", bench_call, lab, folder, rounds)
        part("cpu", bench_cpu, lab, folder, rounds)
        part("home", bench_home, lab, folder, rounds)
        part("mapped", bench_mapped, lab, folder, min(rounds, 5))
        part("start", bench_start, lab, folder, rounds)
        part("move", bench_move, lab, folder, 3, memory)
    if "move" in wanted:
        with labs.Lab(f"bench-{os.getpid()}", 2, ["--rate", "1gbit"]) as lab:
            part("move 1gbit", bench_move, lab, folder, 3, memory)
    return results


def table(results):
    """The rows of docs/performance.md; a part without figures says so."""
    rows = ["| what | compared with | measured | ratio | goal |", "| --- | --- | --- | --- | --- |"]

    def row(name, what, against, text, ratio="ratio", goal=""):
        entry = results.get(name)
        if entry and "error" not in entry:
            rows.append(f"| {what} | {against} | {text(entry)} | {ratio(entry) if callable(ratio) else format(entry[ratio], '.3f')} | {goal} |")
        else:
            rows.append(f"| {what} | {against} | not measured | - | {goal} |")

    us = lambda part: f"{part['median'] / 1000:.1f} µs"  # noqa: E731
    ms = lambda part: f"{part['median'] * 1000:.0f} ms"  # noqa: E731
    row("call", "forwarded null call (getppid)", "raw 64-byte TCP ping-pong, same link",
        lambda e: f"{us(e['forwarded_ns'])} against {us(e['ping_pong_ns'])} (native call {us(e['native_ns'])})", goal="≤ 1.5")
    row("cpu", "computing body", "native", lambda e: f"{e['away_ns']['median']:.3f} against {e['native_ns']['median']:.3f} ns a round",
        goal="≤ 1.01")
    for kind, words in (("call", "null call"), ("cpu", "computing")):
        row("home", f"returned process, {words}", "never touched",
            lambda e, k=kind: f"{e[k]['returned_ns']['median']:.2f} against {e[k]['untouched_ns']['median']:.2f} ns",
            lambda e, k=kind: f"{e[k]['ratio']:.3f}", "1 (no difference)")
    for kind in ("write", "read"):
        for mib in (1, 64):
            row("mapped", f"100 bytes {'written' if kind == 'write' else 'read'} by call, after a change by the mapping of all {mib} MiB",
                "the file not mapped", lambda e, k=f"{kind}_{mib}": f"{us(e[k]['mapped_ns'])} against {us(e[k]['plain_ns'])}",
                lambda e, k=f"{kind}_{mib}": f"{e[k]['ratio']:.1f}")
    for name, words in (("move", "unlimited link"), ("move 1gbit", "1 Gbit/s link")):
        row(name, f"moving memory out, {words}", "iperf3, same link",
            lambda e: f"{e['mib']} MiB in {e['out_s']['median']:.2f} s, {e['out_bits'] / 1e9:.2f} against {e['iperf_bits'] / 1e9:.2f} Gbit/s",
            goal="≥ 0.8")
        row(name, f"moving it back, {words}", "iperf3, same link",
            lambda e: f"{e['back_s']['median']:.2f} s, {e['back_bits'] / 1e9:.2f} Gbit/s", lambda e: f"{e['back_ratio']:.3f}", "≥ 0.8")
        row(name, f"freeze seen by the program, {words}", "", lambda e: f"{e['freeze_s']['median']:.2f} s", lambda e: "-")
    row("start", "`tess run --on n2 true`", "`ssh n2 true`",
        lambda e: f"{ms(e['tess_run_s'])} against {ms(e['ssh_s'])} (native {ms(e['native_s'])})")
    m = results["machine"]
    rows += ["", f"Measured {m['date']} on {m['cpus']} CPUs ({m['cpu']}), kernel {m['kernel']}, load {m['load_before']:.1f} before the run; medians."]
    return "\n".join(rows)


def write_docs(text):
    path = ROOT / "docs" / "performance.md"
    begin, end = "<!-- figures: written by bench/run.py --docs -->", "<!-- end of figures -->"
    page = path.read_text()
    if begin not in page or end not in page:
        raise SystemExit(f"{path} has no place for the figures")
    path.write_text(page[:page.index(begin) + len(begin)] + "\n" + text + "\n" + page[page.index(end):])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer samples, 256 MiB")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--json", help="where the figures go (default: standard output)")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    parser.add_argument("--from", dest="source", help="take the figures from this JSON file instead of measuring")
    options = parser.parse_args()
    if options.source:
        results = json.loads(Path(options.source).read_text())
    else:
        if os.geteuid() != 0:
            print("bench: needs root", file=sys.stderr)
            return 2
        with tempfile.TemporaryDirectory(prefix="tessera-bench.") as folder:
            build(Path(folder))
            results = measure(options, Path(folder))
        text = json.dumps(results, indent=1)
        if options.json:
            Path(options.json).write_text(text + "\n")
        else:
            print(text)
    print(table(results))
    if options.docs:
        write_docs(table(results))
    return 1 if any("error" in part for part in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
