"""
What a client remembers of registries: the latest of it only, because they decide how much there is.

A daemon's client lives for weeks, and whoever runs a pod names the repositories.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MAX_ENTRIES: Final = 1024


class BoundedMemory(Generic[K, V]):
    """A mapping that forgets what was kept longest ago; safe to use from several threads."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._max_entries = max_entries
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return what is known."""
        with self._lock:
            return self._entries.get(key)

    def keep(self, key: K, value: V) -> None:
        """Remember, and forget the oldest beyond the bound."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
