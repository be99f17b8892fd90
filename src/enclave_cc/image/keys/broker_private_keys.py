"""
The owner's private keys for JWE and PKCS#7, as resources of the broker.

Each is fetched when the first item asks for it and kept as long as the ring, which is one preparation.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from enclave_cc.formats.ocicrypt.private_key import parse_private_key
from enclave_cc.image.keys.schemes import NamedKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.formats.jose.key_wrapping import PrivateKey
    from enclave_cc.image.ports import Resources


class BrokerPrivateKeys:
    """Fetches each key at most once, however many layers ask at the same time."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._lock = threading.Lock()
        self._keys: dict[str, PrivateKey] = {}

    def named(self, uris: Sequence[str]) -> tuple[NamedKey, ...]:
        """Return the keys, unfetched, in the owner's order."""
        return tuple(NamedKey(uri, partial(self._load, uri)) for uri in uris)

    def _load(self, uri: str) -> PrivateKey:
        """Fetch and parse; raise the broker's error or ``InvalidInputError`` (decryption-key-invalid)."""
        with self._lock:
            if uri not in self._keys:
                self._keys[uri] = parse_private_key(self._resources.get(uri))
            return self._keys[uri]
