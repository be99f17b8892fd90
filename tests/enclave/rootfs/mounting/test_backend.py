"""A back end is used only after it showed that it returns no byte that was not sealed."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclave_cc.core.errors import RefusedError
from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, Backend, BackendSelector
from enclave_cc.enclave.rootfs.mounting.selftest import SelfTestError, metadata, plaintext, self_test
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES


class Zeros:
    """What a kernel looks like that returns zeros for a chunk it could not read."""

    opened_in_part = None

    def __init__(self):
        probe = plaintext()
        self.bytes = bytes(metadata()) + probe[:CHUNK_BYTES] + bytes(CHUNK_BYTES) + probe[2 * CHUNK_BYTES :]
        self.size = len(self.bytes)

    def reader(self):
        return self

    def read_into(self, offset, out):
        part = self.bytes[offset : offset + len(out)]
        out[: len(part)] = part
        return len(part)


class Candidate:
    """A back end that behaves as told."""

    def __init__(self, error=None):
        self.error = error
        self.calls = 0

    def mount(self, device, target, image, cleanup):
        self.calls += 1
        if self.error:
            raise self.error
        Backend.FUSE_TREE.mount(device, target, image, cleanup)

    def __str__(self):
        return "candidate"


def own_mounts(work: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(work) in line]


@pytest.mark.root
@pytest.mark.parametrize("backend", PREFERENCE)
def test_this_kernel_passes_and_nothing_is_left(tmp_path, in_private_mounts, backend):
    def body():
        self_test(backend.mount, tmp_path)
        assert not list(tmp_path.iterdir())
        assert not own_mounts(tmp_path)

    in_private_mounts(body)


@pytest.mark.root
@pytest.mark.parametrize("backend", PREFERENCE)
def test_a_kernel_that_makes_up_zeros_is_caught(tmp_path, in_private_mounts, backend):
    def body():
        with pytest.raises(SelfTestError):
            self_test(backend.mount, tmp_path, device=Zeros())
        assert not own_mounts(tmp_path)

    in_private_mounts(body)


@pytest.mark.root
def test_the_next_back_end_is_tried_and_the_choice_remembered(tmp_path, in_private_mounts):
    def body():
        absent, present = Candidate(OSError(15, "Block device required")), Candidate()
        selector = BackendSelector([absent, present])
        assert selector.choose(tmp_path) is present
        assert selector.choose(tmp_path) is present
        assert (absent.calls, present.calls) == (1, 1)

    in_private_mounts(body)


@pytest.mark.root
def test_without_a_back_end_the_reasons_are_given(tmp_path, in_private_mounts):
    def body():
        selector = BackendSelector(
            [Candidate(OSError(15, "Block device required")), Candidate(SelfTestError("zeros"))]
        )
        with pytest.raises(RefusedError) as caught:
            selector.choose(tmp_path)
        assert caught.value.code == "erofs-unavailable"
        assert "Block device required" in caught.value.detail
        assert "zeros" in caught.value.detail

    in_private_mounts(body)
