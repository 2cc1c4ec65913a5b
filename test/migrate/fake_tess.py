#!/usr/bin/python3
"""A stand-in for `tess` with which the harness itself is tested: it moves nothing, but keeps the same books.

$FAKE_TESS_STATE is a folder for those books; $FAKE_TESS_HARM names what a move does to the process: nothing (default), kill,
stop (it hangs), refuse, lie (says it moved and did not), output (writes into its standard output).
"""

import json
import os
import signal
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_TESS_STATE"])


def place(pid, node):
    entry = {"pid": int(pid), "node": "n1" if node == "home" else node, "home": "n1", "moves": 1,
             "state": "native" if node == "home" else "deputy"}
    (STATE / str(pid)).write_text(json.dumps(entry))


def migrate(pid, node):
    harm = os.environ.get("FAKE_TESS_HARM", "")
    if not Path(f"/proc/{pid}").exists():
        sys.exit(f"tess: there is no process {pid}")
    if harm == "refuse":
        sys.exit("tess: cannot move: it is a Tuesday")
    if harm == "kill":
        os.kill(int(pid), signal.SIGKILL)
    elif harm == "stop":
        os.kill(int(pid), signal.SIGSTOP)
    elif harm == "output":
        with open(f"/proc/{pid}/fd/1", "w") as out:
            out.write("!")
    if harm != "lie":
        place(pid, node)
    return 0


def main(argv):
    if argv[0] == "migrate":
        return migrate(argv[1], argv[2])
    if argv[0] == "ps":
        print(json.dumps({"processes": [json.loads(p.read_text()) for p in STATE.iterdir() if Path(f"/proc/{p.name}").exists()]}))
        return 0
    if argv[0] == "run":
        place(os.getpid(), argv[2])
        os.execvp(argv[3], argv[3:])
    sys.exit(f"fake tess: {argv}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
