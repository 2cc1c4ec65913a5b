#!/usr/bin/python3
"""Equivalence suite: a program migrated under a placement must be indistinguishable from the same program run natively.

  run.py --list                                   the cases
  run.py --case NAME                              native twice, then every placement of the case
  run.py --case NAME --placement hops --seed 7    one placement (hops12: twelve moves)
  run.py --native                                 all cases natively twice, without a lab: proves that they are deterministic

Exit status 0 all identical, 1 a difference or failure, 77 the case cannot run here (said why).
"""

import argparse
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]
import build_programs  # noqa: E402
import cases  # noqa: E402
import lab as labs  # noqa: E402
import observe  # noqa: E402
import outside as outsides  # noqa: E402
import plan  # noqa: E402
from program import CaseFailure, become_subreaper  # noqa: E402

SKIP = 77


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help="case name, may be repeated (default: all)")
    parser.add_argument("--placement", help="start, mid, hops, hopsN, back20, native or all", default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--native", action="store_true", help="only two native runs, no lab")
    parser.add_argument("--hold", type=float, default=0.0, help="let each run go on for that many seconds before it is ended")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--names", action="store_true", help="case names only, for ctest")
    parser.add_argument("--tests", action="store_true", help="each case and placement as NAME.PLACEMENT, for ctest")
    parser.add_argument("--programs", default=str(labs.ROOT / "build" / "test-programs"), help="where test programs are built")
    parser.add_argument("--no-lab", action="store_true", help="run here, without nodes (for the harness's own tests)")
    parser.add_argument("--tess", help="the tess command to use")
    parser.add_argument("--lab", help="use this running lab instead of an own one")
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # base folder: we are in n1 already
    return parser.parse_args(argv)


def missing(case):
    """Why this case cannot run on this machine, or None."""
    for need in case.needs:
        found = Path(need).exists() if need.startswith("/") else shutil.which(need, path=labs.clean_environment()["PATH"])
        if not found:
            return f"{need} is not installed"
    return None


class Runner:
    """All placements of one case in one folder; native runs come first and are the measure."""

    def __init__(self, case, base, options, outside):
        self.case, self.base, self.options, self.outside = case, base, options, outside
        self.work = base / "work"
        self.programs = Path(options.programs)
        self.environment = {**labs.clean_environment(), "HOME": str(self.work), **case.environment}
        if options.tess:
            self.environment["PATH"] = f"{Path(options.tess).parent}:{self.environment['PATH']}"
        self.native = None

    def _fill(self, text):
        return str(text).replace("{programs}", str(self.programs)).replace("{work}", str(self.work))

    def once(self, placement):
        if self.work.exists():
            shutil.rmtree(self.work)
        self.work.mkdir(parents=True)
        argv = [self._fill(part) for part in self.case.argv]
        return plan.play(self.case, placement, self.options.seed, argv, self.work, self.environment, self.options.tess,
                         self.outside, self.options.hold)

    def run_native(self):
        first, second = self.once("native"), self.once("native")
        found = observe.differences(first.observation, second.observation, self.case.normalisers)
        if found:
            raise CaseFailure("two native runs differ:\n  " + "\n  ".join(found))
        observation = first.observation
        if observation.status != self.case.status:
            raise CaseFailure(f"the native run ended with {observation.status}, expected {self.case.status}; "
                              f"stderr {observation.stderr[-1500:]!r} stdout {observation.stdout[-500:]!r}")
        if self.case.proof not in observation.stdout:
            raise CaseFailure(f"the native run did not print {self.case.proof!r}: {observation.stdout[-1500:]!r} "
                              f"stderr {observation.stderr[-1500:]!r}")
        self.native = observation
        return first

    def compare(self, placement):
        outcome = self.once(placement)
        found = observe.differences(self.native, outcome.observation, self.case.normalisers)
        if found:
            raise CaseFailure("it is not what a native run gives:\n  " + "\n  ".join(found) +
                              f"\nstderr: {outcome.observation.stderr[-1500:]!r}\nmoves:\n{outcome.history}")
        return outcome


def run_case(case, base, options, outside):
    """Prints one line a placement; returns how many failed."""
    runner, failed = Runner(case, base, options, outside), 0
    placements = [options.placement] if options.placement != "all" else list(case.placements)
    if options.native:
        placements = []
    for placement in ["native"] + [p for p in placements if p != "native"]:
        try:
            outcome = runner.run_native() if placement == "native" else runner.compare(placement)
            print(f"ok    {case.name:18} {placement:7} {outcome.moves:3} moves {outcome.seconds:7.2f} s", flush=True)
        except CaseFailure as failure:
            failed += 1
            again = f"test/migrate/run.py --case {case.name} --placement {placement} --seed {options.seed}"
            print(f"FAIL  {case.name:18} {placement:7} {failure}\nrerun: {again}\n", flush=True)
            if placement == "native":
                return failed  # nothing to compare with
    return failed


def inside(options, chosen):
    """In n1 (or here, without a lab): runs the chosen cases."""
    become_subreaper()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    base = Path(options.inside) if options.inside else Path(tempfile.mkdtemp(prefix="tessera-migrate."))
    outside = outsides.Client(base / "outside.sock") if options.inside and not options.no_lab else outsides.Direct()
    try:
        return 1 if sum(run_case(case, base, options, outside) for case in chosen) else 0
    finally:
        if not options.inside:
            shutil.rmtree(base, ignore_errors=True)


def in_lab(options, chosen):
    """On the machine: makes the lab, runs this program again in n1, passes its output and status on."""
    base = Path(tempfile.mkdtemp(prefix="tessera-migrate."))
    try:
        with labs.Lab(f"mig-{os.getpid()}", 4, bin_dir=Path(options.tess).parent if options.tess else None) as lab:
            outsides.Server(lab, base / "outside.sock").start()
            argv = ["/usr/bin/python3", HERE / "run.py", "--inside", base, "--tess", lab.tess, "--programs", options.programs,
                    "--placement", options.placement, "--seed", options.seed,
                    "--hold", options.hold]
            for case in chosen:
                argv += ["--case", case.name]
            limit = sum(case.deadline * (2 + 3 * len(case.placements)) + 60 for case in chosen)
            process = lab.popen("n1", argv, stdin=subprocess.DEVNULL)
            try:
                return process.wait(limit)
            except subprocess.TimeoutExpired:
                print(f"FAIL  the run did not end within {limit} s\n{lab.evidence()}", flush=True)
                return 1
            finally:  # interrupted: the lab's end takes what is still in it
                if process.poll() is None:
                    process.kill()
                    process.wait(10)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def main():
    options = parse(sys.argv[1:])
    known = {case.name: case for case in [*cases.ALL, cases.HANG]}
    if options.tests:
        for case in cases.ALL:
            for placement in case.placements:
                print(f"{case.name}.{placement}")
        return 0
    if options.list or options.names:
        for case in cases.ALL:
            print(case.name if options.names else f"{case.name:18} {case.about}")
        return 0
    unknown = [name for name in options.case or [] if name not in known]
    if unknown:
        print(f"no such case: {', '.join(unknown)}; --list shows them", file=sys.stderr)
        return 2
    chosen = [known[name] for name in options.case] if options.case else cases.ALL
    if options.inside or options.no_lab:
        return inside(options, chosen)
    skipped = {case.name: why for case in chosen if (why := missing(case))}
    for name, why in skipped.items():
        print(f"skip  {name}: {why}", flush=True)
    chosen = [case for case in chosen if case.name not in skipped]
    if not chosen:
        return SKIP
    if not options.native and os.geteuid() != 0:
        print("skip: migration needs root (and so does the lab)")
        return SKIP
    try:
        build_programs.build([name for case in chosen for name in case.build], options.programs)
    except subprocess.CalledProcessError as error:
        print(f"FAIL  building test programs: {shlex.join(error.cmd)}:\n{error.stdout}")
        return 1
    return inside(options, chosen) if options.native else in_lab(options, chosen)


if __name__ == "__main__":
    sys.exit(main())
