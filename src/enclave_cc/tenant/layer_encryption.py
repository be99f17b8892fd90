"""One layer on its way from plain to encrypted: read, compared, encrypted and stored in one pass."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.ocicrypt.layer_cipher import PUBLIC_OPTIONS_ANNOTATION, LayerEncryptor
from enclave_cc.formats.ocicrypt.wrapping import wrapped_annotations
from enclave_cc.image.channel import in_thread
from enclave_cc.tenant.places.files import read_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
    from enclave_cc.formats.ocicrypt.wrapping import Recipient
    from enclave_cc.tenant.layer_keys import LayerKeySource
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


class LayerEncryption:
    """Encrypts the layers of one run; several threads may call it."""

    def __init__(
        self,
        reader: ImageReader,
        writer: ImageWriter,
        recipients: Sequence[Recipient],
        keys: LayerKeySource,
        work: Work,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._recipients = recipients
        self._keys = keys
        self._work = work

    def encrypt(self, layer: Descriptor) -> EncryptedLayer:
        """Encrypt a layer; raise ``RefusedError`` (digest-mismatch) if its bytes are others."""
        options = self._keys.options(layer.digest)
        try:
            return self._encrypt(layer, options)
        finally:
            options.symkey.wipe()

    def _encrypt(self, layer: Descriptor, options: PrivateOptions) -> EncryptedLayer:
        encryptor = LayerEncryptor(options)
        plain = self._checked_first(layer) if self._keys.needs_checked_input else self._plain(layer)
        with closing(in_thread(plain, name="layer-read")) as chunks:
            digest, size = self._writer.add_blob(map(encryptor.update, chunks), layer.size)
        annotations = {
            PUBLIC_OPTIONS_ANNOTATION: encryptor.finish().encode(),
            **wrapped_annotations(options, self._recipients),
        }
        return EncryptedLayer(digest, size, annotations)

    def _plain(self, layer: Descriptor) -> Iterator[bytes]:
        return self._work.stream(str(layer.digest), self._reader.open_blob(layer), layer.size)

    def _checked_first(self, layer: Descriptor) -> Iterator[bytes]:
        """Hand the first byte on after the last one was compared: a derived key is for this stream only."""
        with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES) as spool:
            for chunk in self._plain(layer):
                spool.write(chunk)
            spool.seek(0)
            yield from read_chunks(spool)
