"""
Write the golden vectors: ``python -m tests.formats.sealed.golden.write``.

Needed only when the format gets a new version: until then they must never change, and the tests compare
them with what the code writes today.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.formats.tar.sparse_archives import END, FORMATS

from enclave_cc.core.secret import Secret
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, STRIDE_BYTES, TAG_BYTES, ChunkSealer
from enclave_cc.formats.sealed.erofs import write_metadata
from enclave_cc.formats.sealed.manifest import Binding, Manifest, SealedBlob, seal_manifest
from enclave_cc.formats.sealed.tree import Tree
from enclave_cc.formats.tar.scanner import TarScanner

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
FDK = bytes(range(32))
NONCE = bytes(range(0xA0, 0xAC))
BINDING = {"pod": "pod-0123", "container": "container-4567", "image_digest": "sha256:" + "89abcdef" * 8}
LAYERS = ("layer-1.tar", "layer-2.tar")


def lower_layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape", encoding="utf-8"
    ) as tar:

        def add(name: str, data: bytes = b"", **attributes) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            for key, value in attributes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))

        add("./", type=tarfile.DIRTYPE, mode=0o755)
        add("etc", type=tarfile.DIRTYPE, mode=0o750, uid=100_000, gid=4_000_000_000)
        add("etc/hostname", b"golden\n", mode=0o640, pax_headers={"mtime": "-1.250000001"})
        add("etc/hidden", b"a higher layer hides this\n")
        add("bin", type=tarfile.DIRTYPE, mode=0o755)
        add("bin/large", bytes(range(1, 252)) * 300, mode=0o4755, pax_headers={"SCHILY.xattr.user.note": "v"})
        add("bin/empty", mode=0)
        add("bin/link", type=tarfile.SYMTYPE, linkname="../etc/hostname")
        add("bin/long-link", type=tarfile.SYMTYPE, linkname="x/" * 300 + "end")
        add("dev", type=tarfile.DIRTYPE, mode=0o755)
        add("dev/disk", type=tarfile.BLKTYPE, devmajor=259, devminor=70_000, mode=0o660)
        add("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        add("dev/pipe", type=tarfile.FIFOTYPE, mode=0o600)
        add("names/" + "n" * 255, b"255 bytes\n")
        add("names/\udcff\udcfe", b"not UTF-8\n")
        add("opaque/old", b"hidden too\n")
        for number in range(40):
            add(f"names/of a directory of several blocks {number:02}")
    return buffer.getvalue()


def upper_layer() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("etc/.wh.hidden"))
        link = tarfile.TarInfo("etc/same-as-hostname")
        link.type, link.linkname = tarfile.LNKTYPE, "etc/hostname"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("opaque/.wh..wh..opq"))
        tar.addfile(tarfile.TarInfo("opaque/new"))
    plain = buffer.getvalue().rstrip(b"\0")
    plain += bytes(-len(plain) % 512)
    segments = [(0, 4096), (65_536, 700), (200_000, 3)]
    return plain + FORMATS["1.0"](300_000, segments, (bytes(range(1, 252)) * 20)[:4799]) + END


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % CHUNK_BYTES)


def metadata_of(layers: Sequence[bytes]) -> bytes:
    tree, base = Tree(), 0
    for layer in layers:
        scanner = TarScanner()
        tree.begin_layer(base)
        for entry in scanner.feed(layer):
            tree.add(entry)
        scanner.close()
        base += len(padded(layer))
    return bytes(write_metadata(tree.root, data_bytes=base, align_bytes=CHUNK_BYTES))


def key(number: int) -> bytes:
    return bytes([0x10 * (number + 1)]) * 32


def name(number: int) -> str:
    return f"{number + 1:x}" * 32 + ".blob"


def seal(number: int, plaintext: bytes) -> bytes:
    sealer = ChunkSealer(Secret(key(number)))
    sealed = b"".join([bytes(part) for part in sealer.feed(plaintext)])
    return sealed + bytes(sealer.finish())


def manifest(blobs: Sequence[bytes]) -> bytes:
    sealed = tuple(
        SealedBlob(name(number), len(blob) // STRIDE_BYTES, Secret(key(number)))
        for number, blob in enumerate(blobs)
    )
    binding = Binding(BINDING["pod"], BINDING["container"], BINDING["image_digest"])
    return seal_manifest(Manifest(sealed), fdk=Secret(FDK), binding=binding, nonce=NONCE)


def described(number: int, file: str, plaintext: bytes) -> dict:
    blob = seal(number, plaintext)
    ends = range(STRIDE_BYTES, len(blob) + 1, STRIDE_BYTES)
    return {
        "name": name(number),
        "key": key(number).hex(),
        "plaintext": file,
        "plaintext_sha256": hashlib.sha256(padded(plaintext)).hexdigest(),
        "chunks": len(ends),
        "first_16_bytes": blob[:16].hex(),
        "tags": [blob[end - TAG_BYTES : end].hex() for end in ends],
        "sha256": hashlib.sha256(blob).hexdigest(),
    }


def main() -> None:
    layers = [lower_layer(), upper_layer()]
    metadata = metadata_of(layers)
    plaintexts = {"metadata.erofs": metadata, **dict(zip(LAYERS, layers, strict=True))}
    for file, data in plaintexts.items():
        # Padding tells nothing.
        (HERE / file).write_bytes(data.rstrip(b"\0") if file == "metadata.erofs" else data)
    sealed = manifest([seal(number, data) for number, data in enumerate(plaintexts.values())])
    (HERE / "manifest.sealed").write_bytes(sealed)
    vectors = {
        "fdk": FDK.hex(),
        "manifest_nonce": NONCE.hex(),
        "binding": BINDING,
        "manifest_sha256": hashlib.sha256(sealed).hexdigest(),
        "blobs": [described(number, *item) for number, item in enumerate(plaintexts.items())],
    }
    (HERE / "vectors.json").write_text(json.dumps(vectors, indent=2) + "\n")


if __name__ == "__main__":
    main()
