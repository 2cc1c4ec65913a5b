"""A lab seen from the machine: up, down, commands in its nodes, and what to look at when something goes wrong.

Used by the equivalence suite, the fault walk, the stress, the demonstration and the benchmarks. Nothing here knows about
programs under test. Every wait has a deadline; only processes that this object started are ever ended.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class LabError(Exception):
    pass


def find_binaries():
    """Folder that holds tess, tessd and tess-agent: $TESS_BIN_DIR, else the newest build/*/bin."""
    if os.environ.get("TESS_BIN_DIR"):
        return Path(os.environ["TESS_BIN_DIR"]).resolve()
    built = [p.parent for p in ROOT.glob("build/*/bin/tess")]
    if not built:
        raise LabError("no tess in build/*/bin: build it first, or set TESS_BIN_DIR")
    return max(built, key=lambda p: (p / "tess").stat().st_mtime)


def clean_environment(bin_dir=None):
    """The same few variables for every program, so that two runs cannot differ by them."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    if bin_dir:
        path = f"{bin_dir}:{path}"
    return {"PATH": path, "LC_ALL": "C", "LANG": "C", "TZ": "UTC", "TERM": "dumb", "HOME": "/root", "USER": "root"}


class Lab:
    """One lab, taken down when this object closes, the process exits, or gets SIGTERM, SIGINT or SIGHUP."""

    def __init__(self, name, nodes=4, options=(), bin_dir=None, up_deadline=120, balance=False):
        """balance: whether processes move by themselves; most tests say themselves what moves when."""
        self.name = name
        self.bin_dir = Path(bin_dir) if bin_dir else find_binaries()
        self.tess = str(self.bin_dir / "tess")
        self.running = False
        self._owner = os.getpid()
        self._node_pids = {}
        atexit.register(self.down)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda s, _frame: sys.exit(128 + s))
        self.running = True  # an interrupted `up` may have left something: `down` is asked anyway
        try:
            self._tess(["lab", "up", str(nodes), "--name", name, *([] if balance else ["--no-balance"]), *options], up_deadline)
        except LabError:
            self.running = False
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()

    def _tess(self, args, deadline):
        done = subprocess.run([self.tess, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=deadline, text=True, errors="replace",
                              env=dict(os.environ, PATH=clean_environment(self.bin_dir)["PATH"]))
        if done.returncode != 0:
            raise LabError(f"tess {' '.join(args)}: exit {done.returncode}: {done.stdout.strip()}")
        return done.stdout

    def down(self):
        if not self.running or os.getpid() != self._owner:
            return
        self.running = False
        try:
            self._tess(["lab", "down", "--name", self.name], 60)
        except (LabError, subprocess.TimeoutExpired) as error:
            print(f"lab {self.name} did not come down: {error}", file=sys.stderr)

    def command(self, node, argv, host_files=False):
        """The argument vector that runs argv in a node."""
        extra = ["--host-files"] if host_files else []
        return [self.tess, "lab", "exec", "--name", self.name, *extra, node, *map(str, argv)]

    def popen(self, node, argv, host_files=False, **keywords):
        keywords.setdefault("env", clean_environment(self.bin_dir))
        return subprocess.Popen(self.command(node, argv, host_files), **keywords)

    def run(self, node, argv, deadline=60, host_files=False, check=True, **keywords):
        keywords.setdefault("env", clean_environment(self.bin_dir))
        done = subprocess.run(self.command(node, argv, host_files), stdin=subprocess.DEVNULL, text=True, errors="replace",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=deadline, **keywords)
        if check and done.returncode != 0:
            raise LabError(f"{node}: {' '.join(map(str, argv))}: exit {done.returncode}: {done.stderr.strip()}")
        return done

    def status(self):
        """Node name -> its entry in `tess lab status --json`."""
        data = json.loads(self._tess(["lab", "status", "--name", self.name, "--json"], 60))
        return {entry["name"]: entry for entry in data["nodes"]}

    def node_pid(self, node):
        """Machine-side pid of the node's process 1; the same for the lab's whole life."""
        if node not in self._node_pids:
            self._node_pids[node] = int(self.status()[node]["pid"])
        return self._node_pids[node]

    def processes(self, node):
        """Machine-side pids of every process in a node: those in its pid namespace and their descendants (which may be in
        namespaces below it, as bodies are)."""
        init = self.node_pid(node)
        namespace = os.readlink(f"/proc/{init}/ns/pid")
        children, queue = {}, []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    parent = int(Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1])
                    if os.readlink(f"/proc/{entry}/ns/pid") == namespace:
                        queue.append(int(entry))
                except (OSError, IndexError):
                    continue
                children.setdefault(parent, []).append(int(entry))
        found = set()
        while queue:
            pid = queue.pop()
            if pid not in found:
                found.add(pid)
                queue.extend(children.get(pid, []))
        return sorted(found)

    def start(self, node, deadline=60):
        """Starts tessd in a node again, once the one that was stopped or killed there has wholly ended."""
        wait_until(lambda: all(name_of(pid) != "tessd" for pid in self.processes(node)), deadline, f"tessd of {node} to be gone")
        self._tess(["lab", "start", "--name", self.name, node], deadline)

    def log(self, node):
        """The file that a node's tessd writes its log to."""
        return Path(f"/run/tessera-lab/{self.name}/{node}.log")

    def evidence(self):
        """Text for a failure message: lab status, every node's processes and logs."""
        parts = []
        try:
            nodes = self.status()
        except Exception as error:  # noqa: BLE001  (evidence must never hide the failure it explains)
            return f"(no lab status: {error})"
        for node in sorted(nodes):
            try:
                parts.append(f"==== {node}: processes")
                parts += [describe_process(pid) for pid in self.processes(node)]
                for log in sorted(Path(f"/proc/{self.node_pid(node)}/root/run/tessera").glob("*.log")):
                    parts.append(f"==== {node}: {log.name} (tail)\n{tail(log)}")
            except Exception as error:  # noqa: BLE001
                parts.append(f"({node}: {error})")
        for log in sorted(Path(f"/run/tessera-lab/{self.name}").glob("*.log")):
            parts.append(f"==== {log.name} (tail)\n{tail(log)}")
        return "\n".join(parts)


