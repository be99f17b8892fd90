"""
A registry with mirrors: asks one endpoint after the other, and remembers which mirror failed.

It goes on to the next one when a mirror is away, does not have what was asked for, or serves
something else than what a digest names; any other answer stands. Whoever calls it keeps speaking of
the image by the name that was asked for, and checks all that comes back.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from enclave_cc.core import strict_json
from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError
from enclave_cc.transport.registry.client import MAX_MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.formats.registries.configuration import Registries
    from enclave_cc.transport.registry.client import FetchedManifest

# How long a mirror that was away, or that lied, is left alone.
COOL_DOWN_S: Final = 60.0
_NOTE_CHARS: Final = 200
_AWAY: Final = frozenset({"registry-unavailable", "registry-proxy-failed"})
_ABSENT: Final = "image-not-found"


class Client(Protocol):
    """The registry client, as far as reading goes."""

    def manifest(self, reference: Reference, *, digest_or_tag: str) -> FetchedManifest:
        """Return a manifest's bytes."""

    def blob(self, reference: Reference, descriptor_digest: str, *, offset: int = 0) -> Iterator[bytes]:
        """Stream a blob's bytes."""

    def referrers(self, reference: Reference, *, digest: str) -> FetchedManifest:
        """Return the index of what refers to a manifest."""

    def close(self) -> None:
        """Drop the connections."""

    def interrupt(self) -> None:
        """End every request that waits for a peer."""


class MirrorHealth:
    """Which mirrors failed a short while ago; outlives single pulls, safe to share between threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s: dict[str, float] = {}

    def failed(self, registry: str) -> None:
        """Leave a mirror alone for a while."""
        self._until_s[registry] = self._clock() + COOL_DOWN_S

    def good(self, registry: str) -> bool:
        """Tell whether a mirror did not fail lately."""
        return self._clock() >= self._until_s.get(registry, 0.0)


class MirroredRegistry:
    """One pull's view of its registries; ``quick`` asks mirrors, and ``client`` who has the last word."""

    def __init__(
        self, registries: Registries, client: Client, *, quick: Client, health: MirrorHealth
    ) -> None:
        self._registries = registries
        self._client = client
        self._quick = quick
        self._health = health
        # Which mirrors a blob came from: the ones to blame if it was wrong.
        self._gave: dict[str, set[str]] = {}
        self._liars: set[str] = set()

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()
        self._quick.close()

    def interrupt(self) -> None:
        """End every request that waits for a peer, from another thread."""
        self._client.interrupt()
        self._quick.interrupt()

    def manifest(self, reference: Reference, *, digest_or_tag: str) -> FetchedManifest:
        """Fetch a manifest; raises as the client does, and ``RefusedError`` (registry-blocked)."""
        tried = _Tried()
        *mirrors, own = self._endpoints(reference)
        for mirror in mirrors:
            try:
                found = self._quick.manifest(mirror, digest_or_tag=digest_or_tag)
            except EnclaveCcError as error:
                self._go_on(mirror, error, tried)
            else:
                if _deserves(found.body, digest_or_tag):
                    return found
                self._health.failed(mirror.registry)
                tried.note(mirror, "another manifest than the one named")
        with tried.as_detail(own):
            return self._client.manifest(own, digest_or_tag=digest_or_tag)

    def blob(self, reference: Reference, descriptor_digest: str, *, offset: int = 0) -> Iterator[bytes]:
        """Stream a blob; one endpoint goes on where another one stopped."""
        tried, position = _Tried(), offset
        gave = self._gave[descriptor_digest] = set()
        *mirrors, own = self._endpoints(reference)
        for mirror in mirrors:
            try:
                for chunk in self._quick.blob(mirror, descriptor_digest, offset=position):
                    gave.add(mirror.registry)
                    position += len(chunk)
                    yield chunk
            except EnclaveCcError as error:
                self._go_on(mirror, error, tried)
            else:
                # Also one that brought nothing at all is to blame for what came out.
                gave.add(mirror.registry)
                return
        with tried.as_detail(own):
            yield from self._client.blob(own, descriptor_digest, offset=position)

    def referrers(self, reference: Reference, *, digest: str) -> FetchedManifest:
        """Return the first list of referrers that has an entry: mirrors often lack them."""
        tried = _Tried()
        *mirrors, own = self._endpoints(reference)
        for mirror in mirrors:
            try:
                found = self._quick.referrers(mirror, digest=digest)
            except EnclaveCcError as error:
                self._go_on(mirror, error, tried)
            else:
                if not _is_empty(found.body):
                    return found
        with tried.as_detail(own):
            return self._client.referrers(own, digest=digest)

    def reject(self, descriptor_digest: str) -> bool:
        """Hear that a blob was wrong; tell whether asking again may give another one."""
        gave = self._gave.pop(descriptor_digest, set())
        for registry in gave:
            self._health.failed(registry)
        # However long this pull takes, it ends.
        self._liars |= gave
        return bool(gave)

    def _endpoints(self, reference: Reference) -> list[Reference]:
        """List the mirrors worth asking, and last the place that has the last word."""
        *mirrors, own = self._registries.endpoints(reference)
        return [*(mirror.reference for mirror in mirrors if self._usable(mirror.reference)), own.reference]

    def _usable(self, mirror: Reference) -> bool:
        return mirror.registry not in self._liars and self._health.good(mirror.registry)

    def _go_on(self, mirror: Reference, error: EnclaveCcError, tried: _Tried) -> None:
        """Note why a mirror did not do, or raise again what no other place could mend."""
        if error.code in _AWAY:
            self._health.failed(mirror.registry)
        elif error.code != _ABSENT:
            raise error
        tried.note(mirror, error.detail)


class _Tried:
    """What was asked before the last endpoint, for the detail of its failure."""

    def __init__(self) -> None:
        self._notes: list[str] = []

    def note(self, mirror: Reference, why: str) -> None:
        self._notes.append(f"{mirror.name}: {why[:_NOTE_CHARS]}")

    @contextmanager
    def as_detail(self, own: Reference) -> Iterator[None]:
        """Add to a failure in the block what failed before it."""
        try:
            yield
        except EnclaveCcError as error:
            if self._notes:
                self.note(own, error.detail)
                error.detail = "; ".join(self._notes)
            raise


def _deserves(body: bytes, digest_or_tag: str) -> bool:
    """Tell whether a body has the digest it was asked for by; under a tag, anything may be."""
    try:
        digest = Digest.parse(digest_or_tag)
    except InvalidInputError:
        return True
    return Digest.of(body, digest.algorithm) == digest


def _is_empty(body: bytes) -> bool:
    """Tell whether an index lists nothing; one that cannot be read is the caller's to judge."""
    try:
        document = strict_json.loads(body, max_bytes=MAX_MANIFEST_BYTES)
    except strict_json.InvalidJsonError:
        return False
    return isinstance(document, dict) and not document.get("manifests")
