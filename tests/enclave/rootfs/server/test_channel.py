"""One socket, whose messages go whole or not at all; the key is bytes, and exactly a key."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.server.channel import Channel
from enclave_cc.enclave.rootfs.server.messages import MAX_MESSAGE_BYTES, Opened, Prepare


@pytest.fixture
def ends():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        yield one, Channel(one), Channel(other)


def test_messages_of_several_threads_arrive_whole(ends):
    _, one, other = ends
    threads = [threading.Thread(target=one.send, args=(Opened(f"{n}" * 9000),)) for n in range(8)]
    for thread in threads:
        thread.start()
    received = {other.receive().backend[0] for _ in threads}
    for thread in threads:
        thread.join()
    assert received == set("01234567")


def test_a_key_arrives_behind_its_message(ends):
    _, one, other = ends
    one.send(Prepare(Path("/w")))
    one.send_key(Secret(bytes(range(32))))
    assert other.receive() == Prepare(Path("/w"))
    assert other.receive_key() == Secret(bytes(range(32)))


@pytest.mark.parametrize("size", [1, 16, 31, 33, 64])
def test_a_key_of_another_length_is_none(ends, size):
    raw, _, other = ends
    raw.send(bytes(size))
    with pytest.raises(ValueError, match="no key"):
        other.receive_key()


def test_the_end_of_the_other_side_is_no_message(ends):
    raw, _, other = ends
    raw.close()
    assert other.receive() is None


def test_what_is_longer_than_any_message_is_refused(ends):
    raw, _, other = ends
    raw.send(b" " * (MAX_MESSAGE_BYTES + 1))
    with pytest.raises(ValueError, match="longer"):
        other.receive()
