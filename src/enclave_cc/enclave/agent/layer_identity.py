"""
A layer whose key was asked for: what it is, before anybody knows whether it has to be opened.

The broker is asked for every container, whoever opened the same layer before: asking is what authorises,
and what the owner's audit log shows. The key's print is part of the identity, because an image that names a
layer without having its key must not get that layer through a neighbour that does.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.rootfs.sealing.layer_store import LayerIdentity
from enclave_cc.formats.framing import lp
from enclave_cc.image.checks import Checks

if TYPE_CHECKING:
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.image.keys.layer_key import LayerKey
    from enclave_cc.image.ports import LayerKeys
    from enclave_cc.image.pull import Layer

_PURPOSE: Final = b"enclave-cc layer, key print, v1"


class KeyInHand:
    """The key of one layer, or that it needs none; serves whoever opens the layer as its ``LayerKeys``."""

    def __init__(self, layer: Layer, keys: LayerKeys) -> None:
        """Ask for the key; raise what ``keys`` raises."""
        self._layer = layer
        self._checks = Checks()
        self._key = keys.unwrap(layer.descriptor, self._checks) if layer.media_type.encrypted else None

    def unwrap(self, _descriptor: Descriptor, checks: Checks) -> LayerKey:
        """Hand over the key, and the findings of its unwrapping."""
        if self._key is None:
            raise ValueError("the layer is not encrypted")
        for finding in self._checks.findings:
            checks.note(finding)
        return self._key

    def identity(self) -> LayerIdentity:
        """Name all that the layer is checked against while it is opened."""
        layer = self._layer
        descriptor = layer.descriptor
        return LayerIdentity(
            descriptor.digest, descriptor.size, layer.media_type, layer.diff_id, self._key_print()
        )

    def wipe(self) -> None:
        """Overwrite the key; views handed out see zeros."""
        if self._key is not None:
            self._key.wipe()

    def _key_print(self) -> bytes:
        if self._key is None:
            return b""
        public, private = self._key.public, self._key.private
        options = lp(_PURPOSE, private.nonce, str(private.digest).encode(), public.hmac, public.nonce)
        key_print = hashlib.sha256(options)
        # 32 random bytes: nobody finds them by their print.
        key_print.update(private.symkey.reveal())
        return key_print.digest()
