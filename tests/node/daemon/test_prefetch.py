"""The prefetch that fills the cache of ciphertext."""

from __future__ import annotations

import threading
import time

import pytest

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import Stage, UnavailableError
from enclave_cc.node.daemon.prefetch import Prefetch
from enclave_cc.node.daemon.snapshot_record import IMAGE_LABEL, LAYER_LABEL, LAYERS_LABEL
from enclave_cc.transport.blobs.directory import BlobDirectory

BLOB = b"ciphertext" * 100
DIGEST = Digest.of(BLOB)


def labels(digest=DIGEST, *later):
    listed = ",".join(str(each) for each in (digest, *later))
    return {IMAGE_LABEL: "registry.example/app:1", LAYER_LABEL: str(digest), LAYERS_LABEL: listed}


class Registry:
    def __init__(self, *blobs):
        self.blobs = {str(Digest.of(blob)): blob for blob in blobs}
        self.asked = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.rejected = []

    def opened(self):
        return self

    def reject(self, digest):
        self.rejected.append(digest)
        return self.blobs.pop(f"mirror of {digest}", None) is not None

    def blob(self, reference, digest):
        self.asked.append(digest)
        self.may_answer.wait(10)
        if digest not in self.blobs:
            raise UnavailableError("registry-unavailable", "no answer", stage=Stage.FETCH)
        blob = self.blobs.get(f"mirror of {digest}", self.blobs[digest])
        yield blob[:5]
        yield blob[5:]


@pytest.fixture
def cache(tmp_path):
    directory = BlobDirectory(tmp_path, max_bytes=3000, max_blob_bytes=2000)
    directory.create()
    return directory


def test_prefetch_stores_the_layer_before_it_returns(cache):
    prefetch = Prefetch(cache, Registry(BLOB).opened)
    prefetch.layer(labels())
    assert cache.touch(DIGEST)
    prefetch.close()


def test_later_layers_are_begun_at_once_and_each_layer_is_fetched_once(cache):
    other = b"other" * 10
    registry = Registry(BLOB, other)
    prefetch = Prefetch(cache, registry.opened)
    prefetch.layer(labels(DIGEST, Digest.of(other)))
    prefetch.layer(labels(Digest.of(other)))
    assert sorted(registry.asked) == sorted(registry.blobs)
    prefetch.close()


def test_a_registry_that_fails_or_lies_is_not_fatal(cache):
    registry = Registry()
    prefetch = Prefetch(cache, registry.opened)
    prefetch.layer(labels())
    registry.blobs[str(DIGEST)] = b"a lie"
    prefetch.layer(labels())
    assert not cache.touch(DIGEST)
    assert len(registry.asked) == 2
    prefetch.close()


def test_after_a_mirror_that_lied_another_place_is_asked(cache):
    registry = Registry(BLOB)
    registry.blobs[f"mirror of {DIGEST}"] = b"a lie"
    prefetch = Prefetch(cache, registry.opened)
    prefetch.layer(labels())
    assert cache.touch(DIGEST)
    assert registry.rejected == [str(DIGEST)]
    prefetch.close()


def test_waiting_for_a_slow_registry_is_bounded_and_the_download_goes_on(cache):
    registry = Registry(BLOB)
    registry.may_answer.clear()
    prefetch = Prefetch(cache, registry.opened, wait_s=0.05)
    prefetch.layer(labels())
    assert not cache.touch(DIGEST)
    registry.may_answer.set()
    give_up = time.monotonic() + 5
    while not cache.touch(DIGEST):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    prefetch.close()


@pytest.mark.parametrize(
    "forged", [{}, {IMAGE_LABEL: "../../x", LAYER_LABEL: "sha256:../../etc"}, {**labels(), LAYER_LABEL: "x"}]
)
def test_labels_that_make_no_sense_are_ignored(cache, forged):
    registry = Registry(BLOB)
    prefetch = Prefetch(cache, registry.opened)
    prefetch.layer(forged)
    assert registry.asked == []
    prefetch.close()


class Dripping:
    """A registry that answers for as long as one listens."""

    def opened(self):
        return self

    def blob(self, reference, digest):
        while True:
            time.sleep(0.01)
            yield b"x"


def test_a_registry_that_never_ends_does_not_keep_the_daemon_from_stopping(cache):
    prefetch = Prefetch(cache, Dripping().opened, wait_s=20)
    waiting = threading.Thread(target=prefetch.layer, args=(labels(),))
    waiting.start()
    time.sleep(0.1)
    prefetch.close()
    waiting.join(3)
    assert not waiting.is_alive()
    for worker in prefetch._pool._threads:
        worker.join(3)
        assert not worker.is_alive()


def test_slow_registries_do_not_hold_up_every_call(cache, monkeypatch):
    monkeypatch.setattr("enclave_cc.node.daemon.prefetch._MAX_WAITING", 1)
    registry = Registry(BLOB)
    registry.may_answer.clear()
    prefetch = Prefetch(cache, registry.opened, wait_s=20)
    waiting = threading.Thread(target=prefetch.layer, args=(labels(),))
    waiting.start()
    time.sleep(0.1)
    start = time.monotonic()
    prefetch.layer(labels())
    assert time.monotonic() - start < 5
    registry.may_answer.set()
    waiting.join(5)
    assert cache.touch(DIGEST)
    prefetch.close()
