"""A program in node n1 as the fault walk, the stress and the refusals use it: started from the machine, its pid known."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import lab as labs


class Worker:
    """Runs argv in n1 in a folder of its own; the program prints its pid in its first line (or `sh` does for it)."""

    def __init__(self, lab, argv, tells_pid=False, folder=None, deadline=60):
        self.lab = lab
        self._own = None if folder else tempfile.TemporaryDirectory(prefix="tessera-worker.")
        self.folder = Path(folder or self._own.name)
        self.out, self.err = self.folder / "stdout", self.folder / "stderr"
        if not tells_pid:
            argv = ["sh", "-c", 'echo $$; exec "$@"', "sh", *map(str, argv)]
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = lab.popen("n1", argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.folder)
        labs.wait_until(lambda: b"\n" in self.out.read_bytes() or self.process.poll() is not None, deadline, "the program's pid")
        try:
            self.pid = int(self.out.read_bytes().split(b"\n")[0])
        except ValueError:
            raise labs.LabError(f"no pid from {argv}: {self.output()!r} {self.errors()!r}") from None

    def alive(self):
        return self.process.poll() is None

    def output(self):
        """Stdout without the line of the pid."""
        return self.out.read_bytes().partition(b"\n")[2]

    def errors(self):
        return self.err.read_bytes().decode(errors="replace")

    def wait_output(self, text, deadline=60):
        labs.wait_until(lambda: text in self.output() or not self.alive(), deadline, f"{text!r} from the program")
        if text not in self.output():
            raise labs.LabError(f"the program ended ({self.process.returncode}) without {text!r}: {self.errors()}")

    def stop(self, deadline=60):
        """Asks it to end; returns its exit status."""
        (self.folder / "stop").touch()
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise labs.LabError(f"the program {self.pid} did not end\n{self.lab.evidence()}") from None

    def close(self):
        if self.alive():
            self.lab.run("n1", ["sh", "-c", f"kill -KILL {self.pid}"], check=False)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()  # the command that joined the node, not the program
                self.process.wait(10)
        if self._own:
            self._own.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def migrate(lab, pid, target, deadline=60):
    """CompletedProcess of `tess migrate`, its two outputs in one."""
    return subprocess.run(lab.command("n1", ["tess", "migrate", str(pid), target]), stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=deadline, errors="replace",
                          env=labs.clean_environment(lab.bin_dir))


def must_migrate(lab, pid, target, deadline=60):
    """Waits for the end of a move that somebody else has begun."""
    until = time.monotonic() + deadline
    done = migrate(lab, pid, target, deadline)
    while "moving already" in done.stdout and time.monotonic() < until:
        done = migrate(lab, pid, target, deadline)
    if done.returncode != 0:
        raise labs.LabError(f"tess migrate {pid} {target}: {done.stdout.strip()}")


def jobs(lab):
    """pid -> entry of `tess ps --json`."""
    text = lab.run("n1", ["tess", "ps", "--json"]).stdout
    return {entry["pid"]: entry for entry in json.loads(text)["processes"]}


def bodies(lab, comm, nodes=("n2", "n3", "n4")):
    """Machine-side pids of live processes of that name on hosts: bodies, since nothing else there is called so."""
    found = []
    for node in nodes:
        for pid in lab.processes(node):
            try:
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if name == comm and state not in "ZX":
                found.append((node, pid))
    return found
