from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats import ttrpc


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=60)), max_size=5), st.integers(1, 20))
def test_frames_survive_any_cut_of_the_stream(frames, step):
    stream = b"".join(ttrpc.pack_frame(number, ttrpc.TYPE_REQUEST, data) for number, data in frames)
    reader = ttrpc.FrameReader()
    seen = []
    for start in range(0, len(stream), step):
        seen += reader.feed(stream[start : start + step])
    assert [(frame.stream_id, frame.data) for frame in seen] == frames


def test_an_oversize_frame_is_drained_and_the_next_one_is_read():
    size = ttrpc.MAX_DATA_BYTES + 1
    reader = ttrpc.FrameReader()
    seen = reader.feed(ttrpc.HEADER.pack(size, 1, 1, 0))
    for _ in range(size // 65536 + 1):
        seen += reader.feed(bytes(min(65536, size)))
        size -= 65536
        if size <= 0:
            break
    seen += reader.feed(ttrpc.pack_frame(3, 1, b"next"))
    assert [(frame.stream_id, frame.oversize, frame.data) for frame in seen] == [
        (1, True, b""),
        (3, False, b"next"),
    ]
