"""Strangers who say little, say too much, or take nothing do not keep others out."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

import pytest

from enclave_cc.trustee.broker import connection


@pytest.fixture
def connect(broker):
    host, port = broker.url.removeprefix("https://").split(":")
    opened = []

    def start():
        context = ssl.create_default_context(cadata=broker.ca_pem)
        peer = context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
        peer.settimeout(10)
        opened.append(peer)
        return peer

    yield start
    for peer in opened:
        peer.close()


def ended(peer):
    try:
        return peer.recv(65536) == b""
    except (ConnectionError, ssl.SSLError):
        return True


@pytest.mark.parametrize("said", [b"", b"GET /kbs/v0/auth HTTP/1.1\r\nX-Slow: "])
def test_whoever_does_not_finish_a_request_is_cut_off(connect, monkeypatch, said):
    monkeypatch.setattr(connection, "HEAD_DEADLINE_S", 0.3)
    peer = connect()
    peer.sendall(said)
    start = time.monotonic()
    assert ended(peer)
    assert time.monotonic() - start < 5


def test_a_byte_now_and_then_does_not_move_the_deadline(connect, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_DEADLINE_S", 0.5)
    peer = connect()
    peer.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
    start = time.monotonic()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while time.monotonic() - start < 8:
            peer.sendall(b"x")
            time.sleep(0.05)
    assert time.monotonic() - start < 5


def test_an_idle_connection_is_cut_off_after_an_answer(connect, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_DEADLINE_S", 0.3)
    peer = connect()
    peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert peer.recv(65536).startswith(b"HTTP/1.1 200")
    assert ended(peer)


def test_a_head_without_end_is_cut_off(connect):
    peer = connect()
    peer.sendall(b"GET /healthz HTTP/1.1\r\n")
    line = b"X-Much: " + b"x" * 8000 + b"\r\n"
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        for _ in range(2 * connection.MAX_HEAD_BYTES // len(line)):
            peer.sendall(line)
    assert ended(peer)


def test_an_answer_that_takes_too_long_is_cut_off(connect, monkeypatch):
    monkeypatch.setattr(connection, "ANSWER_DEADLINE_S", 0.3)
    peer = connect()
    peer.sendall(b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    start = time.monotonic()
    assert ended(peer)
    assert time.monotonic() - start < 5


def test_a_token_of_the_largest_size_fits_into_a_head(connect):
    peer = connect()
    head = b"GET /kbs/v0/resource/a/b/c HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    peer.sendall(head + b"x" * connection.MAX_TOKEN_CHARS + b"\r\n\r\n")
    assert peer.recv(65536).startswith(b"HTTP/1.1 401")
