"""What can be seen of a run of a program, and how two runs are compared.

Everything is compared exactly. What may legitimately differ between two native runs (pids, times) is taken out by a
normaliser, and each case names those that it uses; there is no general fuzziness.
"""

import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

# name -> (what it is for, function from bytes to bytes); applied to stdout, stderr and, for "file:", to files too
NORMALISERS = {
    "job_pid": ("bash names the pid of a background job: [1] 4711",
                lambda b: re.sub(rb"(?m)^(\[\d+\][+-]?\s+)\d+", rb"\1PID", b)),
    "shell_pid": ("the shell prefixes job messages with its script line and names the pid that died: line 3: 4711 Killed",
                  lambda b: re.sub(rb"(line \d+:\s+)\d+ ", rb"\1PID ", b)),
    "sorted_lines": ("lines of parallel workers come in any order",
                     lambda b: b"".join(sorted(b.splitlines(keepends=True)))),
    "carriage_redraw": ("readline may redraw the prompt on SIGWINCH or SIGCONT",
                        lambda b: b.replace(b"\r\n", b"\n").replace(b"\r", b"")),
    "elapsed": ("figures of a time or rate: 1.23s, 45.6k",
                lambda b: re.sub(rb"\d+\.\d+(s|k|M| MB/s)?", b"N", b)),
}


def normalise(data, names):
    for name in names:
        data = NORMALISERS[name][1](data)
    return data


def file_tree(root, ignore=()):
    """Sorted (path, description) of everything below root; the description holds type, mode, size and a hash."""
    entries = {}
    for folder, names, files in os.walk(root):
        for name in sorted(names + files):
            path = Path(folder) / name
            relative = str(path.relative_to(root))
            if any(re.fullmatch(pattern, relative) for pattern in ignore):
                continue
            info = path.lstat()
            kind, mode = stat.S_IFMT(info.st_mode), oct(stat.S_IMODE(info.st_mode))
            if stat.S_ISREG(kind):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()[:24]
                entries[relative] = f"file {mode} {info.st_uid}:{info.st_gid} {info.st_size} {digest}"
            elif stat.S_ISLNK(kind):
                entries[relative] = f"link {os.readlink(path)}"
            else:
                entries[relative] = f"kind {oct(kind)} {mode}"
    return entries


@dataclass
class Observation:
    """One run, as the world saw it."""
    status: int                     # exit status, or minus the signal
    stdout: bytes
    stderr: bytes
    files: dict
    companion: list = field(default_factory=list)  # what a live counterpart (a network client) noticed
    leftovers: list = field(default_factory=list)  # processes of the program that outlived it


def _first_difference(a, b):
    lines_a, lines_b = a.splitlines(), b.splitlines()
    for number, (x, y) in enumerate(zip(lines_a, lines_b), 1):
        if x != y:
            return f"line {number}: {x[:200]!r} against {y[:200]!r}"
    return f"{len(lines_a)} lines against {len(lines_b)}; next: {(lines_a + lines_b)[min(len(lines_a), len(lines_b)):][:2]!r}"


def differences(native, other, normalisers):
    """List of sentences, empty if the two runs cannot be told apart."""
    found = []
    if native.status != other.status:
        found.append(f"exit status: native {native.status}, migrated {other.status}")
    for name in ("stdout", "stderr"):
        a, b = normalise(getattr(native, name), normalisers), normalise(getattr(other, name), normalisers)
        if a != b:
            found.append(f"{name}: native {len(a)} bytes, migrated {len(b)} bytes; {_first_difference(a, b)}")
    for path in sorted(set(native.files) | set(other.files)):
        a, b = native.files.get(path, "(none)"), other.files.get(path, "(none)")
        if a != b:
            found.append(f"file {path}: native {a}, migrated {b}")
    if native.companion != other.companion:
        found.append(f"live counterpart: native {native.companion[:3]}, migrated {other.companion[:3]}")
    if native.leftovers != other.leftovers:
        found.append(f"processes left behind: native {native.leftovers}, migrated {other.leftovers}")
    return found
