"""
The keys that our key provider serves: those its owner listed, and new ones below one name in the broker.

A caller chooses among them and nothing else: no path it names is opened, and no key that the broker has is
replaced or fetched.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.core.secret import Secret
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.ocicrypt.annotation_packet import KEK_BYTES
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.tenant.keyproviders.failures import refused
from enclave_cc.tenant.keys.recipients import BROKER, broker_key, invalid_recipient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.tenant.keyproviders.wrap_parameters import WrapParameters
    from enclave_cc.tenant.keys.store import KeyStore

DEFAULT_CREATE_IN: Final = "kbs:///default/image-kek"


class ServedKeys:
    """Keys by name; may be asked by several calls at the same time."""

    def __init__(
        self,
        listed: Sequence[str] = (),
        *,
        new_keys: KeyStore | None = None,
        create_in: str = DEFAULT_CREATE_IN,
    ) -> None:
        """Read ``kbs:///repository/type/tag=FILE`` for each listed key; raise ``InvalidInputError``."""
        self._keys: dict[str, Secret] = {}
        self._files: dict[str, Path] = {}
        for text in listed:
            self._list(text)
        # Whoever names a directory that is none is told at the start, not by the first caller.
        ResourceUri.parse(f"{create_in}/x")
        self._new_keys = new_keys
        self._create_in = create_in
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """Return the names of the keys that exist."""
        return tuple(self._keys)

    def for_wrapping(self, wanted: WrapParameters) -> BrokerKey:
        """Choose or make a key; raise ``RefusedError`` (keyprovider-refused, or the store's)."""
        with self._lock:
            uri = str(wanted.key_id) if wanted.key_id is not None else self._default()
            if uri not in self._keys:
                self._create(uri)
            self._require_path(uri, wanted.key_path)
            return BrokerKey(Secret(self._keys[uri].reveal()), uri)

    def get(self, uri: str) -> bytes:
        """Return a key for unwrapping; raise ``RefusedError`` (keyprovider-refused)."""
        key = self._keys.get(uri)
        if key is None:
            raise refused(f"{uri}: is not a key of this provider")
        return bytes(key.reveal())

    def _list(self, text: str) -> None:
        uri, equals, file = text.partition("=")
        if not uri.startswith(BROKER) or not equals:
            raise invalid_recipient(f"{text[:256]}: write kbs:///repository/type/tag=FILE")
        key = broker_key(ResourceUri.parse(uri), Path(file))
        self._keys[key.kid] = key.kek
        self._files[key.kid] = Path(file)

    def _default(self) -> str:
        if self._new_keys is not None:
            return f"{self._create_in}/{uuid.uuid4()}"
        if len(self._keys) != 1:
            raise refused("keyid: is missing, and there is not exactly one key")
        (uri,) = self._keys
        return uri

    def _create(self, uri: str) -> None:
        if self._new_keys is None or not uri.startswith(f"{self._create_in}/"):
            raise refused(f"{uri}: is not a key of this provider")
        key = Secret.random(KEK_BYTES)
        self._new_keys.create(ResourceUri.parse(uri), key)
        self._keys[uri] = key

    def _require_path(self, uri: str, path: str) -> None:
        """Refuse a caller who means another file than the owner: it would wrap with another key."""
        if path and (uri not in self._files or Path(path).absolute() != self._files[uri].absolute()):
            raise refused(f"keypath: is not the file that was listed for {uri}")