def tail(path, size=6000):
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return f"({error})"
    return data[-size:].decode(errors="replace")


def name_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def describe_process(pid):
    """One process and its threads: state, where it waits, its kernel stack when readable."""
    def read(name):
        try:
            return Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError as error:
            return f"({error.strerror})"

    wanted = ("State", "PPid", "TracerPid", "NSpid", "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigCgt", "Seccomp")
    lines = [line for line in read("status").splitlines() if line.split(":")[0] in wanted]
    text = f"-- {pid} [{read('comm')}] {read('cmdline')[:160]}\n   " + "; ".join(" ".join(x.split()) for x in lines)
    try:
        tasks = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except OSError:
        return text
    for task in tasks[:20]:
        stack = " < ".join(x.split("] ")[-1].split("+")[0] for x in read(f"task/{task}/stack").splitlines()[:6])
        text += f"\n   {task}: wchan={read(f'task/{task}/wchan')} syscall={read(f'task/{task}/syscall')[:60]} stack={stack}"
    return text


def judge(lab, steps, *failures):
    """Runs the steps of a test; exit status 1, with the lab's evidence printed, if one of these failures ends them."""
    try:
        steps()
    except (*failures, LabError, subprocess.TimeoutExpired) as failure:
        print(f"FAILED: {failure}\n{lab.evidence()[-20000:]}\nFAILED: {failure}")
        return 1
    return 0


def wait_until(predicate, deadline, what, interval=0.01):
    """Waits for a condition (never for a time); raises LabError naming it when the deadline passes."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"waited {deadline} s in vain for: {what}")
        time.sleep(interval)
