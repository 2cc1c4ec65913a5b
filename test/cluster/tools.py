#!/usr/bin/env python3
"""The tools that people use, on a lab of three nodes where nothing moves by itself: metrics, settings that last, moves and
signals for many processes and for those of other nodes, `tess top` on a terminal, the names of the ancestors; see README.md."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

import spread
from spread import Failure, Jobs, check, labs, nodes, places, tess

DEADLINE = 60
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[()].|[=>78])|[\x0e\x0f]")
SCRAPE = "import urllib.request as u; r = u.urlopen('http://127.0.0.1:9717/metrics', timeout=20); " \
         "print(r.headers['Content-Type']); print(r.read().decode())"


def fails(lab, node, *args):
    """Exit status and words of a tess command that is expected to fail."""
    done = lab.run(node, [lab.tess if node == "n1" else "tess", *args], deadline=60, check=False)
    check(done.returncode != 0, f"tess {args} on {node} succeeded: {done.stdout}")
    return done.returncode, done.stdout + done.stderr


def restart(lab, node, between=lambda: None):
    lab._tess(["lab", "stop", "--name", lab.name, node], 60)
    between()
    lab.start(node)
    labs.wait_until(lambda: lab.run(node, [lab.tess if node == "n1" else "tess", "nodes", "--json"], check=False).returncode == 0,
                    DEADLINE, f"tessd of {node} to answer again", interval=0.1)
    for other in ("n1", "n2", "n3"):
        labs.wait_until(lambda: all_alive(lab, other), DEADLINE, f"{node} and {other} to know each other again", interval=0.1)


def all_alive(lab, node="n1"):
    return all(entry["state"] == "alive" and entry["up"] for entry in nodes(lab, node).values())


def test_metrics(lab):
    """n1 answers scrapes after a restart with `metrics` in its configuration."""
    config = ["sed", "-i", '1i metrics = "127.0.0.1"', "/etc/tessera/tessera.toml"]
    restart(lab, "n1", lambda: lab.run("n1", config))
    values = scrape(lab)
    check(values['tessera_members{state="alive"}'] == 3, "the members that metrics tell")
    check(values["tessera_peers_connected"] == 2, "the connections that metrics tell")
    check(values["tessera_node_memory_bytes"] > 1e6 and values["tessera_node_speed_ratio"] > 0, "figures of the node")
    check(sum(v for k, v in values.items() if k.startswith("tessera_datagrams_sent_total")) > 0, "no datagram was counted")


def scrape(lab):
    lines = lab.run("n1", ["/usr/bin/python3", "-c", SCRAPE]).stdout.splitlines()
    check("version=0.0.4" in lines[0], f"content type {lines[0]}")
    samples = [line.rsplit(" ", 1) for line in lines[1:] if line and not line.startswith("#")]
    return {name: float(value) for name, value in samples}


def test_settings_last(lab):
    tess(lab, "set", "residency", "7", node="n2")
    restart(lab, "n2")
    values = json.loads(tess(lab, "set", "--json", node="n2"))["values"]
    check(values["residency"] == 7, f"residency after a restart is {values['residency']}")
    tess(lab, "set", "residency", "default", node="n2")
    check(json.loads(tess(lab, "set", "--json", node="n2"))["values"]["residency"] != 7, "a default that does not come back")
    code, words = fails(lab, "n2", "set", "residency", "soon")
    check(code == 2 and "number" in words, words)
    labs.wait_until(lambda: all_alive(lab) and all_alive(lab, "n3"), DEADLINE, "all to know all", interval=0.1)


def job_of(lab, pid):
    return next(p["job"] for p in json.loads(tess(lab, "ps", "--json"))["processes"] if p["pid"] == pid)


def test_many(lab, jobs, links):
    """Whole jobs and whole nodes move, also when another node's root says so."""
    first = min(jobs.pids)
    said = tess(lab, "migrate", "--job", job_of(lab, first)[-8:], "n2")
    check("1 of 1 processes now on n2" in said, said)
    for pid in jobs.pids - {first}:
        lab.run("n1", [links / "migrate", str(pid), "n2"])
    check(places(lab, jobs.pids)["n2"] == len(jobs.pids), f"jobs are at {places(lab, jobs.pids)}")
    said = tess(lab, "migrate", "--all-from", "n2", "n3", node="n3")
    check(f"{len(jobs.pids)} of {len(jobs.pids)}" in said, said)
    check(places(lab, jobs.pids)["n3"] == len(jobs.pids), f"jobs are at {places(lab, jobs.pids)}")
    listed = [p for p in json.loads(tess(lab, "ps", "-a", "--json", node="n2"))["processes"] if p["home"] == "n1"]
    check(len(listed) == len(jobs.pids), f"{len(listed)} lines for {len(jobs.pids)} processes that are away")
    check({p["cause"] for p in listed} == {"person"}, f"causes {[p['cause'] for p in listed]}")
    labs.wait_until(lambda: scrape(lab)['tessera_moves_total{reason="person",result="moved"}'] >= 2 * len(jobs.pids), DEADLINE,
                    "the moves to be counted", interval=0.1)


