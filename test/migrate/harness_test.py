#!/usr/bin/python3
"""The harness must notice: with a stand-in for `tess` that does harm, a case must fail and say why; without harm, pass."""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]
import observe  # noqa: E402
from case import portions  # noqa: E402


class Harm(unittest.TestCase):
    def run_case(self, harm, placement, case="awk", more=()):
        with tempfile.TemporaryDirectory() as state:
            books = Path(state, "books")
            books.mkdir()
            tess = Path(state, "tess")
            tess.write_text(f"#!/bin/sh\nFAKE_TESS_STATE={books} FAKE_TESS_HARM={harm} exec {HERE}/fake_tess.py \"$@\"\n")
            tess.chmod(0o755)
            return subprocess.run([sys.executable, HERE / "run.py", "--no-lab", "--tess", tess, "--case", case,
                                   "--placement", placement, *more], stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)

    def test_passes_without_harm(self):
        for placement in ("start", "mid", "hops", "back20"):
            done = self.run_case("", placement)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertIn(f"ok    awk                {placement}", done.stdout)

    def test_notices(self):
        for harm, words in (("kill", "died while being moved|ended \\(status -9\\)"),
                            ("refuse", "it is a Tuesday"), ("lie", "tess ps says"), ("output", "stdout: native")):
            done = self.run_case(harm, "hops")
            self.assertEqual(done.returncode, 1, f"{harm}: {done.stdout}")
            self.assertTrue(re.search(words, done.stdout), f"{harm}: {done.stdout}")
            self.assertIn("rerun: test/migrate/run.py --case awk --placement hops --seed 1", done.stdout)

    def test_notices_a_hang(self):
        done = self.run_case("stop", "mid", case="harness-hang")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("deadline of", done.stdout)
        self.assertIn("State: T (stopped)", done.stdout)

    def test_unknown_case(self):
        self.assertEqual(self.run_case("", "mid", case="no-such-case").returncode, 2)


class Comparison(unittest.TestCase):
    def observation(self, **more):
        fields = dict(status=0, stdout=b"a\nb\n", stderr=b"", files={"f": "file 0o644 0:0 3 abc"}, companion=[], leftovers=[])
        fields.update(more)
        return observe.Observation(**fields)

    def test_every_part_counts(self):
        same = self.observation()
        self.assertEqual(observe.differences(same, self.observation(), ()), [])
        for change in ({"status": -9}, {"stdout": b"a\nc\n"}, {"stdout": b"a\n"}, {"stderr": b"x"}, {"files": {}},
                       {"files": {"f": "file 0o644 0:0 3 abd"}}, {"companion": ["late"]}, {"leftovers": ["sh"]}):
            self.assertEqual(len(observe.differences(same, self.observation(**change), ())), 1, change)

    def test_normalisers(self):
        self.assertEqual(observe.normalise(b"[1] 4711\n[1]+  Done\n", ["job_pid"]), b"[1] PID\n[1]+  Done\n")
        self.assertEqual(observe.normalise(b"b\na\n", ["sorted_lines"]), b"a\nb\n")

    def test_tree(self):
        with tempfile.TemporaryDirectory() as root:
            Path(root, "d").mkdir()
            Path(root, "d", "f").write_text("x")
            Path(root, "l").symlink_to("d/f")
            before = observe.file_tree(root)
            self.assertEqual(sorted(before), ["d", "d/f", "l"])
            Path(root, "d", "f").write_text("y")
            self.assertNotEqual(before["d/f"], observe.file_tree(root)["d/f"])

    def test_portions_lose_nothing(self):
        data = b"".join(b"%d\n" % n for n in range(1000)) + b"no end"
        for count in (1, 7, 999, 5000):
            self.assertEqual(b"".join(step.send for step in portions(data, count)), data)


if __name__ == "__main__":
    unittest.main()
