"""A pinned peer that keeps sending without ever coming to the point."""

import time

import pytest
from tests.simulators.raw_peer import running_peer

from enclave_cc.core.errors import UnavailableError
from enclave_cc.transport.https import HttpsPeer

HEAD = b"HTTP/1.1 200 OK\r\nX-Long: "
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n"


@pytest.mark.parametrize("first", [HEAD, BODY], ids=["head", "body"])
def test_an_answer_that_never_comes_to_an_end_is_given_up(first):
    def speak(connection):
        connection.recv(65536)
        connection.sendall(first)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    with running_peer(speak) as host:
        peer = HttpsPeer(f"http://{host}", timeout_s=0.5, max_answer_bytes=1 << 20, insecure_http=True)
        start = time.monotonic()
        with pytest.raises(UnavailableError):
            peer.request("GET", "/", headers={})
        assert time.monotonic() - start < 8
        peer.close()
