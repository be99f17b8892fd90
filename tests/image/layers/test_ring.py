"""Buffers go round without loss, and neither side is left waiting."""

from __future__ import annotations

import threading

import pytest

from enclave_cc.image.layers.ring import PIECE_BYTES, PIECES, filled_in_thread


def source(data, step):
    """Fill buffers from bytes, at most ``step`` at a time."""
    rest = [memoryview(data)]

    def fill(buffer):
        piece = rest[0][: min(step, len(buffer))]
        buffer[: len(piece)] = piece
        rest[0] = rest[0][len(piece) :]
        return len(piece)

    return fill


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 9 * PIECE_BYTES + 5])
@pytest.mark.parametrize("step", [PIECE_BYTES, 100_001])
def test_everything_arrives_in_order(size, step):
    data = bytes(index % 251 for index in range(size % 4096)) + bytes(size - size % 4096)
    closed = []
    pieces = filled_in_thread(source(data, step), name="t", close=lambda: closed.append(1))
    seen = [bytes(piece) for piece in pieces]
    assert b"".join(seen) == data
    assert all(len(piece) == PIECE_BYTES for piece in seen[:-1])
    assert closed == [1]


def test_no_more_buffers_are_used_than_there_are():
    used = set()

    def fill(buffer):
        used.add(id(buffer.obj))
        return len(buffer) if len(used) <= PIECES and next(rounds) < 50 else 0

    rounds = iter(range(100))
    assert sum(1 for _ in filled_in_thread(fill, name="t", close=lambda: None)) == 50
    assert len(used) == PIECES


def test_a_failure_arrives_after_what_came_before_it():
    calls = iter([PIECE_BYTES, PIECE_BYTES])

    def fill(_):
        size = next(calls, None)
        if size is None:
            raise OSError("broken")
        return size

    pieces = filled_in_thread(fill, name="t", close=lambda: None)
    assert [len(next(pieces)), len(next(pieces))] == [PIECE_BYTES, PIECE_BYTES]
    with pytest.raises(OSError, match="broken"):
        next(pieces)


def test_a_reader_that_goes_away_ends_the_thread():
    closed = threading.Event()
    pieces = filled_in_thread(len, name="ring-test", close=closed.set)
    next(pieces)
    pieces.close()
    assert closed.wait(10)
    assert not [thread for thread in threading.enumerate() if thread.name == "ring-test"]
