"""One layer on its way from plain to encrypted: read, compared, encrypted and stored in one pass."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.formats.ocicrypt.layer_cipher import PUBLIC_OPTIONS_ANNOTATION, LayerEncryptor
from enclave_cc.formats.ocicrypt.wrapping import wrapped_annotations
from enclave_cc.image.layers.channel import in_thread
from enclave_cc.tenant.encryption.compressing import compressed
from enclave_cc.tenant.images import layer_type
from enclave_cc.tenant.places.files import read_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.tenant.encryption.images import Encryption
    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter
    from enclave_cc.tenant.work import Work

# Layers up to this size wait in memory for their digest, larger ones in a file without a name.
_MEMORY_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class EncryptedLayer:
    """What stands for a plain layer."""

    digest: Digest
    size: int
    annotations: Mapping[str, str]
    compression: Compression


class LayerEncryption:
    """Encrypts the layers of one run; several threads may call it."""

    def __init__(
        self,
        reader: ImageReader,
        writer: ImageWriter,
        request: Encryption,
        work: Work,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._recipients = request.recipients
        self._keys = request.keys
        self._compress = request.compress
        self._work = work

    def encrypt(self, layer: Descriptor) -> EncryptedLayer:
        """Encrypt a layer; raise ``RefusedError`` (digest-mismatch) if its bytes are others."""
        compression = layer_type(layer).compression
        if compression is Compression.NONE and self._compress is not Compression.NONE:
            return self._spooled(layer, self._compress)
        if self._keys.needs_checked_input:
            return self._spooled(layer, compression)
        return self._stream(self._plain(layer), layer.digest, layer.size, compression)

    def _spooled(self, layer: Descriptor, compression: Compression) -> EncryptedLayer:
        """
        Encrypt from a file without a name, after the layer was compared with its digest.

        A derived key is for one stream only, so it must not meet the first byte of another; and what is
        compressed here has a digest only at its end.
        """
        same = compression is layer_type(layer).compression
        chunks = self._plain(layer) if same else compressed(self._plain(layer), compression)
        digest, size = hashlib.sha256(), 0
        with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES) as spool:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                spool.write(chunk)
            spool.seek(0)
            plain = layer.digest if same else Digest("sha256", digest.hexdigest())
            return self._stream(read_chunks(spool), plain, size, compression)

    def _stream(
        self, plain: Iterator[bytes], digest: Digest, size: int, compression: Compression
    ) -> EncryptedLayer:
        options = self._keys.options(digest)
        try:
            encryptor = LayerEncryptor(options)
            with closing(in_thread(plain, name="layer-read")) as chunks:
                stored, stored_size = self._writer.add_blob(map(encryptor.update, chunks), size)
            annotations = {
                PUBLIC_OPTIONS_ANNOTATION: encryptor.finish().encode(),
                **wrapped_annotations(options, self._recipients),
            }
            return EncryptedLayer(stored, stored_size, annotations, compression)
        finally:
            options.symkey.wipe()

    def _plain(self, layer: Descriptor) -> Iterator[bytes]:
        return self._work.stream(str(layer.digest), self._reader.open_blob(layer), layer.size)
