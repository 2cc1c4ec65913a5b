#!/usr/bin/python3
"""Transparency: every small test that passes natively passes with its program placed on another node, too.

  run.py                        all programs, natively and placed at exec on another node
  run.py --program signals      one program
  run.py --test signals.nodefer one test
  run.py --at-home              not placed: at home under `tess run`, where an agent traces them

Exit status 0 if nothing differs but what EXPECTED lists, 1 otherwise, 77 if it cannot run here.
"""

import argparse
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "common"))
import lab as labs  # noqa: E402

PROGRAMS = ("proc", "signals", "calls", "cputimers", "descriptors", "errors", "suites", "kin", "machine", "mappings", "clones")
DEADLINE = 60
# Differences that are known: docs/known-limits.md says what a user notices of each.
EXPECTED = {
    "proc.vmlck_lockall": "locked memory is counted as a whole",
    "calls.rusage_killed": "what a killed child has used on a host is not known",
}
EXPECTED_AT_HOME = {
    "proc.status_ids": "TracerPid is the agent's",
    "proc.child_proc": "a stopped process is in state t, as any that is traced",
    "proc.task_dir": "a thread that has been joined is there until the agent has looked",
}


def build(program, folder):
    out = folder / program
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-O0", "-g", "-w", "-fno-pie", "-no-pie", "-z", "execstack", "-pthread", "-o", out,
                    HERE / "programs" / f"{program}.c", "-lrt"], check=True)
    return out


def run(argv, folder):
    """(status, last line) of a test; "hang" when it does not end. Its whole session is ended with it."""
    process = subprocess.Popen([str(part) for part in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", cwd=folder, start_new_session=True)
    try:
        out, _ = process.communicate(timeout=DEADLINE)
        status = process.returncode
    except subprocess.TimeoutExpired:
        status, out = "hang", ""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()
    lines = out.strip().splitlines()
    return status, lines[-1] if lines else ""


def inside(programs, wanted, folder, jobs, place, expected):
    """In the first node: prints one line for each difference; the number of unexpected ones is the exit status."""
    tests = []
    for program in programs:
        names = subprocess.run([folder / program], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        tests += [(program, name) for name in names if not wanted or f"{program}.{name}" in wanted]

    def both(test):
        program, name = test
        native = run([folder / program, name], folder)
        away = run(["tess", "run", *place, folder / program, name], folder) if native[0] == 0 else None
        return f"{program}.{name}", native, away

    same = skipped = bad = known = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for name, native, away in pool.map(both, tests):
            if away is None:
                skipped += 1
                print(f"skipped {name}: natively {native[0]}: {native[1]}")
            elif away[0] == 0:
                same += 1
                if name in expected:
                    print(f"passes now: {name} ({expected[name]})")
            elif name in expected:
                known += 1
                print(f"known {name}: {expected[name]}")
            else:
                bad += 1
                print(f"DIFFERS {name}: {away[0]}: {away[1]}")
    print(f"transparency: {same} alike, {known} known to differ, {bad} differ, {skipped} fail natively")
    return min(bad, 100)


def in_a_lab(script, programs, nodes, options):
    """Builds the programs and runs the script again in the first node of a lab, with --inside and where they are; its status."""
    if os.geteuid() != 0 or not shutil.which("gcc"):
        print("needs root and gcc")
        return 77
    folder = Path(tempfile.mkdtemp(prefix="truth-"))
    try:
        for program in programs:
            build(program, folder)
        folder.chmod(0o777)
        with labs.Lab(f"truth{os.getpid()}", nodes) as lab:
            return subprocess.run(lab.command("n1", ["/usr/bin/python3", script, "--inside", folder, *options]),
                                  env=labs.clean_environment(lab.bin_dir)).returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", action="append", choices=PROGRAMS)
    parser.add_argument("--test", action="append", default=[])
    parser.add_argument("--at-home", action="store_true")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    programs = list(dict.fromkeys(arguments.program or [test.split(".")[0] for test in arguments.test] or PROGRAMS))
    if arguments.inside:
        how = (["--home"], EXPECTED_AT_HOME) if arguments.at_home else (["--on", "n2"], EXPECTED)
        return inside(programs, arguments.test, Path(arguments.inside), arguments.jobs, *how)
    return in_a_lab(__file__, programs, 2, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
