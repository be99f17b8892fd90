"""
Layers that containers of one pod have in common: sealed once, linked into the directory of each.

Only blobs and their keys are shared; every image has a manifest of its own under a key of its own. Nothing
is decided here about who may have a layer: whoever asks has verified the image that names it and unwrapped
its key, and a layer is found only under everything that its opening was checked against. Files vanish with
the last image that has them, keys with the last that could need them: docs/adr/0012.

Whoever opens a layer lets others wait for it, which must not end in a circle. So there is an order: a
container waits for those only that began before it, and within an image for lower places only. Nor does it
wait for long: another container's registry may be slow, even on purpose.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.sealing.merge import GivenUpError
from enclave_cc.formats.sealed.manifest import SealedBlob

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.media_types import LayerMediaType

    # Gives a blob of so many chunks a second name, and returns that.
    Link = Callable[[Path, int], str]


# Most layers take less; after that it costs less to open one twice than to run out of time with its opener.
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class LayerIdentity:
    """All that a layer was checked against while it was opened; ``key_print`` tells its keys apart."""

    digest: Digest
    size_bytes: int
    media_type: LayerMediaType
    diff_id: Digest
    key_print: bytes = b""


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A complete layer: its blob, whose key is the receiver's, and how long its tar stream is."""

    blob: SealedBlob
    tar_bytes: int


@dataclass(slots=True)
class _Record:
    """One layer of the store: being opened by ``filler``, or complete and lying where ``places`` say."""

    filler: Claim
    stored: StoredLayer | None = None
    places: dict[LayerShare, str] = field(default_factory=dict)


class LayerStore:
    """The layers of one pod; safe to use from several threads."""

    def __init__(self, *, patience_s: float = PATIENCE_S) -> None:
        self.patience_s = patience_s
        self._numbers = itertools.count()
        self._shares: dict[Path, LayerShare] = {}
        self.records: dict[LayerIdentity, _Record] = {}
        self.changed = threading.Condition()

    def share(self, directory: Path) -> LayerShare:
        """Let one more image take part, whose files are in a directory of its own."""
        with self.changed:
            share = LayerShare(self, directory, next(self._numbers))
            self._shares[directory] = share
        return share

    def release(self, directory: Path) -> None:
        """Forget an image, before its files are removed; unknown ones are no error."""
        with self.changed:
            share = self._shares.pop(directory, None)
        if share is not None:
            share.end()


class LayerShare:
    """What one image has to do with the store."""

    def __init__(self, store: LayerStore, directory: Path, number: int) -> None:
        self.store = store
        self.directory = directory
        self.number = number
        self.ended = False

    def claim(self, identity: LayerIdentity, place: int) -> Claim:
        """Say that this image needs a layer; returns at once."""
        claim = Claim(self, identity, place)
        with self.store.changed:
            if not self.ended and identity not in self.store.records:
                claim.begin()
        return claim

    def end(self) -> None:
        """Have nothing to do with the store any more: let others go on with what this image began."""
        with self.store.changed:
            self.ended = True
            for identity, record in tuple(self.store.records.items()):
                record.places.pop(self, None)
                abandoned = record.stored is None and record.filler.share is self
                if abandoned or (record.stored is not None and not record.places):
                    self.store.records.pop(identity)
                    if record.stored is not None:
                        record.stored.blob.key.wipe()
            self.store.changed.notify_all()


class Claim:
    """One layer in one place of one image: ours to open, or another's to wait for."""

    def __init__(self, share: LayerShare, identity: LayerIdentity, place: int) -> None:
        self.share = share
        self.ours = False
        self._identity = identity
        self._rank = (share.number, place)

    def begin(self) -> None:
        """Let the others know that this is the one who opens the layer; the store's lock is held."""
        self.ours = True
        self.share.store.records[self._identity] = _Record(self)

    def adopt(self, link: Link) -> StoredLayer | None:
        """
        Wait for whoever opens the layer and take it over; None means: open it yourself.

        Raise ``GivenUpError`` when this image was given up meanwhile.
        """
        store = self.share.store
        give_up = time.monotonic() + store.patience_s
        with store.changed:
            while True:
                if self.share.ended:
                    raise GivenUpError
                record = store.records.get(self._identity)
                if record is None:
                    self.begin()
                    return None
                if record.stored is not None:
                    stored = self._linked(record, record.stored, link)
                    if stored is not None:
                        return stored
                elif not self._waits_for(record.filler, give_up):
                    return None

    def publish(self, stored: StoredLayer) -> None:
        """Hand over a complete layer, its key included, for others to take; only if it was ours to open."""
        store = self.share.store
        with store.changed:
            record = store.records.get(self._identity)
            if record is None or record.filler is not self:
                # The image was given up.
                stored.blob.key.wipe()
                return
            record.stored = stored
            record.places[self.share] = stored.blob.name
            store.changed.notify_all()

    def distrust(self) -> None:
        """Let nobody take over this layer any more: what lies there is not what was sealed."""
        with self.share.store.changed:
            record = self.share.store.records.get(self._identity)
            if record is not None and record.stored is not None:
                self._forget(record.stored)

    def _waits_for(self, filler: Claim, give_up: float) -> bool:
        """Wait for some news of an earlier one; return False for a later one, or when it took too long."""
        if filler._rank >= self._rank:
            return False
        # What delays a lower place of the same image delays this image anyway.
        left = None if filler.share is self.share else give_up - time.monotonic()
        if left is not None and left <= 0:
            return False
        self.share.store.changed.wait(left)
        return True

    def _linked(self, record: _Record, stored: StoredLayer, link: Link) -> StoredLayer | None:
        """Link the layer from the first place where it still is; forget it if there is none."""
        for share, name in tuple(record.places.items()):
            with suppress(OSError, RefusedError):
                ours = link(share.directory / name, stored.blob.chunks)
                record.places.setdefault(self.share, ours)
                key = Secret(stored.blob.key.reveal())
                return StoredLayer(SealedBlob(ours, stored.blob.chunks, key), stored.tar_bytes)
            del record.places[share]
        self._forget(stored)
        return None

    def _forget(self, stored: StoredLayer) -> None:
        del self.share.store.records[self._identity]
        stored.blob.key.wipe()
