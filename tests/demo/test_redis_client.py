"""The smallest client of the server reads every kind of short reply."""

from __future__ import annotations

import socket
from threading import Thread

import pytest

from enclave_cc.demo.scene.processes import free_port
from enclave_cc.demo.story.redis_client import answers, ask


@pytest.fixture
def reply():
    """Serve one connection with the given bytes; returns its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(answer):
        def once():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = Thread(target=once)
        thread.start()
        threads.append(thread)
        return listener.getsockname()[1]

    yield serve
    for thread in threads:
        thread.join()
    listener.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [(b"+PONG\r\n", "PONG"), (b"$5\r\nhello\r\n", "hello"), (b"$-1\r\n", ""), (b":42\r\n", "42")],
)
def test_short_replies_are_read(reply, answer, text):
    assert ask(reply(answer), "GET", "key") == text


def test_an_error_reply_is_an_error(reply):
    with pytest.raises(ValueError, match="ERR"):
        ask(reply(b"-ERR no\r\n"), "GET")


def test_no_server_does_not_answer():
    assert not answers(free_port())
