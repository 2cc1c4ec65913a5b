"""Placements: where the program is during its life, and how a run under one is carried out. Runs inside node n1."""

import json
import os
import random
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from program import CaseFailure, Program, Stuck, process_state

MOVE_DEADLINE = 90
HOSTS = ("n2", "n3", "n4")


@dataclass
class Move:
    target: str         # node name or "home"
    pause: float = 0.0  # how long the program runs on before it, a random moment
    root: bool = True   # the root process, else a random one of the tree


def moves_of(placement, seed, case):
    """The list of moves of a placement; only hops depends on the seed."""
    rng = random.Random(f"{case.name}/{placement}/{seed}")
    any_process = case.who == "any"
    if placement in ("native", "start"):
        return []
    if placement == "mid":
        return [Move("n2", 0.0, not any_process)] * (3 if any_process else 1)
    if placement == "back20":
        moves = []
        for i in range(20):
            moves.append(Move(HOSTS[i % 3], rng.uniform(0, 0.03)))
            moves.append(Move("home", rng.uniform(0, 0.03)))
        return moves
    if placement.startswith("hops"):
        count = int(placement[4:] or 8)
        moves, last = [], "home"
        for i in range(count):
            # The first three go from host to host; then anything, home included.
            last = rng.choice([n for n in (*HOSTS, "home") if n != last and (i >= 3 or n != "home")])
            moves.append(Move(last, rng.uniform(0, 0.2), not any_process or rng.random() < 0.3))
        return moves
    raise ValueError(f"no placement {placement}")


