#!/usr/bin/python3
"""Stress: a busy multi-threaded program moved 200 times at random across four nodes without a difference; programs that execute
themselves all the time, moved at random; a hundred jobs at once, moved, hopped and brought home.

  stress.py [--moves 200] [--jobs 100] [--seed 1] [--only moves|execs|jobs]
"""

import argparse
import concurrent.futures
import os
import random
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]
import build_programs  # noqa: E402
import lab as labs  # noqa: E402
from workers import Worker, bodies, jobs, migrate  # noqa: E402

PLACES = ("n2", "n3", "n4", "home")


class Failed(Exception):
    pass


def move(lab, worker, target, done_so_far):
    done = migrate(lab, worker.pid, target)
    if done.returncode != 0:
        raise Failed(f"move {done_so_far + 1} to {target}: exit {done.returncode}: {done.stdout.strip()}; the program: "
                     f"{worker.process.poll()} {worker.errors()[-800:]}")


def many_moves(lab, programs, count, seed):
    rng = random.Random(seed)
    with Worker(lab, [Path(programs) / "busy"]) as worker:
        worker.wait_output(b"ready\n")
        here, started = "home", time.monotonic()
        for number in range(count):
            here = rng.choice([place for place in PLACES if place != here])
            move(lab, worker, here, number)
            end = time.monotonic() + rng.uniform(0, 0.05)  # a random moment for the next
            while time.monotonic() < end and worker.alive():
                time.sleep(0.002)
            if not worker.alive():
                raise Failed(f"it ended after move {number + 1} ({here}): {worker.process.returncode} {worker.errors()[-800:]}")
        seconds = time.monotonic() - started
        status = worker.stop()
        wanted = b"ready\nbusy: nothing was lost, doubled or reordered\n"
        if status != 0 or worker.output() != wanted or worker.errors():
            raise Failed(f"it ended with {status}: {worker.output()!r} {worker.errors()[-1500:]!r}")
        return f"{count} moves in {seconds:.1f} s, {seconds / count * 1000:.0f} ms each, nothing lost"


def moves_and_execs(lab, programs, count, seed):
    """A move that meets an exec may be refused in words; both programs go on."""
    rng = random.Random(seed)
    with Worker(lab, [Path(programs) / "execs"]) as worker:
        worker.wait_output(b"ready\n")
        made = 0
        for number in range(count):
            made += migrate(lab, worker.pid, rng.choice(("n2", "n3", "home"))).returncode == 0
            if not worker.alive():
                raise Failed(f"it ended after move {number + 1}: {worker.process.returncode} {worker.errors()[-800:]}")
        status = worker.stop()
        if status != 0 or worker.output() != b"ready\nexecs: each program found what the last one left\n" or worker.errors():
            raise Failed(f"it ended with {status}: {worker.output()!r} {worker.errors()[-1500:]!r}")
        if made < count / 4:
            raise Failed(f"{made} of {count} moves were made")
        return f"{made} of {count} moves, every program found what the last one left"


def many_jobs(lab, programs, count, seed):
    rng = random.Random(seed)
    workers = [Worker(lab, [Path(programs) / "counter"], tells_pid=True) for _ in range(count)]
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for turn in range(3):
                targets = {worker: rng.choice(PLACES[:3]) if turn < 2 else "home" for worker in workers}
                for result in [pool.submit(move, lab, worker, target, turn) for worker, target in targets.items()]:
                    result.result(300)
                listed = jobs(lab)
                away = sum(listed.get(worker.pid, {}).get("state") == "deputy" for worker in workers)
                if turn < 2 and away != count:
                    raise Failed(f"tess ps shows {away} of {count} away")
            labs.wait_until(lambda: not bodies(lab, "counter"), 60, "the last body to go")
        for worker in workers:
            if worker.stop() != 0 or worker.output() != b"counted\n":
                raise Failed(f"{worker.pid}: {worker.process.returncode} {worker.output()!r} {worker.errors()!r}")
            data = (worker.folder / "count").read_bytes()
            lines = data.split(b"\n")[:-1]
            if lines != [b"%d" % n for n in range(1, len(lines) + 1)]:
                raise Failed(f"{worker.pid}: its count is broken")
        return f"{count} jobs out, hopped and home, every count whole"
    finally:
        for worker in workers:
            worker.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("moves", "execs", "jobs"))
    parser.add_argument("--programs", default=str(labs.ROOT / "build" / "test-programs"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("skip: needs root")
        return 77
    build_programs.build(["busy", "execs", "counter"], options.programs)
    parts = [("moves", lambda lab: many_moves(lab, options.programs, options.moves, options.seed)),
             ("execs", lambda lab: moves_and_execs(lab, options.programs, options.moves, options.seed)),
             ("jobs", lambda lab: many_jobs(lab, options.programs, options.jobs, options.seed))]
    failed = 0
    with labs.Lab(f"stress-{os.getpid()}", 4) as lab:
        for name, function in parts:
            if options.only not in (None, name):
                continue
            try:
                print(f"ok    {name:8} {function(lab)}", flush=True)
            except (Failed, labs.LabError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAIL  {name:8} {error}\n{lab.evidence()}\nrerun: test/migrate/stress.py --only {name} --seed {options.seed}"
                      f" --moves {options.moves} --jobs {options.jobs}\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
