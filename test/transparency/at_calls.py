#!/usr/bin/python3
"""Transparency at every call: a small test that passes when it is stopped for a moment after one of its system calls passes
when it is moved there, too, and when it goes to another node and back after every one.

  at_calls.py                          each test moved after two of its calls, drawn with --seed
  at_calls.py --points 20 --seed 7     after twenty of them
  at_calls.py --every 1                to another node and back after every call (--every 5: every fifth)
  at_calls.py --test kin.storm --call 41 --moves n2,n3,home    one point of one test

Exit status 0 if nothing differs but what EXPECTED lists, 1 otherwise, 77 if it cannot run here.
"""

import argparse
import concurrent.futures
import random
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import run as whole  # noqa: E402

ROUTES = ("n2", "n2,n3", "n2,home", "n2,n3,home,n2")
MOST_TRIPS = 60  # of one test, for its deadline
PAUSE_MS = 700  # about what moves take: a test that counts on being faster fails without them, too
# Beyond those of run.py.
EXPECTED = {
    "signals.itimer_prof": "each move may lose a tick of CPU time, and it goes on until there have been a few",
    "proc.smaps_rollup": "after a return pages of files are not resident before they are touched",
    "proc.status_vm": "the same of VmRSS",
    "proc.statm": "the same, also on another node",
    "proc.smaps": "one that was opened at home, before the move, tells of its deputy, whose memory is empty",
    "suites.stat_by_others": "two descriptors of one that was opened at home, before the move, no longer share their position",
}


class Watched:
    """Runs of one test under programs/at_call.c."""

    def __init__(self, folder, program, name):
        self.folder, self.program, self.name = folder, program, name

    def run(self, call, moves):
        """(status, last line, calls watched, moves made, what tess said to one that was not)"""
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="report-") as report:
            status, line = whole.run([self.folder / "at_call", report.name, call, moves, self.folder / self.program, self.name], self.folder)
            calls, made, refusal = (Path(report.name).read_text().rstrip("\n") or "0 0 ").split(" ", 2)
            return status, line, int(calls), int(made), refusal


def points_of(watched, count, seed, first):
    """Calls drawn from those that the test makes, its start apart."""
    status, _, calls, _, _ = watched.run(0, "-")
    if status != 0:
        return []
    rng = random.Random(f"{watched.program}.{watched.name}/{seed}")
    begin = min(first, calls)
    numbers = sorted(rng.sample(range(begin, calls + 1), min(count, calls + 1 - begin)))
    return [(number, rng.choice(ROUTES)) for number in numbers if number > 0]


def try_point(watched, call, moves):
    """None: it fails without moves, too, or was over; else what differs, "" if nothing, and the moves made."""
    many = str(call).startswith("every")
    if watched.run(call, "-" if many else f"-{PAUSE_MS}")[0] != 0:
        return None
    status, line, _, made, refusal = watched.run(call, moves)
    if status == 0:
        return "", made, refusal
    if many and watched.run(call, f"-{PAUSE_MS}")[0] != 0:  # so many pauses take long: only where it matters
        return None
    return f"{status}: {line}" + (f" (refused: {refusal})" if refusal else ""), made, refusal


def inside(arguments, folder):
    tests = []
    for program in arguments.programs:
        names = subprocess.run([folder / program], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        tests += [Watched(folder, program, name) for name in names if not arguments.test or f"{program}.{name}" in arguments.test]
    if arguments.some:
        tests = sorted(random.Random(arguments.seed).sample(tests, min(arguments.some, len(tests))), key=lambda test: (test.program, test.name))
    # What every program of these does before its test begins.
    first = Watched(folder, tests[0].program, "-").run(0, "-")[2] if tests else 0

    def one(watched):
        if arguments.call:
            points = [(arguments.call, arguments.moves)]
        elif arguments.every:
            calls = watched.run(0, "-")[2]
            points = [(f"every:{max(arguments.every, calls // MOST_TRIPS + 1)}", "n2,home")]
        else:
            points = points_of(watched, arguments.points, arguments.seed, first)
        return watched, [(call, moves, try_point(watched, call, moves)) for call, moves in points]

    alike = bad = skipped = known = made_in_all = refused = moved = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for watched, results in pool.map(one, tests):
            name = f"{watched.program}.{watched.name}"
            for call, moves, result in results:
                if result is None:
                    skipped += 1
                    continue
                difference, made, refusal = result
                made_in_all += made
                moved += made > 0
                refused += 1 if refusal else 0
                if not difference:
                    alike += 1
                    if refusal and arguments.refusals:
                        print(f"refused {name} {call}: {refusal}", flush=True)
                elif name in EXPECTED or name in whole.EXPECTED:
                    known += 1
                else:
                    bad += 1
                    print(f"DIFFERS {name}: {difference}\n  again: {HERE}/at_calls.py --test {name} --call {call} --moves {moves}", flush=True)
    print(f"at calls: {alike} alike, {known} known to differ, {bad} differ, {skipped} fail without moves; {made_in_all} moves, {refused} refused")
    points = alike + bad + known
    if moved < points * 2 // 3:
        print(f"only {moved} of {points} were moved")
        return 1
    return min(bad, 100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", action="append", choices=whole.PROGRAMS)
    parser.add_argument("--test", action="append", default=[])
    parser.add_argument("--points", type=int, default=2)
    parser.add_argument("--some", type=int, help="only as many tests, drawn with --seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int)
    parser.add_argument("--call")
    parser.add_argument("--moves", default="n2")
    parser.add_argument("--refusals", action="store_true", help="say which moves were refused, and why")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.programs = list(dict.fromkeys(arguments.program or [test.split(".")[0] for test in arguments.test] or whole.PROGRAMS))
    if arguments.inside:
        return inside(arguments, Path(arguments.inside))
    return whole.in_a_lab(__file__, [*arguments.programs, "at_call"], 3, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
