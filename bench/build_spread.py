#!/usr/bin/env python3
"""A plain `make -j32` of many small C files in a lab of nodes that have a part of a CPU each: on one node alone, and under
`tess run`, which places every compiler at its exec. Prints one JSON line; see README.md.

The quota makes the nodes the limit, not the machine. Both runs build the same files with the same compiler; the objects are
compared byte by byte.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test" / "common"))
import lab as labs  # noqa: E402


def source(number, functions):
    """One C file, different from all others, of a size that takes a compiler some tenths of a second."""
    pick = random.Random(number)
    text = ["#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>", "#include <math.h>", "#include <time.h>"]
    for index in range(functions):
        a, b, c = (pick.randrange(2, 1000) for _ in range(3))
        text.append(f"""
static double work_{index}(const double *in, double *out, size_t n) {{
  double sum = {a}.0;
  for (size_t i = 0; i + 2 < n; ++i) {{
    out[i] = in[i] * {b} + in[i + 1] / {c} - sqrt(in[i + 2] + {a});
    if (out[i] > {c}) {{ sum += sin(out[i]) * {index + 1}; }} else {{ sum -= out[i] / (1.0 + in[i]); }}
    switch ((int)out[i] & 7) {{ case 1: sum *= 1.5; break; case 3: sum += {b}; break; case 6: sum = -sum; break; default: break; }}
  }}
  return sum;
}}""")
    calls = "\n".join(f"  total += work_{index}(in, out, n);" for index in range(functions))
    text.append(f"double file_{number}(const double *in, double *out, size_t n) {{\n  double total = 0;\n{calls}\n  return total;\n}}\n")
    return "\n".join(text)


def write_tree(where, files, functions):
    where.mkdir()
    for number in range(files):
        (where / f"f{number}.c").write_text(source(number, functions))
    names = " ".join(f"f{number}.o" for number in range(files))
    (where / "Makefile").write_text(f"all: {names}\n%.o: %.c\n\tgcc -O2 -c -o $@ $<\n")


def digest(where):
    total = hashlib.sha256()
    for path in sorted(where.glob("*.o")):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def build(lab, where, jobs, deadline, under_tess):
    command = ["make", "-s", "-C", str(where), f"-j{jobs}"]
    began = time.monotonic()
    lab.run("n1", ([lab.tess, "run"] if under_tess else []) + command, deadline=deadline)
    return time.monotonic() - began


def exec_moves(lab):
    moves = json.loads(lab.run("n1", [lab.tess, "log", "--json"]).stdout)["moves"]
    return sum(1 for move in moves if move["cause"] == "exec"), len(moves)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--nodes", type=int, default=4)
    options.add_argument("--cpus", default="0.4")
    options.add_argument("--files", type=int, default=200)
    options.add_argument("--functions", type=int, default=12)
    options.add_argument("--jobs", type=int, default=32)
    options.add_argument("--deadline", type=int, default=1200)
    given = options.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tess-build-"))
    try:
        for tree in ("alone", "spread"):
            write_tree(work / tree, given.files, given.functions)
        with labs.Lab("build", given.nodes, ["--cpus", given.cpus], up_deadline=180, balance=True) as lab:
            alone = build(lab, work / "alone", given.jobs, given.deadline, False)
            spread = build(lab, work / "spread", given.jobs, given.deadline, True)
            at_exec, moves = exec_moves(lab)
        same = digest(work / "alone") == digest(work / "spread")
        count = len(list((work / "spread").glob("*.o")))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(json.dumps({"nodes": given.nodes, "cpus": float(given.cpus), "files": given.files, "jobs": given.jobs,
                      "alone_s": round(alone, 1), "spread_s": round(spread, 1), "speedup": round(alone / spread, 2),
                      "moves_at_exec": at_exec, "moves": moves, "objects": count, "same_objects": same,
                      "machine_load": os.getloadavg()[0]}))
    return 0 if same and count == given.files else 1


if __name__ == "__main__":
    sys.exit(main())
