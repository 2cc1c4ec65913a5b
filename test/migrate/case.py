"""What a case is: a program, how it is made to run as long as the moves need, and what may differ.

A program must not end before its moves are done, and its output must not depend on how long they take. Three ways:
`eof`  it works on its standard input, which the harness gives in portions and ends after the last move;
`stop` it repeats its work in rounds that must all give the same, until the file `stop` appears in its folder;
`own`  it ends by itself after its steps (a conversation) have been played.
"""

from dataclasses import dataclass, field
from typing import Callable, Optional

PLACEMENTS = ("start", "mid", "hops", "back20")


@dataclass
class Step:
    """One piece of conversation: wait for text in the output, then send, signal or call."""
    expect: Optional[bytes] = None
    send: Optional[bytes] = None
    signal: Optional[int] = None                   # to the program's root process
    drain: bool = False                            # wait until the program has read everything sent
    do: Optional[Callable[["object"], None]] = None  # called with the Program


@dataclass
class Case:
    name: str
    about: str
    argv: list
    finish: str = "stop"                           # see above
    ready: Optional[Callable] = None               # condition on the Program after which it may be moved
    ready_text: str = "it is ready"
    steps: object = field(default_factory=list)    # list of Step, or function of the work folder that gives it
    setup: Optional[Callable] = None               # writes input files into the work folder
    build: tuple = ()                              # names of programs/* that have to be built
    needs: tuple = ()                              # executables or files that must exist, else the case is skipped
    who: str = "root"                              # which process moves: root, or any (a random one of the tree)
    tty: bool = False
    normalisers: tuple = ()
    ignore_files: tuple = ()
    status: int = 0                                # what the native run must end with
    proof: bytes = b""                             # what stdout must contain, so that two equal failures do not pass
    companion: Optional[Callable] = None           # makes a live counterpart
    environment: dict = field(default_factory=dict)
    deadline: int = 60                             # of a native run; migrated ones get three times as much
    placements: tuple = PLACEMENTS

    @property
    def feeds(self):
        return not self.tty and (self.finish == "eof" or bool(self.steps))


# ---- conditions ----

def output(text):
    return lambda program: text in bytes(program.out)


def cpu(seconds):
    """The program and its children have computed that long."""
    return lambda program: program.cpu_seconds() >= seconds


def file_exists(name):
    return lambda program: (program.work / name).exists()


def processes(count):
    return lambda program: len(program.tree()) >= count


def portions(data, count):
    """Cuts input into count portions at line ends, as steps."""
    size, steps, at = max(1, len(data) // count), [], 0
    while at < len(data):
        end = data.find(b"\n", min(at + size, len(data) - 1)) + 1 or len(data)
        steps.append(Step(send=data[at:end]))
        at = end
    return steps
