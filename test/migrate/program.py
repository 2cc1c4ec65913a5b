"""One run of a program under test: start it, talk to it, watch it, collect what it did. Runs inside node n1."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
import lab as labs  # noqa: E402
import observe  # noqa: E402


class CaseFailure(Exception):
    """The program under test, or Tessera, did not do what it must."""


class Stuck(CaseFailure):
    """A deadline passed: evidence is worth collecting while everything is still there."""


def process_state(pid):
    """(state letter, parent pid, cpu seconds) or None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return fields[0], int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            state = process_state(entry)
            if state and state[1] == pid:
                found.append(int(entry))
    return sorted(found)


def become_subreaper():
    """Orphans of the program come to us, so that none is lost and none is left."""
    import ctypes
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Program:
    """Threads: two pump the output, one feeds the input; everything else is the caller's thread."""

    OUTPUT_MAX = 64 << 20

    def __init__(self, case, argv, work, environment, prefix=(), deadline=60, trickle=False):
        self.trickle = trickle  # input goes in small pieces, so that the program is at work while it moves
        self.case, self.work = case, work
        self.end = time.monotonic() + deadline
        self.deadline = deadline
        self.out, self.err = bytearray(), bytearray()
        self.changed = threading.Condition()
        self.seen = 0  # how much of stdout the conversation has used up
        self._feed_queue, self._feed_closed = [], False
        self._threads = []
        full = [*prefix, *argv]
        if case.tty:
            self._start_on_terminal(full, environment)
        else:
            self.terminal = None
            self.process = subprocess.Popen(full, cwd=work, env=environment, start_new_session=True,
                                            stdin=subprocess.PIPE if case.feeds else subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self._spawn(self._pump, self.process.stdout.fileno(), self.out)
            self._spawn(self._pump, self.process.stderr.fileno(), self.err)
            if case.feeds:
                self._spawn(self._feed)
        self.pid = self.process.pid

    def _start_on_terminal(self, argv, environment):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x18\x00\x50\x00\x00\x00\x00\x00")
        self.terminal = master
        self.process = subprocess.Popen(argv, cwd=self.work, env=environment, start_new_session=True, stdin=slave,
                                        stdout=slave, stderr=slave,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self._spawn(self._pump, master, self.out)

    def _spawn(self, function, *args):
        thread = threading.Thread(target=function, args=args, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _pump(self, fd, into):
        while True:
            try:
                data = os.read(fd, 1 << 16)
            except OSError:  # EIO: the last slave of the terminal was closed
                data = b""
            with self.changed:
                if len(into) < self.OUTPUT_MAX:
                    into.extend(data)
                self.changed.notify_all()
            if not data:
                return

    def _feed(self):
        pipe = self.process.stdin
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self._feed_queue or self._feed_closed)
                data = self._feed_queue[0] if self._feed_queue else None
            if data is None:
                try:
                    pipe.close()
                except OSError:
                    pass
                return
            try:
                size = max(1, len(data) // 50) if self.trickle else len(data)
                for at in range(0, len(data), size):
                    pipe.write(data[at:at + size])
                    pipe.flush()
                    if self.trickle and not self._feed_closed:
                        time.sleep(0.002)
            except OSError:  # the program ended or closed its input: its own affair
                pass
            with self.changed:
                self._feed_queue.pop(0)
                self.changed.notify_all()

    # ---- conversation ----

    def send(self, data):
        if self.terminal is not None:
            os.write(self.terminal, data)
            return
        with self.changed:
            self._feed_queue.append(data)
            self.changed.notify_all()

    def close_input(self):
        with self.changed:
            self._feed_closed = True
            self.changed.notify_all()

    def fed(self):
        """All that was sent has been read by the program (the pipe is empty)."""
        with self.changed:
            if self._feed_queue:
                return False
        waiting = fcntl.ioctl(self.process.stdin.fileno(), termios.FIONREAD, b"\0\0\0\0")
        return int.from_bytes(waiting, "little") == 0

    def expect(self, text):
        """Waits until text appears in stdout after what was expected before."""
        def found():
            with self.changed:
                at = bytes(self.out).find(text, self.seen)
                if at >= 0:
                    self.seen = at + len(text)
                return at >= 0
        self.wait_for(found, f"output {text!r}")

    def wait_for(self, predicate, what, must_live=True):
        while not predicate():
            if must_live and self.process.poll() is not None:
                if predicate():
                    return
                raise CaseFailure(f"the program ended (status {self.process.returncode}) before: {what}; "
                                  f"stdout ends {bytes(self.out[-300:])!r}, stderr ends {bytes(self.err[-600:])!r}")
            if time.monotonic() > self.end:
                raise Stuck(f"deadline of {self.deadline} s passed while waiting for: {what}")
            with self.changed:
                self.changed.wait(0.005)

    # ---- watching ----

    def alive(self):
        return self.process.poll() is None

    def tree(self):
        """The program's root and its descendants that live (no zombies), root first."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                state = process_state(entry)
                if state and state[0] not in "ZX":
                    parents.setdefault(state[1], []).append(int(entry))
        found, queue = [], [self.pid]
        while queue:
            pid = queue.pop(0)
            found.append(pid)
            queue.extend(sorted(parents.get(pid, [])))
        return found if self.alive() else []

    def cpu_seconds(self):
        return sum(state[2] for state in map(process_state, self.tree()) if state)

    # ---- end ----

    def collect(self, companion_notes):
        """Waits for the end and returns the Observation."""
        self.wait_for(lambda: self.process.poll() is not None, "the end of the program", must_live=False)
        leftovers = self._leftovers()
        for thread in self._threads[:1 if self.terminal is not None else 2]:
            thread.join(max(0.1, self.end - time.monotonic()))
            if thread.is_alive():
                raise Stuck("the program ended but something still holds its output open")
        files = observe.file_tree(self.work, self.case.ignore_files)
        return observe.Observation(self.process.returncode, bytes(self.out), bytes(self.err), files, companion_notes,
                                   leftovers)

    def _leftovers(self):
        """Names of orphans that do not go away by themselves; they are ended, being ours."""
        end, left = time.monotonic() + 3, []
        while True:
            left = []
            for pid in children_of(os.getpid()):
                state = process_state(pid)
                if state and state[0] == "Z":
                    try:
                        os.waitpid(pid, os.WNOHANG)
                    except ChildProcessError:
                        pass
                elif state and pid != self.pid:
                    left.append(pid)
            if not left or time.monotonic() > end:
                break
            time.sleep(0.02)
        names = []
        for pid in left:
            try:
                names.append(Path(f"/proc/{pid}/comm").read_text().strip())
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except OSError:
                pass
        return sorted(names)

    def kill(self):
        """Ends the program and its descendants, whatever state they are in."""
        for pid in reversed(self.tree()):
            try:
                os.kill(pid, signal.SIGKILL)
                os.kill(pid, signal.SIGCONT)
            except OSError:
                pass
        self.close_input()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        self._leftovers()
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None

    def evidence(self):
        parts = [f"program: pid {self.pid}, stdout {len(self.out)} bytes ending {bytes(self.out[-300:])!r}",
                 f"stderr ending {bytes(self.err[-1000:])!r}", "processes of the program:"]
        parts += [labs.describe_process(pid) for pid in self.tree()]
        return "\n".join(parts)
