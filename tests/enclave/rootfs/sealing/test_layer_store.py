"""Who opens a layer, who waits for whom, and when its key and its places are forgotten."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from enclave_cc.core.digest import Digest
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.sealing.layer_store import LayerIdentity, LayerStore, StoredLayer
from enclave_cc.enclave.rootfs.sealing.merge import GivenUpError
from enclave_cc.formats.oci.media_types import Compression, LayerMediaType
from enclave_cc.formats.sealed.manifest import SealedBlob

PLAIN = LayerMediaType(Compression.GZIP, encrypted=False)
PACKED = LayerMediaType(Compression.ZSTD, encrypted=False)
LAYER = LayerIdentity(Digest.of(b"blob"), 4, PLAIN, Digest.of(b"tar"))


def stored(name="first.blob"):
    return StoredLayer(SealedBlob(name, 7, Secret(b"k" * 32)), 400_000)


def linked(source, chunks):
    """Stand for the directory of whoever takes a layer over."""
    assert chunks == 7
    return f"{source.parent.name}-{source.name}"


def missing(_source, _chunks):
    raise FileNotFoundError


def test_the_first_opens_and_the_second_takes_over():
    store = LayerStore()
    first = store.share(Path("one")).claim(LAYER, 0)
    second = store.share(Path("two")).claim(LAYER, 3)
    assert (first.ours, second.ours) == (True, False)
    first.publish(stored())
    taken = second.adopt(linked)
    assert taken.blob.name == "one-first.blob"
    assert (taken.blob.chunks, taken.tar_bytes) == (7, 400_000)
    assert bytes(taken.blob.key.reveal()) == b"k" * 32


def test_the_key_of_who_takes_over_is_its_own():
    store = LayerStore()
    store.share(Path("one")).claim(LAYER, 0).publish(stored())
    second, third = (store.share(Path(name)).claim(LAYER, 0) for name in ("two", "three"))
    second.adopt(linked).blob.key.wipe()
    assert len(third.adopt(linked).blob.key) == 32


def test_a_container_waits_for_earlier_ones_only():
    store = LayerStore()
    early, late = store.share(Path("early")), store.share(Path("late"))
    late.claim(LAYER, 0)
    claim = early.claim(LAYER, 5)
    # It opens the layer itself and hands it to nobody.
    assert claim.adopt(linked) is None
    assert not claim.ours
    other = stored()
    claim.publish(other)
    assert len(other.blob.key) == 0


def test_a_slow_container_holds_up_nobody_for_long():
    store = LayerStore(patience_s=0.05)
    store.share(Path("slow")).claim(LAYER, 0)
    claim = store.share(Path("other")).claim(LAYER, 0)
    taken = ["nothing yet"]
    thread = threading.Thread(target=lambda: taken.append(claim.adopt(linked)), daemon=True)
    thread.start()
    thread.join(5)
    assert taken[-1] is None
    assert not claim.ours


def test_within_an_image_lower_places_are_waited_for():
    store = LayerStore()
    share = store.share(Path("one"))
    low, high, taken = share.claim(LAYER, 1), share.claim(LAYER, 2), []
    thread = threading.Thread(target=lambda: taken.append(high.adopt(linked)))
    thread.start()
    thread.join(0.1)
    assert not taken
    low.publish(stored())
    thread.join(10)
    assert taken[0].blob.name == "one-first.blob"


def test_the_key_is_wiped_when_the_last_image_is_gone():
    store, layer = LayerStore(), stored()
    store.share(Path("one")).claim(LAYER, 0).publish(layer)
    store.share(Path("two")).claim(LAYER, 0).adopt(linked)
    store.release(Path("one"))
    assert len(layer.blob.key) == 32
    store.release(Path("two"))
    assert len(layer.blob.key) == 0
    assert not store.records
    store.release(Path("two"))


def test_a_layer_is_linked_from_wherever_it_still_is():
    store = LayerStore()
    store.share(Path("one")).claim(LAYER, 0).publish(stored())
    store.share(Path("two")).claim(LAYER, 0).adopt(linked)

    def only_from_two(source, chunks):
        return linked(source, chunks) if source.parent == Path("two") else missing(source, chunks)

    taken = store.share(Path("three")).claim(LAYER, 0).adopt(only_from_two)
    assert taken.blob.name == "two-one-first.blob"


def test_a_layer_whose_files_are_gone_is_forgotten_and_opened_anew():
    store, layer = LayerStore(), stored()
    store.share(Path("one")).claim(LAYER, 0).publish(layer)
    claim = store.share(Path("two")).claim(LAYER, 0)
    assert claim.adopt(missing) is None
    assert claim.ours
    assert len(layer.blob.key) == 0


def test_a_layer_that_nobody_trusts_any_more_is_opened_anew():
    store, layer = LayerStore(), stored()
    store.share(Path("one")).claim(LAYER, 0).publish(layer)
    claim = store.share(Path("two")).claim(LAYER, 0)
    claim.adopt(linked)
    claim.distrust()
    claim.distrust()
    assert len(layer.blob.key) == 0
    assert store.share(Path("three")).claim(LAYER, 0).ours


def test_an_image_that_was_given_up_takes_part_no_more():
    store, layer = LayerStore(), stored()
    share = store.share(Path("one"))
    claim, waiting = share.claim(LAYER, 0), share.claim(LAYER, 1)
    share.end()
    claim.publish(layer)
    assert len(layer.blob.key) == 0
    with pytest.raises(GivenUpError):
        waiting.adopt(linked)
    assert not share.claim(LAYER, 2).ours
    assert not store.records


@pytest.mark.parametrize(
    "other",
    [
        LayerIdentity(Digest.of(b"other"), 4, PLAIN, Digest.of(b"tar")),
        LayerIdentity(Digest.of(b"blob"), 5, PLAIN, Digest.of(b"tar")),
        LayerIdentity(
            Digest.of(b"blob"), 4, LayerMediaType(Compression.NONE, encrypted=False), LAYER.diff_id
        ),
        LayerIdentity(Digest.of(b"blob"), 4, PLAIN, Digest.of(b"other")),
        LayerIdentity(Digest.of(b"blob"), 4, PLAIN, Digest.of(b"tar"), b"print"),
    ],
)
def test_layers_that_differ_in_anything_are_not_one(other):
    store = LayerStore()
    store.share(Path("one")).claim(LAYER, 0).publish(stored())
    assert store.share(Path("two")).claim(other, 0).ours