class Mover:
    """Moves processes with `tess migrate` and checks that they are where they should be."""

    def __init__(self, tess, case, rng):
        self.tess, self.case, self.rng = tess, case, rng
        self.log = []
        self.done = 0

    def _call(self, args, deadline):
        try:
            return subprocess.run([self.tess, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", timeout=deadline)
        except subprocess.TimeoutExpired as error:
            raise Stuck(f"tess {' '.join(args)} did not answer within {deadline} s; moves so far:\n{self.history()}") from error

    def history(self):
        return "\n".join(f"  {when:7.3f}s {what}" for when, what in self.log) or "  (none)"

    def where(self):
        """pid -> entry of `tess ps --json`."""
        done = self._call(["ps", "--json"], 20)
        if done.returncode != 0:
            raise CaseFailure(f"tess ps: exit {done.returncode}: {done.stdout.strip()}")
        return {entry["pid"]: entry for entry in json.loads(done.stdout)["processes"]}

    def is_away(self, pid):
        return self.where().get(pid, {}).get("state") == "deputy"

    def move(self, program, move):
        """One move; a random process that is gone before it could move is replaced by another."""
        for _ in range(1 if move.root else 8):
            tree = program.tree()
            pid = program.pid if move.root or not tree else self.rng.choice(tree)
            if self._move_one(program, move, pid) or not program.alive():
                return

    def _move_one(self, program, move, pid):
        """Whether it moved, or was there already."""
        started = time.monotonic()
        done = self._call(["migrate", str(pid), move.target], MOVE_DEADLINE)
        took, text = time.monotonic() - started, done.stdout.strip()
        self.log.append((time.monotonic(), f"migrate {pid} {move.target}: exit {done.returncode} in {took:.3f} s {text}"))
        if done.returncode == 0:
            self.done += 1
            if move.root:
                self._verify(program, pid, move.target)
            return True
        state = process_state(pid)
        while "has ended" in text and state is not None and state[0] not in "ZX" and time.monotonic() < started + MOVE_DEADLINE:
            time.sleep(0.01)  # it is ending: its memory goes first
            state = process_state(pid)
        if (state is None or state[0] in "ZX") and (pid != program.pid or not program.alive()):
            if pid == program.pid and self.case.finish != "own":
                raise CaseFailure(f"the program died while being moved (status {program.process.poll()}): {text}\n"
                                  f"stderr: {bytes(program.err[-1500:])!r}\n{self.history()}")
            return False
        if re.search(r"already", text):
            return True
        raise CaseFailure(f"tess migrate {pid} {move.target}: exit {done.returncode}: {text}\n{self.history()}")

    def _were_called_home(self):
        """What they share has been mapped by somebody at home meanwhile (a program that one of them has executed there)."""
        return " comes home: process " in self._call(["log"], 20).stdout

    def _verify(self, program, pid, target):
        entry = self.where().get(pid)
        if not program.alive():
            return
        if target == "home":
            if entry and entry["state"] not in ("native",):
                raise CaseFailure(f"after migrate {pid} home, tess ps says {entry}")
        elif (not entry or entry["node"] != target) and not self._were_called_home():
            raise CaseFailure(f"after migrate {pid} {target}, tess ps says {entry}")


@dataclass
class Outcome:
    observation: object = None
    moves: int = 0
    seconds: float = 0.0
    history: str = ""
    notes: list = field(default_factory=list)


def _pause(program, seconds):
    """A random moment: the program runs on for that long, or ends."""
    end = time.monotonic() + seconds
    while program.alive() and time.monotonic() < end:
        time.sleep(min(0.01, max(0.0, end - time.monotonic())))


def play(case, placement, seed, argv, work, environment, tess, outside=None, hold=0.0):
    """Runs the case once under a placement; returns an Outcome or raises CaseFailure with evidence in its text."""
    moves = moves_of(placement, seed, case)
    mover = Mover(tess, case, random.Random(f"who/{case.name}/{placement}/{seed}"))
    deadline = case.deadline if placement == "native" else case.deadline * 3
    prefix = [tess, "run", "--on", "n2"] if placement == "start" else []
    if case.setup:
        case.setup(work)
    steps = case.steps(work) if callable(case.steps) else case.steps
    started = time.monotonic()
    program = Program(case, argv, work, environment, prefix, deadline, trickle=bool(moves))
    companion = None
    try:
        if case.ready:
            program.wait_for(lambda: case.ready(program), case.ready_text)
        if case.companion:
            companion = case.companion(program, outside)
        if placement == "start" and case.finish != "own":
            program.wait_for(lambda: mover.is_away(program.pid), "tess ps to show the job on n2")
            mover.done += 1
        _talk(program, steps, moves, mover)
        _pause(program, hold)
        notes = companion.finish() if companion else []
        companion = None
        if case.finish == "stop":
            (work / "stop").touch()
        elif case.finish == "eof":
            program.close_input()
        observation = program.collect(notes)
    except Stuck as stuck:
        raise Stuck(f"{stuck}\nmoves:\n{mover.history()}\n{program.evidence()}\n{_node_evidence(tess, outside)}") from None
    except CaseFailure as failure:
        raise CaseFailure(f"{failure}\nmoves:\n{mover.history()}\n{program.evidence()}\n"
                          f"{_node_evidence(tess, outside)}") from None
    finally:
        if companion:
            companion.finish()
        program.kill()
    wanted = {"native": 0, "start": 0 if case.finish == "own" else 1, "mid": 1}.get(placement, len(moves) // 2)
    if mover.done < wanted:
        raise CaseFailure(f"only {mover.done} of {len(moves)} moves happened, the placement was not tested\n{mover.history()}")
    return Outcome(observation, mover.done, time.monotonic() - started, mover.history())


def _talk(program, steps, moves, mover):
    """Plays the steps with the moves spread evenly between them."""
    boundaries = len(steps) + 1
    for index in range(boundaries):
        share = moves[len(moves) * index // boundaries:len(moves) * (index + 1) // boundaries]
        if len(moves) < boundaries:  # fewer moves than places for them: the middle ones
            first = (boundaries - len(moves)) // 2
            share = moves[index - first:index - first + 1] if first <= index < first + len(moves) else []
        for move in share:
            _pause(program, move.pause)
            if not program.alive() and mover.case.finish != "own":
                raise CaseFailure(f"the program ended (status {program.process.returncode}) before all moves were done; "
                                  f"stderr: {bytes(program.err[-1500:])!r}")
            if program.alive():
                mover.move(program, move)
        if index < len(steps):
            _step(program, steps[index])


def _step(program, step):
    if step.expect is not None:
        program.expect(step.expect)
    if step.signal is not None:
        os.kill(program.pid, step.signal)
    if step.send is not None:
        program.send(step.send)
    if step.drain:
        program.wait_for(program.fed, "the program to read its input")
    if step.do:
        step.do(program)


def _node_evidence(tess, outside):
    parts = []
    if tess:
        try:
            done = subprocess.run([tess, "ps", "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=10)
            parts.append(f"tess ps: {done.stdout.strip()} {done.stderr.strip()}")
        except (OSError, subprocess.TimeoutExpired) as error:
            parts.append(f"tess ps: {error}")
    if outside:
        parts.append(outside.evidence())
    return "\n".join(parts)
