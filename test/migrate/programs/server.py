"""python3 TCP and UDP server for live clients: threads for TCP connections, each line answered with its hash; prints only fixed text."""
import hashlib
import os
import selectors
import socket
import socketserver
import threading


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(hashlib.sha1(line).hexdigest().encode() + b" " + line)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


server = Server(("0.0.0.0", 0), Handler)
threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 0))
udp.setblocking(False)
selector = selectors.DefaultSelector()
selector.register(udp, selectors.EVENT_READ)
with open("ports.tmp", "w") as out:
    out.write(f"{server.server_address[1]} {udp.getsockname()[1]}\n")
os.rename("ports.tmp", "ports")
print("ready", flush=True)
while not os.path.exists("stop"):
    for _key, _events in selector.select(0.05):
        data, peer = udp.recvfrom(2000)
        udp.sendto(data[::-1], peer)
server.shutdown()
server.server_close()
os.unlink("ports")
print("server: served")
