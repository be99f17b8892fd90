"""
One layer on its way from encrypted to plain, opened by the code that opens it inside an enclave.

The ciphertext is spooled to a file without a name while it is checked in full: length, digest, HMAC, the
plain layer's digest, that it unpacks, and the diff id. Only then the plain layer is written.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from enclave_cc.formats.ocicrypt.layer_cipher import LayerDecryptor
from enclave_cc.image.checks import Checks
from enclave_cc.image.layers.opening import Layer, open_layer
from enclave_cc.tenant.images import layer_type
from enclave_cc.tenant.places.files import read_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.ports import LayerKeys
    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter
    from enclave_cc.tenant.work import Work

_MEMORY_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class EncryptedInput:
    """A layer as its manifest describes it, and what its configuration says it unpacks to."""

    descriptor: Descriptor
    diff_id: Digest


class LayerDecryption:
    """Decrypts the layers of one run; several threads may call it."""

    def __init__(self, reader: ImageReader, writer: ImageWriter, keys: LayerKeys, work: Work) -> None:
        self._reader = reader
        self._writer = writer
        self._keys = keys
        self._work = work

    def decrypt(self, layer: EncryptedInput, reference: Reference) -> tuple[Digest, int]:
        """
        Write the plain layer; return its digest, which is the original's, and its size.

        Raises ``RefusedError`` and ``InvalidInputError`` as ``open_layer`` does.
        """
        descriptor = layer.descriptor
        with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES) as spool:
            source = _Spooling(self._reader, self._work, spool)
            opened = Layer(reference, descriptor, layer_type(descriptor), layer.diff_id)
            for _ in open_layer(opened, source=source, keys=self._keys):
                continue
            key = self._keys.unwrap(descriptor, Checks())
            try:
                spool.seek(0)
                decryptor = LayerDecryptor(key.private)
                # The decryptor has one buffer; writers may keep what they get.
                plain = (bytes(decryptor.update(chunk)) for chunk in read_chunks(spool))
                return self._writer.add_blob(plain, descriptor.size, digest=key.private.digest)
            finally:
                key.wipe()


class _Spooling:
    """A layer's bytes from its place, kept while they pass."""

    def __init__(self, reader: ImageReader, work: Work, spool: IO[bytes]) -> None:
        self._reader = reader
        self._work = work
        self._spool = spool

    def open(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream the blob."""
        del reference  # Places know where they are.
        chunks = self._reader.open_blob(descriptor)
        for chunk in self._work.stream(str(descriptor.digest), chunks, descriptor.size):
            self._spool.write(chunk)
            yield chunk
