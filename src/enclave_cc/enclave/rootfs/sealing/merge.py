"""
The tree of an image whose layers arrive at the same time: entries are applied in the layers' order.

The lowest layer that is not finished goes straight into the tree. What higher ones bring meanwhile is held
back, up to a bound; beyond it they wait for their turn, so that memory does not depend on the image. The
lowest one never waits, so somebody always goes on.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage, UnavailableError
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.formats.sealed.tree import Tree
    from enclave_cc.formats.tar.entry import TarEntry

HELD_ENTRIES: Final = 32_768
# What an entry takes while it waits; one with long names, attributes or a sparse map counts as several.
_ENTRY_BYTES: Final = 400


class GivenUpError(UnavailableError):
    """Another layer failed, or somebody ended the work: what was raised there is the reason."""

    def __init__(self) -> None:
        super().__init__("cancelled", "the work is no longer wanted", stage=Stage.SEAL)


class TreeMerger:
    """One tree, many layers; each place is used by one thread at a time, all places at the same time."""

    def __init__(self, tree: Tree, *, held_entries: int = HELD_ENTRIES) -> None:
        self._tree = tree
        self._room = held_entries
        self._held: dict[int, list[TarEntry]] = {}
        self._weights: dict[int, int] = {}
        self._finished: dict[int, int] = {}
        self._places = 0
        self._turn = 0
        self._begun = -1
        self._chunks = 0
        # Nobody waits or adds any more.
        self.given_up = False
        self._changed = threading.Condition()

    def reserve(self) -> int:
        """Return the next place, from the lowest upwards."""
        with self._changed:
            self._places += 1
            return self._places - 1

    def add(self, place: int, entries: Sequence[TarEntry]) -> None:
        """Apply entries or hold them; raise ``LayerError``, ``GivenUpError`` after ``give_up()``."""
        with self._changed:
            # A layer whose turn it is holds nothing; what that would take is not counted.
            weight = 0 if place == self._turn else _weight(entries)
            self._changed.wait_for(lambda: self.given_up or place == self._turn or weight <= self._room)
            if self.given_up:
                raise GivenUpError
            if place != self._turn:
                self._held.setdefault(place, []).extend(entries)
                self._weights[place] = self._weights.get(place, 0) + weight
                self._room -= weight
                return
            self._begin_turn()
        # Nobody else touches the tree before this place is finished.
        self._apply(entries)

    def finish(self, place: int, chunks: int) -> None:
        """Say that a layer is complete and how many chunks its stream has; apply what waited for that."""
        with self._changed:
            self._finished[place] = chunks
            while not self.given_up and self._turn in self._finished:
                self._begin_turn()
                self._chunks += self._finished.pop(self._turn)
                self._turn += 1
            self._changed.notify_all()

    def complete(self) -> int:
        """Return the chunks of all layers; every place that was reserved must be finished."""
        with self._changed:
            if self._turn != self._places:
                raise RuntimeError("a layer of the image is missing")
            return self._chunks

    def give_up(self) -> None:
        """Let nobody wait or add any more."""
        with self._changed:
            self.given_up = True
            self._held.clear()
            self._changed.notify_all()

    def _begin_turn(self) -> None:
        if self._begun == self._turn:
            return
        self._begun = self._turn
        self._tree.begin_layer(self._chunks * CHUNK_BYTES)
        held = self._held.pop(self._turn, [])
        self._room += self._weights.pop(self._turn, 0)
        self._changed.notify_all()
        self._apply(held)

    def _apply(self, entries: Sequence[TarEntry]) -> None:
        add = self._tree.add
        for entry in entries:
            add(entry)


def _weight(entries: Sequence[TarEntry]) -> int:
    """Say as how many ordinary entries these count."""
    return len(entries) + sum(map(_extra_bytes, entries)) // _ENTRY_BYTES


def _extra_bytes(entry: TarEntry) -> int:
    attributes = sum(len(name) + len(value) for name, value in entry.xattrs.items())
    sparse = 0 if entry.chunks is None else entry.chunks.cost_bytes
    return len(entry.path) + len(entry.target) + attributes + sparse
