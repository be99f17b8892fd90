"""Whoever waits for a peer can be ended from outside, at every point of a request."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from enclave_cc.core.errors import UnavailableError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.transport.patience.deadline import Patience
from enclave_cc.transport.registry.client import RegistryClient


@contextlib.contextmanager
def silent_peer(answer):
    """Answer with some bytes and then never again; yield host and port, and when that was reached."""
    reached = threading.Event()
    held = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    held.append(client)
                    client.recv(65536)
                    client.sendall(answer)
                    reached.set()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", reached
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    for client in held:
        client.close()


def manifest(client, reference):
    client.manifest(reference, digest_or_tag="1")


def blob(client, reference):
    list(client.blob(reference, "sha256:" + "0" * 64))


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"],
    ids=["no answer", "half a header", "half a body"],
)
@pytest.mark.parametrize("call", [manifest, blob])
def test_a_request_that_waits_ends_at_once(answer, call):
    cancelled = threading.Event()
    with silent_peer(answer) as (host, reached):
        reference = Reference.parse(f"{host}/team/app:1")
        client = RegistryClient(insecure_http=[host], patience=Patience(cancelled=cancelled))

        def interrupt():
            assert reached.wait(10)
            time.sleep(0.05)
            cancelled.set()
            client.interrupt()

        thread = threading.Thread(target=interrupt)
        thread.start()
        begun = time.monotonic()
        with pytest.raises(UnavailableError) as caught:
            call(client, reference)
        # A request gives up by itself after 30 s; less than this is "at once" on a busy machine too.
        assert time.monotonic() - begun < 10
        assert caught.value.code == "cancelled"
        thread.join(10)
        client.close()


def test_interrupting_a_client_without_connections_does_nothing():
    client = RegistryClient()
    client.interrupt()
    client.close()
