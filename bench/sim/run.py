#!/usr/bin/python3
"""Simulated clusters from 10 to 10,000 nodes: runs tess-sim's scenarios and writes the tables of docs/scaling.md.

  run.py [--quick] [--json FILE] [--docs] [--tess-sim PROGRAM] [--only NAME,...]

--quick leaves out 10,000 nodes, which need 3 GB of memory and some minutes.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIZES = (10, 256, 1000, 10000)
GOALS = {10: 3, 256: 3, 1000: 10, 10000: 10}  # seconds until a failure is known everywhere


def plan(sizes):
    """(table, scenario, options) of all runs."""
    for nodes in sizes:
        trials = min(20, nodes // 2) if nodes <= 1000 else 3
        for scenario in ("death", "kill", "join") + (("leave",) if nodes <= 1000 else ()):
            yield "events", scenario, {"nodes": nodes, "trials": trials}
        if nodes <= 1000:
            for scenario in ("death", "join"):
                yield "events", scenario, {"nodes": nodes, "trials": trials, "loss": 0.1}
    for nodes in sizes:
        for loss in (0, 0.01, 0.1):
            yield "steady", "steady", {"nodes": nodes, "loss": loss, "seconds": 60 if nodes <= 1000 else 30}
        if nodes <= 1000:
            yield "steady", "steady", {"nodes": nodes, "still": True, "seconds": 60}
    for nodes in (32, 256):
        for knock in (True, False):
            for scenario in ("starve", "stall"):
                for seed in (1, 2, 3):
                    yield "hunger", scenario, {"nodes": nodes, "seed": seed, **({} if knock else {"no-knock": True})}
    for share in (0.45, 0.1):
        for nodes in (8, 32, 256):
            for scenario in ("starve-kill", "starve-death"):
                for seed in (1, 2, 3):
                    yield "hunger-death", scenario, {"nodes": nodes, "affected": min(nodes, 32), "share": share, "seed": seed}
    for nodes in (10, 64, 256):
        yield "mend", "partition", {"nodes": nodes}
    for nodes in (10, 256, 1000):
        yield "mend", "cold-start", {"nodes": nodes}
    yield "mend", "mass-death", {"nodes": 256, "affected": 100}


def run(program, scenario, options):
    command = [program, scenario]
    for name, value in options.items():
        command += [f"--{name}"] + ([] if value is True else [str(value)])
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def events(results):
    rows = []
    for r in results:
        f = r["figures"]
        median, worst = (("all_know_it_s_p50", "all_know_it_s_max") if r["scenario"] == "join" else
                         ("all_known_s_p50", "all_known_s_max"))
        goal = f"{GOALS[r['nodes']]} s" if r["scenario"] in ("death", "kill") else ""
        rows.append((r["scenario"], r["nodes"], f"{r['loss']:.0%}", f"{f[median]:.2f}", f"{f[worst]:.2f}", goal, int(f["false_deaths"])))
    return table(("event", "nodes", "loss", "all know, median s", "worst s", "goal", "false deaths"), rows)


def steady(results):
    rows = []
    for r in results:
        f = r["figures"]
        rows.append((r["nodes"], f"{r['loss']:.0%}", "no" if r["options"].get("still") else "every second",
                     round(f["bytes_per_node_s_with_headers"]), round(f["bytes_per_node_s_with_headers_max"]),
                     f"{f['load_known_share']:.0%}", f"{f['load_age_s_p50']:.1f}", f"{f['load_age_s_p90']:.1f}",
                     f"{f['load_age_s_of_the_20th_newest']:.1f}" if f["load_age_s_of_the_20th_newest"] >= 0 else "", int(f["false_deaths"])))
    return table(("nodes", "loss", "loads change", "bytes/s a node", "the busiest", "loads known", "age p50 s", "p90 s", "20th newest s", "false deaths"), rows)


def hunger(results):
    rows = {}
    for r in results:
        key = (r["scenario"], r["nodes"], "no" if r["options"].get("no-knock") else "yes")
        rows.setdefault(key, []).append(r["figures"])
    return table(("scenario", "nodes (32 affected)", "kernel asked", "runs", "false deaths in all", "agreed again after, worst s"),
                 [(*key, len(f), int(sum(x["false_deaths"] for x in f)), f"{max(x['agreed_again_s'] for x in f):.1f}") for key, f in rows.items()])


def hunger_death(results):
    rows = {}
    for r in results:
        key = (r["scenario"], r["nodes"], r["options"]["affected"], f"{r['options']['share']:.0%}")
        rows.setdefault(key, []).append(r["figures"])
    return table(("scenario", "nodes", "of them starve", "share of the CPU they want", "median s", "worst s", "false deaths"),
                 [(*key, f"{statistics.median(x['all_known_s_p50'] for x in f):.1f}", unknown(max(x["all_known_s_max"] for x in f)),
                   int(sum(x["false_deaths"] for x in f))) for key, f in rows.items()])


def unknown(worst_s):
    """The simulator waits for two minutes."""
    return f"{worst_s:.1f}" if worst_s < 120 else "more than 120"


def mend(results):
    rows = []
    for r in results:
        f = r["figures"]
        for name, text in (("apart_known_s", "halves know that they are apart"), ("together_again_s", "halves are one again"),
                           ("formed_s", "all start at once: formed"), ("all_known_s", "100 of them die at once: survivors agree")):
            if name in f:
                rows.append((text, r["nodes"], f"{f[name]:.1f}"))
    return table(("what", "nodes", "s"), rows)


TABLES = {"events": events, "steady": steady, "hunger": hunger, "hunger-death": hunger_death, "mend": mend}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/scaling.md")
    parser.add_argument("--only", default=",".join(TABLES))
    parser.add_argument("--tess-sim", default=str(ROOT / "build" / "bin" / "tess-sim"))
    options = parser.parse_args()
    wanted = options.only.split(",")
    results = {}
    for name, scenario, choice in plan(SIZES[:3] if options.quick else SIZES):
        if name not in wanted:
            continue
        result = run(options.tess_sim, scenario, choice)
        result["options"] = choice
        results.setdefault(name, []).append(result)
        for promise in result["broken"][:1]:
            print(f"broken: {promise}\n  {result['rerun']}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    tables = {name: TABLES[name](rows) for name, rows in results.items()}
    for name, text in tables.items():
        print(f"## {name}\n{text}\n")
    if options.docs:
        page = ROOT / "docs" / "scaling.md"
        text = page.read_text()
        for name, rows in tables.items():
            text, count = re.subn(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, rows=rows: m[1] + rows + "\n" + m[2], text, flags=re.S)
            if count != 1:
                raise SystemExit(f"docs/scaling.md has no place for {name}")
        page.write_text(text)


if __name__ == "__main__":
    main()
