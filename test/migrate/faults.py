#!/usr/bin/python3
"""Walks through every named fault point of a migration and breaks something there. Afterwards there is exactly one live
copy that counts on without a gap, or the program has ended with a clear message; and the cluster goes on working.

  faults.py                       every point, with the two actions at home and one outside event each
  faults.py --point out.before_transfer --action kill
Actions: fail, kill (the agent at the point), host (the target's agent is killed), tessd-home, tessd-target, link (of the target).
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]
import build_programs  # noqa: E402
import lab as labs  # noqa: E402
from workers import Worker, bodies, jobs, migrate  # noqa: E402

OUTSIDE = ("host", "tessd-home", "tessd-target", "link")
SETTLE = 90  # a lost peer is noticed after TCP_USER_TIMEOUT


class Broken(Exception):
    pass


def points(lab):
    text = subprocess.run([lab.bin_dir / "tess-agent", "fault-points"], check=True, text=True, stdout=subprocess.PIPE,
                          timeout=60).stdout
    return text.split()


AT_SOURCE = ("host.before_freeze", "host.before_send", "host.after_send", "host.before_thaw")


def plan_of(point):
    """(moves before the armed one, its target, the node whose agent is armed) for a fault point."""
    kind = point.split(".")[0]
    if kind == "host":
        return (["n3"], "n2", "n3") if point in AT_SOURCE else ([], "n2", "n2")
    return {"out": ([], "n2", "n1"), "hop": (["n3"], "n2", "n1"), "back": (["n2"], "home", "n1")}[kind]


def run_directory(lab, node):
    return Path(f"/proc/{lab.node_pid(node)}/root/run/tessera")


def find_process(lab, node, words):
    for pid in lab.processes(node):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if re.search(words, line):
            return pid
    return None


def interfere(lab, action, target):
    """Does the outside event; returns a function that repairs what the cluster needs for the next round."""
    node = "n2" if target == "home" else target
    if action == "host":
        pid = find_process(lab, node, r"tess-agent host")
        if pid:
            os.kill(pid, signal.SIGKILL)
        return lambda: None
    if action == "link":
        lab.run(node, ["ip", "link", "set", "eth0", "down"], host_files=True)
        return lambda: mend_link(lab, node)
    where = "n1" if action == "tessd-home" else node
    pid = find_process(lab, where, r"(^|/)tessd( |$)")
    if not pid:
        raise Broken(f"no tessd in {where}")
    os.kill(pid, signal.SIGKILL)
    return lambda: restart_tessd(lab, where)


def mend_link(lab, node):
    lab.run(node, ["ip", "link", "set", "eth0", "up"], host_files=True)
    wait_all_up(lab)


def restart_tessd(lab, node):
    lab.start(node)
    wait_all_up(lab)


def wait_all_up(lab):
    labs.wait_until(lambda: all(entry.get("up") for entry in known_nodes(lab)), 30, "all nodes to see each other again")


def known_nodes(lab):
    import json
    done = lab.run("n1", ["tess", "nodes", "--json"], check=False)
    try:
        return json.loads(done.stdout)["nodes"]
    except (ValueError, KeyError):
        return [{"up": False}]


def count_so_far(worker):
    """The last number written; raises if the lines are not 1, 2, 3, …"""
    data = (worker.folder / "count").read_bytes()
    lines = data.split(b"\n")[:-1]
    if lines != [b"%d" % n for n in range(1, len(lines) + 1)]:
        bad = next(i for i, line in enumerate(lines) if line != b"%d" % (i + 1))
        raise Broken(f"the count is broken after {bad} lines: {lines[bad - 1:bad + 3]}: two copies lived, or one lost its place")
    return len(lines)


def told_lost(lab, pid):
    """What a terminal and tessd are told when a body is lost."""
    return re.search(rf"event=job_log .* pid={pid} text=.* is lost", lab.log("n1").read_text(errors="replace"))


def check_one_copy(lab, worker, migrate_text):
    """Either it counts on and its body is where it should be, or it ended and said why."""
    before = count_so_far(worker)
    labs.wait_until(lambda: not worker.alive() or count_so_far(worker) > before + 20, SETTLE,
                    f"progress beyond {before} or an end; {migrate_text}")
    if not worker.alive():
        text = worker.errors() + migrate_text
        if worker.process.returncode == 0:
            raise Broken(f"it ended with status 0 but was not asked to: {text!r}")
        labs.wait_until(lambda: re.search(r"(?i)lost|gone|died|failed", text) or told_lost(lab, worker.pid), SETTLE,
                        f"a clear message for its end with {worker.process.returncode}; there was {text!r}")
        labs.wait_until(lambda: not bodies(lab, "counter"), SETTLE, "its body to end with it")
        return "ended: " + (worker.errors().strip().splitlines() or [migrate_text.strip()])[-1][:100]

    def settled():
        entry, live = jobs(lab).get(worker.pid), bodies(lab, "counter")
        if not worker.alive():
            return True
        if entry and entry["state"] == "deputy":
            return len(live) == 1 and live[0][0] == entry["node"]
        return (not entry or entry["state"] == "native") and not live
    labs.wait_until(settled, SETTLE, f"exactly one copy; now {jobs(lab).get(worker.pid)}, bodies {bodies(lab, 'counter')}", 0.1)
    entry = jobs(lab).get(worker.pid)
    return f"lives on {entry['node']}" if entry and entry["state"] == "deputy" else "lives at home"


def scenario(lab, programs, point, action):
    before, target, at = plan_of(point)
    repair = lambda: None  # noqa: E731
    with Worker(lab, [Path(programs) / "counter"], tells_pid=True) as worker:
        labs.wait_until(lambda: (worker.folder / "count").exists() and count_so_far(worker) > 5, 60, "the count to begin")
        try:
            for node in before:
                done = migrate(lab, worker.pid, node)
                if done.returncode != 0:
                    raise Broken(f"the move before failed: {done.stdout.strip()}")
            armed = run_directory(lab, at) / "fault"
            kind = action if action in ("fail", "kill") else "delay"
            armed.write_text(f"{point}:{kind}\n")
            if point == "host.before_thaw":  # reached only when something else fails
                (run_directory(lab, "n1") / "fault").write_text("hop.before_connect:fail\n")
            mover = subprocess.Popen(lab.command("n1", ["tess", "migrate", str(worker.pid), target]), text=True, errors="replace",
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                     env=labs.clean_environment(lab.bin_dir))
            try:
                labs.wait_until(lambda: not armed.exists() or mover.poll() is not None, 60, f"{point} to be reached")
                if armed.exists():
                    armed.unlink()
                    raise Broken(f"{point} was never reached: {mover.communicate(timeout=60)[0].strip()}")
                if kind == "delay":
                    repair = interfere(lab, action, target)
                text = mover.communicate(timeout=90)[0]
            finally:
                if mover.poll() is None:
                    mover.kill()
                    mover.wait(10)
            if action == "tessd-home":  # what is looked at is asked of it
                repair()
                repair = lambda: None  # noqa: E731
            result = check_one_copy(lab, worker, text)
            repair()
            repair = lambda: None  # noqa: E731
            if worker.alive():
                goes_on(lab, worker)
            return f"migrate exit {mover.returncode}; {result}"
        except (Broken, labs.LabError, subprocess.TimeoutExpired) as error:
            raise Broken(f"{error}\nstderr: {worker.errors()}\n{lab.evidence()}") from None
        finally:
            repair()


def goes_on(lab, worker):
    """A survivor can still be moved, comes home, and ends as it should."""
    for target in ("n4", "home"):
        done = [migrate(lab, worker.pid, target)]
        if "is moving already" in done[0].stdout:  # the asker went away, the move goes on

            def again():
                done[0] = migrate(lab, worker.pid, target)
                return "is moving already" not in done[0].stdout
            labs.wait_until(again, SETTLE, "the move to end")
        done = done[0]
        if done.returncode != 0:
            raise Broken(f"afterwards it cannot move to {target}: {done.stdout.strip()}")
    before = count_so_far(worker)
    labs.wait_until(lambda: count_so_far(worker) > before, 60, "progress after the last move")
    if worker.stop() != 0 or worker.output() != b"counted\n":
        raise Broken(f"afterwards it ended with {worker.process.returncode}: {worker.output()!r} {worker.errors()!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", action="append")
    parser.add_argument("--action", action="append", choices=("fail", "kill", *OUTSIDE))
    parser.add_argument("--all", action="store_true", help="every outside event at every point")
    parser.add_argument("--programs", default=str(labs.ROOT / "build" / "test-programs"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("skip: needs root")
        return 77
    build_programs.build(["counter"], options.programs)
    failed = 0
    with labs.Lab(f"faults-{os.getpid()}", 4) as lab:
        every = points(lab)
        print(f"{len(every)} fault points", flush=True)
        if not every:
            print("FAIL  tess-agent fault-points names none")
            return 1
        for index, point in enumerate(options.point or every):
            outside = OUTSIDE if options.all else (OUTSIDE[index % len(OUTSIDE)],)
            for action in options.action or ("fail", "kill", *outside):
                try:
                    print(f"ok    {point:24} {action:13} {scenario(lab, options.programs, point, action)}", flush=True)
                except (Broken, labs.LabError) as error:
                    failed += 1
                    print(f"FAIL  {point:24} {action:13} {error}\nrerun: test/migrate/faults.py --point {point} --action {action}\n",
                          flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
