"""Builds the test programs that a case names, once, into a folder shared by all runs (a lock makes two runs wait)."""

import fcntl
import os
import subprocess
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "programs"


def _recipe(name, out):
    """(source, command) for a program name; the ending says how it is built."""
    if name.endswith(".static-musl"):
        source = SOURCES / (name.removesuffix(".static-musl") + ".c")
        return source, ["musl-gcc", "-O2", "-D_GNU_SOURCE", "-static", "-pthread", "-o", out, source]
    if name.endswith(".m32"):
        source = SOURCES / (name.removesuffix(".m32") + ".c")
        return source, ["gcc", "-m32", "-static", "-O1", "-o", out, source]
    if name.endswith(".go"):
        return SOURCES / name, ["go", "build", "-o", out, SOURCES / name]
    if name.endswith(".java"):
        return SOURCES / name, ["javac", "-d", out, SOURCES / name]
    source = SOURCES / (name + ".c")
    return source, ["gcc", "-O2", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-infinite-recursion", "-pthread", f"-I{SOURCES}", "-o", out, source, "-lm"]


def build(names, folder):
    """Raises CalledProcessError with the compiler's words in its output."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, GOCACHE=str(folder / ".go-cache"), GO111MODULE="off", CGO_ENABLED="0", LC_ALL="C")
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            out = folder / name
            source, command = _recipe(name, out)
            newest = max([source.stat().st_mtime] + [h.stat().st_mtime for h in SOURCES.glob("*.h")])
            stamp = folder / f".{name}.built"
            if stamp.exists() and stamp.stat().st_mtime >= newest and out.exists():
                continue
            subprocess.run([str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, env=environment, timeout=300)
            stamp.touch()
