"""Layers that arrive in any order make the tree that they make one after another."""

from __future__ import annotations

import contextlib
import io
import itertools
import tarfile
import threading

import pytest

from enclave_cc.core.errors import UnavailableError
from enclave_cc.enclave.rootfs.sealing.merge import TreeMerger
from enclave_cc.formats.sealed.tree import LayerError, Tree
from enclave_cc.formats.tar.chunked import ChunkedFile
from enclave_cc.formats.tar.entry import EntryKind
from enclave_cc.formats.tar.scanner import TarScanner
from enclave_cc.formats.tar.sparse_map import Segment


def entries(*names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    return list(TarScanner().feed(buffer.getvalue()))


def listed(node, path=b""):
    """Names with the addresses of their data."""
    found = {}
    for name, child in (node.children or {}).items():
        found[path + b"/" + name] = child.node.address
        found |= listed(child.node, path + b"/" + name)
    return found


# A file, its removal, the same file again, and something on top.
LAYERS = [entries("a", "d/b"), entries(".wh.a", "d/c"), entries("a"), entries("d/.wh..wh..opq", "d/e")]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_every_order_of_arrival_gives_the_same_tree(order):
    expected, tree = Tree(), Tree()
    for number, layer in enumerate(LAYERS):
        expected.begin_layer(number * 2 * 65536)
        for entry in layer:
            expected.add(entry)
    merger = TreeMerger(tree)
    places = [merger.reserve() for _ in LAYERS]
    for place in order:
        for entry in LAYERS[place]:
            merger.add(places[place], [entry])
        merger.finish(place, 2)
    assert merger.complete() == 8
    assert listed(tree.root) == listed(expected.root)
    assert set(listed(tree.root)) == {b"/a", b"/d", b"/d/e"}


def test_layers_that_overlap_in_time_give_the_same_tree():
    tree = Tree()
    merger = TreeMerger(tree)
    low, high = merger.reserve(), merger.reserve()
    merger.add(high, entries(".wh.a"))
    merger.add(low, entries("a"))
    merger.add(high, entries("b"))
    merger.add(low, entries("c"))
    merger.finish(low, 1)
    merger.add(high, entries("e"))
    merger.finish(high, 1)
    merger.complete()
    assert listed(tree.root) == {b"/b": 65536 + 512, b"/c": 512, b"/e": 65536 + 512}


def test_a_layer_that_may_hold_no_more_waits_for_its_turn():
    merger = TreeMerger(Tree(), held_entries=1)
    low, high = merger.reserve(), merger.reserve()
    added = threading.Event()

    def fill():
        merger.add(high, entries("a"))
        merger.add(high, entries("b"))
        added.set()

    thread = threading.Thread(target=fill)
    thread.start()
    assert not added.wait(0.1)
    merger.add(low, entries("c", "d", "e"))
    merger.finish(low, 1)
    assert added.wait(10)
    thread.join(10)
    merger.finish(high, 1)
    assert merger.complete() == 2


def test_giving_up_ends_the_waiting():
    merger = TreeMerger(Tree(), held_entries=0)
    merger.reserve()
    high = merger.reserve()
    threading.Timer(0.05, merger.give_up).start()
    with pytest.raises(UnavailableError) as caught:
        merger.add(high, entries("a"))
    assert caught.value.code == "cancelled"


def test_an_image_with_a_missing_layer_is_not_complete():
    merger = TreeMerger(Tree())
    merger.reserve()
    with pytest.raises(RuntimeError):
        merger.complete()


def test_what_a_held_layer_does_wrong_is_found_at_its_turn():
    merger = TreeMerger(Tree())
    low, high = merger.reserve(), merger.reserve()
    merger.add(high, entries("../escape"))
    merger.finish(high, 1)
    with pytest.raises(LayerError):
        merger.finish(low, 1)


@pytest.mark.parametrize(
    "heavy",
    [
        {"xattrs": {b"user.a": bytes(4000)}},
        {"target": bytes(4000), "kind": EntryKind.SYMBOLIC_LINK},
        {"path": b"p/" * 2000},
        {"chunks": ChunkedFile(4 << 20, (Segment(1, 1),), max_bytes=1 << 20)},
    ],
    ids=["attributes", "target", "path", "sparse map"],
)
def test_an_entry_that_takes_much_memory_counts_as_several(heavy):
    (plain,) = entries("a")
    merger = TreeMerger(Tree(), held_entries=20)
    merger.reserve()
    high = merger.reserve()
    merger.add(high, [plain] * 5)
    added = threading.Event()

    def fill():
        with contextlib.suppress(UnavailableError):
            merger.add(high, [plain._replace(**heavy)] * 2)
            added.set()

    thread = threading.Thread(target=fill)
    thread.start()
    assert not added.wait(0.1)
    merger.give_up()
    thread.join()
    assert not added.is_set()


def test_room_that_heavy_entries_took_comes_back_with_their_turn():
    (plain,) = entries("a")
    heavy = plain._replace(path=b"p/" * 200)
    merger = TreeMerger(Tree(), held_entries=6)
    for _ in range(20):
        low, high = merger.reserve(), merger.reserve()
        merger.add(high, [heavy] * 3)
        merger.finish(low, 1)
        merger.finish(high, 1)
    assert merger.complete() == 40
