"""Peers that keep sending without ever coming to the point."""

import itertools
import threading
import time

import pytest
from tests.simulators.raw_peer import running_peer

from enclave_cc.core.errors import EnclaveCcError, UnavailableError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.proxies import Proxies
from enclave_cc.transport.registry.client import RegistryClient


def _endless(*pieces, first=b""):
    def speak(connection):
        connection.recv(65536)
        connection.sendall(first)
        for piece in itertools.cycle(pieces):
            connection.sendall(piece)
            time.sleep(0.02)

    return speak


CONTINUES = _endless(b"HTTP/1.1 100 Continue\r\n\r\n")
HEADER = _endless(b"x", first=b"HTTP/1.1 200 OK\r\nX-Long: ")
STATUS = _endless(b" ", first=b"HTTP/1.1")
BODY = _endless(b"x", first=b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n")
CHUNKS = _endless(b"1\r\nx\r\n", first=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
CHUNK_LINE = _endless(b"0", first=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def _fails_soon(action):
    before, start = set(threading.enumerate()), time.monotonic()
    with pytest.raises(EnclaveCcError) as caught:
        action()
    assert time.monotonic() - start < 8
    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert not [name for name in left if name == "watchdog"]
    return caught.value


@pytest.mark.parametrize("speak", [CONTINUES, HEADER, STATUS, BODY, CHUNKS, CHUNK_LINE])
def test_a_manifest_that_never_comes_to_an_end_is_given_up(speak):
    with running_peer(speak) as host:
        client = RegistryClient(insecure_http=[host], deadline_s=0.5, attempts=2)
        image = Reference.parse(f"{host}/app:1")
        error = _fails_soon(lambda: client.manifest(image, digest_or_tag="1"))
        assert isinstance(error, UnavailableError)
        client.close()


@pytest.mark.parametrize("speak", [CONTINUES, HEADER, STATUS, BODY, CHUNKS, CHUNK_LINE])
def test_a_blob_that_never_comes_to_an_end_is_given_up(speak):
    with running_peer(speak) as host:
        client = RegistryClient(insecure_http=[host], deadline_s=0.5, blob_deadline_s=1, attempts=2)
        error = _fails_soon(lambda: list(client.blob(Reference.parse(f"{host}/app:1"), f"sha256:{'a' * 64}")))
        assert isinstance(error, UnavailableError)
        client.close()


@pytest.mark.parametrize(
    "speak", [HEADER, STATUS, CONTINUES, _endless(b"X: y\r\n", first=b"HTTP/1.1 200 OK\r\n")]
)
def test_a_proxy_that_never_comes_to_the_point_is_given_up(speak):
    with running_peer(speak) as host:
        proxies = Proxies.parse(f"http://{host}", "", ())
        client = RegistryClient(proxies=proxies, deadline_s=0.5, attempts=2)
        image = Reference.parse("registry.example/app:1")
        error = _fails_soon(lambda: client.manifest(image, digest_or_tag="1"))
        assert isinstance(error, UnavailableError)
        client.close()


def test_a_tls_handshake_that_never_ends_is_given_up():
    # A record of a handshake, which says it has 16384 bytes.
    with running_peer(_endless(b"\0", first=b"\x16\x03\x03\x40\x00")) as host:
        client = RegistryClient(deadline_s=0.5, attempts=2)
        _fails_soon(lambda: client.manifest(Reference.parse(f"{host}/app:1"), digest_or_tag="1"))
        client.close()