def test_top_once(lab, jobs):
    wait_for_cpu = (lambda: sum(p.get("cpu", 0) > 0 for p in
                                json.loads(tess(lab, "top", "--json", node="n2"))["processes"]) == len(jobs.pids))
    labs.wait_until(wait_for_cpu, DEADLINE, "the CPU use of every job to be known elsewhere", interval=0.1)
    text = tess(lab, "top", "--once", "--sort", "pid", "--width", "120", node="n2")
    for pid in jobs.pids:
        check(re.search(rf"^ *{pid} .*python3.* n1 +n3 .*person", text, re.M), f"{pid} is not in:\n{text}")
    check("3 of 3 nodes up" in text and max(map(len, text.splitlines())) <= 120, text)
    code, words = fails(lab, "n2", "top")
    check(code == 1 and "needs a terminal" in words, words)


class Screen:
    """`tess top` in n1 on a terminal of its own; what it wrote, without the escapes."""

    def __init__(self, lab, rows, columns):
        self.seen = ""
        argv = lab.command("n1", [lab.tess, "top"])
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, dict(labs.clean_environment(lab.bin_dir), TERM="xterm"))
        self.resize(rows, columns)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, words, deadline=DEADLINE):
        end = time.monotonic() + deadline
        self.seen = ""
        while words not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            check(ready, f"tess top did not show '{words}' but: {self.seen[-2000:]}")
            try:
                piece = os.read(self.fd, 65536)
            except OSError:
                raise Failure(f"tess top ended before it showed '{words}': {self.seen[-2000:]}") from None
            self.seen += ESCAPES.sub("", piece.decode(errors="replace"))

    def repainted(self):
        """All of the table: the help is shown and left, or else only what has changed would be written."""
        self.type("h")
        self.wait_for("migrate the selected process")
        self.type("q")
        self.wait_for("d,u drain")
        return self.seen

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def end(self):
        """Its exit status. What it still writes is read: it would wait otherwise."""
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def abandon(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def test_top_live(lab, jobs):
    screen = Screen(lab, 24, 80)
    try:
        screen.wait_for("3 of 3 nodes up")
        screen.resize(50, 200)
        screen.wait_for("KERNEL")
        screen.type("/python3\r")
        screen.wait_for(f"({len(jobs.pids)} of ")
        screen.type("h")
        screen.wait_for("migrate the selected process")
        screen.type("q")
        screen.wait_for("nodes up")
        screen.type("mhome\r")
        screen.wait_for("done")
        check(places(lab, jobs.pids)["n1"] == 1, f"after m home: {places(lab, jobs.pids)}")

        def without():
            screen.wait_for("does not run")

        restart(lab, "n1", without)
        labs.wait_until(lambda: "does not run" not in screen.repainted(), DEADLINE, "tess top to show tessd's picture again", interval=0.2)
        screen.type("q")
        check(screen.end() == 0, "tess top did not end well")
    except BaseException:
        screen.abandon()
        raise


def state(lab, pid):
    return lab.run("n1", ["cat", f"/proc/{pid}/stat"]).stdout.rsplit(")", 1)[1].split()[0]


def test_kill(lab, jobs, links):
    """Signals from another node, and for a job; only what is meant gets them."""
    victim, *others = sorted(jobs.pids)
    fails(lab, "n2", "kill", "-s", "STOP", str(victim))  # not there, or a part of Tessera that happens to have that pid
    check(state(lab, victim) not in "Tt", f"n2 stopped {victim} of n1 without being told where it is")
    tess(lab, "kill", "-s", "STOP", "--at", "n1", str(victim), node="n2")
    labs.wait_until(lambda: state(lab, victim) in "Tt", DEADLINE, f"{victim} to stop")
    check(all(state(lab, pid) not in "Tt" for pid in others), "another one stopped")
    lab.run("n1", [links / "migrate", str(victim), "continue"])
    labs.wait_until(lambda: state(lab, victim) not in "Tt", DEADLINE, f"{victim} to go on")
    lab.run("n1", [links / "moskillall", "-KILL", "-j" + job_of(lab, victim)])
    labs.wait_until(lambda: jobs.pids_now() == set(others), DEADLINE, f"{victim} to end")
    tess(lab, "kill", "-s", "KILL", *map(str, others))
    labs.wait_until(lambda: not jobs.pids_now(), DEADLINE, "the others to end")
    statuses = {process.wait(timeout=DEADLINE) for process in jobs.processes}
    check(statuses <= {-signal.SIGKILL, 128 + signal.SIGKILL}, f"they ended with {statuses}")


def test_ancestors(lab, links):
    done = lab.run("n1", [links / "mosrun", "-rn2", "-m10", "sh", "-c", "echo $((6 * 7)); exit 3"], check=False)
    check((done.returncode, done.stdout.strip()) == (3, "42"), f"mosrun: {done}")
    check(lab.run("n1", [links / "mosctl", "isup", "n3"]).stdout.strip() == "alive", "mosctl isup")
    check(lab.run("n1", [links / "mosbestnode"]).stdout.strip() in ("n1", "n2", "n3"), "mosbestnode")
    for command, status in (("true", 0), ("false", 1)):
        done = lab.run("n1", [links / "mosrun", "-q", command], deadline=DEADLINE, check=False)
        check(done.returncode == status, f"mosrun -q, which waits for its job: {done}")
    done = lab.run("n1", [links / "mosrun", "-P4", "true"], check=False)
    check(done.returncode == 2 and "of queued jobs" in done.stderr, f"mosrun -P: {done}")
    with tempfile.NamedTemporaryFile("w", suffix=".jobs") as file:
        file.write("echo one\necho two; echo 'three  3'\n")
        file.flush()
        done = lab.run("n1", [links / "mosrun", "-S2", file.name])
        check(sorted(done.stdout.splitlines()) == ["one", "three  3", "two"], f"mosrun -S: {done}")


def main():
    started = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - started:5.1f} s  {text}", flush=True)

    with labs.Lab(f"tools-{os.getpid()}", 3, balance=False) as lab, tempfile.TemporaryDirectory(prefix="tess-links-") as folder:
        links = Path(folder)
        for name in ("mosrun", "mosctl", "migrate", "moskillall", "mosbestnode"):
            (links / name).symlink_to(lab.tess)

        def steps():
            spread.labs.wait_until(lambda: all_alive(lab), DEADLINE, "all to know all", interval=0.1)
            test_metrics(lab)
            say("metrics are served")
            test_settings_last(lab)
            say("settings last")
            jobs = Jobs(lab, 3)
            test_many(lab, jobs, links)
            say("many at once, also from another node")
            test_top_once(lab, jobs)
            test_top_live(lab, jobs)
            say("top")
            test_kill(lab, jobs, links)
            say("signals")
            test_ancestors(lab, links)
            say("the ancestors' names")
        return labs.judge(lab, steps, Failure)


if __name__ == "__main__":
    sys.exit(main())
