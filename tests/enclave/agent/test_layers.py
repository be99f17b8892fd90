"""Layers of an image sealed at the same time: all in their places, or nothing of any of them."""

from __future__ import annotations

import gzip
import os
import threading
import time

import pytest

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import RefusedError, UnavailableError
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.agent.course import Cancellation
from enclave_cc.enclave.agent.layers import LayerWork, seal_layers
from enclave_cc.enclave.rootfs.sealing.writer import Binding, SealedImageWriter
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.media_types import Compression, LayerMediaType
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.owner.limits import Limits
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, STRIDE_BYTES, ChunkOpener
from enclave_cc.formats.sealed.manifest import open_manifest
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.layers.opening import Layer
from enclave_cc.image.layers.progress import Progress
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.transport.patience.deadline import Deadline, Patience

REFERENCE = Reference.parse("registry.example/team/app:1")
BINDING = Binding("pod", "container", "sha256:image")


def tar(number):
    return LayerBuilder().file(f"file{number}", os.urandom(300_000)).tar()


class World:
    """A source of layers, some of which hang until somebody interrupts."""

    def __init__(self, directory, tars):
        self.directory = directory / "image"
        self.fdk = Secret.random(32)
        self.blobs, self.layers = {}, []
        self.interrupted = threading.Event()
        self.hanging = set()
        self.reached = threading.Event()
        self.opened_digests = []
        for data in tars:
            blob = gzip.compress(data, 1, mtime=0)
            self.blobs[Digest.of(blob)] = blob
            media_type = LayerMediaType(Compression.GZIP, encrypted=False)
            descriptor = Descriptor(str(media_type), Digest.of(blob), len(blob))
            self.layers.append(Layer(REFERENCE, descriptor, media_type, Digest.of(data)))

    def open(self, _reference, descriptor):
        data = self.blobs[descriptor.digest]
        self.opened_digests.append(descriptor.digest)
        yield data[:1000]
        if descriptor.digest in self.hanging:
            self.reached.set()
            assert self.interrupted.wait(20), "nobody interrupted"
            raise UnavailableError("registry-unavailable", "gone", stage="fetch")
        yield data[1000:]

    def hang(self, number):
        self.hanging.add(self.layers[number].descriptor.digest)

    def writer(self, **options):
        return SealedImageWriter(self.directory, fdk=self.fdk, binding=BINDING, **options)

    def seal(self, *, limits=None, store=None, keys=None, **options):
        limits = limits or Limits()
        writer, progress = self.writer(limits=limits), Progress()
        arriving = progress.expect([layer.descriptor.size for layer in self.layers])
        work = LayerWork(self, keys or KeyRing(), limits, interrupt=self.interrupted.set, **options)
        share = store and store.share(self.directory)
        seal_layers(self.layers, arriving, writer, work, share)
        writer.finish()
        return progress.snapshot()

    def opened(self, first=1):
        """Decrypt every layer, or every blob from the first wanted one on."""
        sealed = (self.directory / "manifest.sealed").read_bytes()
        found = []
        for blob in open_manifest(sealed, fdk=self.fdk, binding=BINDING).blobs[first:]:
            data, opener = (self.directory / blob.name).read_bytes(), ChunkOpener(blob.key)
            plain = bytearray(blob.chunks * CHUNK_BYTES)
            for chunk in range(blob.chunks):
                view = memoryview(plain)[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]
                opener.open_into(chunk, data[chunk * STRIDE_BYTES : (chunk + 1) * STRIDE_BYTES], view)
            found.append(bytes(plain))
        return found

    def nothing_left(self):
        names = {thread.name for thread in threading.enumerate()}
        return not self.directory.exists() and not names & {"layer", "layer-read", "layer-inflate"}


def padded(data):
    return data + bytes(-len(data) % CHUNK_BYTES)


@pytest.mark.parametrize("spool_bytes", [10, 200_000, 350_000, 10_000_000])
def test_all_layers_are_in_their_places(tmp_path, spool_bytes):
    tars = [tar(number) for number in range(7)]
    world = World(tmp_path, tars)
    seen = world.seal(limits=Limits(spool_bytes=spool_bytes))
    assert world.opened() == [padded(data) for data in tars]
    assert seen.finished_layers == seen.layers == 7
    assert seen.arrived_bytes == seen.total_bytes == sum(map(len, world.blobs.values()))


def test_a_layer_that_occurs_twice_counts_twice(tmp_path):
    first, removal = tar(1), LayerBuilder().whiteout("file1").tar()
    world = World(tmp_path, [first, removal, first])
    world.seal()
    assert world.opened() == [padded(first), padded(removal), padded(first)]


@pytest.mark.parametrize("spool_bytes", [10, 350_000, 10_000_000])
def test_a_layer_that_occurs_twice_is_fetched_once(tmp_path, spool_bytes):
    first, other = tar(1), tar(2)
    world = World(tmp_path, [first, first, other, first, other])
    seen = world.seal(limits=Limits(spool_bytes=spool_bytes))
    assert world.opened() == [padded(data) for data in (first, first, other, first, other)]
    assert sorted(map(str, world.opened_digests)) == sorted(map(str, world.blobs))
    assert (seen.finished_layers, seen.reused_layers) == (5, 3)
    assert seen.arrived_bytes == seen.total_bytes == sum(map(len, world.blobs.values()))
    assert len(list(world.directory.glob("*.blob"))) == 6


