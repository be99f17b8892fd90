"""A proxy on loopback that tunnels and forwards, and remembers what it was asked for."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class ProxySimulator:
    def __init__(self):
        self.server = None
        self.requests = []
        # the authorization it wants, "" for none
        self.authorization = ""
        # where every tunnel ends, whatever host was asked for
        self.divert_to = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def running_proxy():
    simulator = ProxySimulator()
    handler = type("Handler", (_Handler,), {"simulator": simulator})
    simulator.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    simulator.server.daemon_threads = True
    thread = threading.Thread(target=simulator.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield simulator
    finally:
        simulator.server.shutdown()
        simulator.server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    simulator = None
    timeout = 5

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        if not self._admitted():
            return
        host, _, port = self.path.rpartition(":")
        target = self.simulator.divert_to or (host, int(port))
        with socket.create_connection(target, 5) as upstream:
            self.send_response(200)
            self.end_headers()
            self._shuttle(upstream)
        self.close_connection = True

    def do_GET(self):
        if not self._admitted():
            return
        parts = urlsplit(self.path)
        connection = http.client.HTTPConnection(parts.netloc, timeout=5)
        headers = {name: value for name, value in self.headers.items() if not name.startswith("Proxy-")}
        connection.request("GET", parts.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    def _admitted(self):
        simulator = self.simulator
        simulator.requests.append((self.command, self.path, dict(self.headers)))
        if simulator.authorization and self.headers.get("Proxy-Authorization") != simulator.authorization:
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        return True

    def _shuttle(self, upstream):
        ends = {self.connection: upstream, upstream: self.connection}
        with contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select(list(ends), [], [], 5)
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)
                if not ready:
                    return
