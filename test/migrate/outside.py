"""The part of a run that stays on the machine while the harness is inside node n1: evidence from all nodes, and network
connections made from another node. One unix socket in the run's folder, one JSON line a request; a connection comes back
as a descriptor."""

import array
import ctypes
import json
import os
import socket
import threading

CLONE_NEWNET = 0x40000000


def _setns(fd):
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def connect_from(node_pid, address, port, timeout=60):
    """A TCP connection whose near end is in that process's network namespace. Only this thread visits it."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/proc/{node_pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(there)
        try:
            return socket.create_connection((address, port), timeout)
        finally:
            _setns(here)
    finally:
        os.close(here)
        os.close(there)


class Server(threading.Thread):
    """Thread on the machine's side; it ends with the process."""

    def __init__(self, lab, path):
        super().__init__(daemon=True)
        self.lab = lab
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)

    def run(self):
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        with peer, peer.makefile("r") as lines:
            for line in lines:
                request = json.loads(line)
                try:
                    if request["op"] == "evidence":
                        peer.sendall(json.dumps({"text": self.lab.evidence()}).encode() + b"\n")
                    elif request["op"] == "connect":
                        address = self.lab.status()[request["to"]]["address"].split(":")[0].split("/")[0]
                        made = connect_from(self.lab.node_pid(request["node"]), address, request["port"])
                        with made:
                            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.fileno()]))
                            peer.sendmsg([b"{}\n"], [rights])
                except Exception as error:  # noqa: BLE001  (told to the other side, which fails the case)
                    peer.sendall(json.dumps({"error": repr(error)}).encode() + b"\n")


class Client:
    """Inside n1."""

    def __init__(self, path):
        self.path = str(path)

    def _ask(self, request, timeout):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(timeout)
            peer.connect(self.path)
            peer.sendall(json.dumps(request).encode() + b"\n")
            data, fds = b"", []
            while not data.endswith(b"\n"):
                piece, ancillary, _, _ = peer.recvmsg(1 << 16, socket.CMSG_SPACE(4))
                if not piece:
                    raise OSError("the helper outside closed the connection")
                data += piece
                for _level, _kind, content in ancillary:
                    fds += array.array("i", content[:4]).tolist()
        answer = json.loads(data)
        if "error" in answer:
            raise OSError(answer["error"])
        return answer, fds

    def evidence(self):
        try:
            return self._ask({"op": "evidence"}, 30)[0]["text"]
        except OSError as error:
            return f"(no evidence from outside: {error})"

    def connect(self, node, to, port):
        """A connection made in `node` to a port of the node `to`."""
        _, fds = self._ask({"op": "connect", "node": node, "to": to, "port": port}, 75)
        return socket.socket(fileno=fds[0])


class Direct:
    """Without a lab: the same calls, on this machine's loopback."""

    def evidence(self):
        return ""

    def connect(self, _node, _to, port):
        return socket.create_connection(("127.0.0.1", port), 10)
