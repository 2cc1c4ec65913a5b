"""Live counterparts of programs under test: they run beside, notice every wrong or missing answer, and tell it at the end."""

import hashlib
import socket
import threading


class Clients:
    """Clients of programs/server.py: connections that stay open all the time, new ones again and again, datagrams.
    The lasting ones come from other nodes when there is a lab."""

    def __init__(self, program, outside):
        program.wait_for(lambda: (program.work / "ports").exists(), "the server's ports")
        self.tcp_port, self.udp_port = map(int, (program.work / "ports").read_text().split())
        self.stopping = threading.Event()
        self.notes, self.answers = [], 0
        self.threads = []
        lasting = [("n3", outside.connect("n3", "n1", self.tcp_port)), ("n4", outside.connect("n4", "n1", self.tcp_port))]
        lasting.append(("local", socket.create_connection(("127.0.0.1", self.tcp_port), 10)))
        for name, connection in lasting:
            self._start(self._lasting, name, connection)
        self._start(self._visitors, "visitor")
        self._start(self._datagrams, "udp")

    def _start(self, function, *args):
        thread = threading.Thread(target=self._guarded, args=(function, *args), daemon=True)
        thread.start()
        self.threads.append(thread)

    def _guarded(self, function, name, *args):
        try:
            function(name, *args)
        except (OSError, AssertionError) as error:
            self.notes.append(f"{name}: {error!r}")

    def _ask(self, connection, reader, text):
        connection.sendall(text)
        answer = reader.readline()
        wanted = hashlib.sha1(text).hexdigest().encode() + b" " + text
        assert answer == wanted, f"answer {answer[:80]!r} to {text[:40]!r}"
        self.answers += 1

    def _lasting(self, name, connection):
        number = 0
        with connection, connection.makefile("rb") as reader:
            connection.settimeout(60)
            while not self.stopping.is_set() or number == 0:
                number += 1
                self._ask(connection, reader, f"{name} request {number} {'x' * (number * 37 % 3000)}\n".encode())

    def _visitors(self, name):
        number = 0
        while not self.stopping.is_set() or number == 0:
            number += 1
            with socket.create_connection(("127.0.0.1", self.tcp_port), 60) as connection, connection.makefile("rb") as reader:
                self._ask(connection, reader, f"{name} {number}\n".encode())

    def _datagrams(self, _name):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.settimeout(60)
            peer.connect(("127.0.0.1", self.udp_port))
            number = 0
            while not self.stopping.is_set() or number == 0:
                number += 1
                text = f"datagram {number}".encode()
                peer.send(text)
                assert peer.recv(2000) == text[::-1]
                self.answers += 1

    def finish(self):
        """Stops the clients; what they noticed, empty if all was well."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(65)
            if thread.is_alive():
                self.notes.append("a client is stuck")
        if self.answers < len(self.threads):
            self.notes.append(f"only {self.answers} answers")
        return sorted(self.notes)