def test_empty_layers_and_an_image_without_layers_are_sealed(tmp_path):
    empty = LayerBuilder().tar()
    world = World(tmp_path, [empty, tar(1), empty])
    world.seal()
    assert len(world.opened()) == 3
    none = World(tmp_path / "none", [])
    none.directory.parent.mkdir()
    none.seal()
    assert none.opened() == []


@pytest.mark.parametrize("bad", range(4))
def test_one_bad_layer_ends_all_and_leaves_nothing(tmp_path, bad):
    world = World(tmp_path, [tar(number) for number in range(4)])
    digest = world.layers[bad].descriptor.digest
    world.blobs[digest] = bytes(len(world.blobs[digest]))
    for number in {0, 1, 2, 3} - {bad}:
        if number > bad:
            world.hang(number)
    with pytest.raises(RefusedError) as caught:
        world.seal()
    assert caught.value.code == "layer-digest-mismatch"
    assert world.interrupted.is_set()
    assert world.nothing_left()


def test_the_deadline_ends_layers_that_hang(tmp_path):
    world = World(tmp_path, [tar(number) for number in range(3)])
    world.hang(0)
    world.hang(2)
    with pytest.raises(UnavailableError) as caught:
        world.seal(patience=Patience(Deadline.after(0.3)))
    assert caught.value.code == "deadline-exceeded"
    assert world.nothing_left()


def test_a_peer_that_is_gone_when_the_time_is_over_ran_out_of_time(tmp_path):
    world = World(tmp_path, [tar(1)])
    world.hang(0)
    in_time = [60.0]

    def gone():
        assert world.reached.wait(10)
        in_time[0] = 200.0
        world.interrupted.set()

    deadline = Deadline(100.0, clock=lambda: in_time[0])
    waiter = threading.Thread(target=gone)
    waiter.start()
    with pytest.raises(UnavailableError) as caught:
        world.seal(patience=Patience(deadline))
    waiter.join()
    assert caught.value.code == "deadline-exceeded"


@pytest.mark.parametrize("spool_bytes", [10, 10_000_000])
def test_a_cancellation_ends_layers_that_hang(tmp_path, spool_bytes):
    world = World(tmp_path, [tar(number) for number in range(3)])
    world.hang(0)
    cancellation = Cancellation()
    ended = []

    def cancel():
        assert world.reached.wait(10)
        ended.append(time.monotonic())
        cancellation.cancel()

    threading.Thread(target=cancel).start()
    with pytest.raises(UnavailableError) as caught:
        world.seal(limits=Limits(spool_bytes=spool_bytes), patience=Patience(cancelled=cancellation))
    # Well before anything gives up by itself, and time enough for a busy machine.
    assert time.monotonic() - ended[0] < 10
    assert caught.value.code == "cancelled"
    assert world.nothing_left()


def test_whoever_looks_may_fail_without_leaving_threads(tmp_path):
    world = World(tmp_path, [tar(1)])
    world.hang(0)

    def look():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        world.seal(look=look)
    assert world.nothing_left()


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (Limits(entries=2), "image.limit.entries"),
        (Limits(path_bytes=4), "image.limit.path-bytes"),
        (Limits(uncompressed_image_bytes=700_000), "image.limit.uncompressed-image-bytes"),
        (Limits(uncompressed_layer_bytes=300_000), "image.limit.uncompressed-bytes"),
    ],
)
def test_an_image_beyond_a_limit_is_refused_and_leaves_nothing(tmp_path, limits, rule):
    world = World(tmp_path, [tar(number) for number in range(3)])
    with pytest.raises(RefusedError) as caught:
        world.seal(limits=limits)
    assert caught.value.code == "image-limit-exceeded"
    assert [finding.rule for finding in caught.value.findings] == [rule]
    assert world.nothing_left()


def test_keys_are_asked_for_one_at_a_time(tmp_path):
    busy, most = [0], [0]

    class Keys:
        def unwrap(self, descriptor, checks):
            busy[0] += 1
            most[0] = max(most[0], busy[0])
            time.sleep(0.02)
            busy[0] -= 1
            raise RefusedError("layer-key-refused", "no", stage="decrypt")

    world = World(tmp_path, [tar(number) for number in range(3)])
    encrypted = LayerMediaType(Compression.GZIP, encrypted=True)
    world.layers = [Layer(REFERENCE, layer.descriptor, encrypted, layer.diff_id) for layer in world.layers]
    writer, progress = world.writer(), Progress()
    with pytest.raises(RefusedError):
        seal_layers(world.layers, progress.expect([1, 1, 1]), writer, LayerWork(world, Keys()))
    assert most == [1]
    assert world.nothing_left()


def test_a_thread_that_cannot_start_ends_the_others(tmp_path, monkeypatch):
    world = World(tmp_path, [tar(number) for number in range(3)])
    world.hang(0)
    start, started = threading.Thread.start, []

    def fail_second(thread):
        if thread.name == "layer" and started:
            raise RuntimeError("can't start new thread")
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail_second)
    with pytest.raises(RuntimeError):
        world.seal()
    assert world.nothing_left()


def test_no_key_stays_behind_when_the_image_is_given_up_between_two_steps(tmp_path):
    world = World(tmp_path, [])
    writer = world.writer()
    place = writer.reserve_place()

    def last_piece():
        yield tar(1)
        writer.abort()

    kept = []
    keep = writer._keep
    writer._keep = lambda place, sealed: (kept.append(sealed), keep(place, sealed))
    with pytest.raises(UnavailableError) as caught:
        writer.fill_place(place, last_piece())
    assert caught.value.code == "cancelled"
    assert [len(sealed.key) for sealed in kept] == [0]
    assert world.nothing_left()
