"""
initdata: the owner's text that becomes part of both enclaves' identity.

The outer shape and the digest follow the Confidential Containers "initdata" specification 0.1.0 (version,
algorithm, ``[data]`` of texts; digest over the raw text). Our own settings are one of the data texts. The
host delivers the text; whether it is the text that was measured is the caller's check.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import zlib
from dataclasses import dataclass
from typing import Final, Self

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.owner import bounded_toml
from enclave_cc.formats.owner.settings import OwnerSettings, WorkloadPolicy

ANNOTATION: Final = "enclave-cc.dev/initdata"
COCO_ANNOTATION: Final = "io.katacontainers.config.hypervisor.cc_init_data"
SETTINGS_NAME: Final = "enclave-cc.toml"
VERSION: Final = "0.1.0"
ALGORITHMS: Final = ("sha256", "sha384", "sha512")
# Base64 grows its input by a third; more cannot decode to a text that we would parse.
_MAX_ANNOTATION_CHARS: Final = bounded_toml.MAX_TOML_BYTES * 4 // 3 + 4
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ANY_GZIP_HEADER: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class InitData:
    """The raw text, its digest, and the settings that we read from it."""

    text: bytes
    digest: bytes
    settings: OwnerSettings

    @classmethod
    def parse(cls, text: bytes | str) -> Self:
        """Read a TOML text, or nothing at all; raise ``InvalidInputError`` (``initdata-invalid``)."""
        raw = _as_bytes(text)
        if not raw:
            return cls.empty()
        try:
            header, algorithm = _header(raw)
            settings = _settings(header.text_map("data"))
        except (FieldError, bounded_toml.InvalidTomlError) as error:
            raise _invalid(str(error)) from error
        return cls(raw, hashlib.new(algorithm, raw).digest(), settings)

    @classmethod
    def empty(cls) -> Self:
        """Return what a pod without initdata has: no broker, no secrets, no signature policy."""
        return cls(b"", b"", OwnerSettings(workload=WorkloadPolicy.unrestricted()))


def initdata_digest(text: bytes | str) -> bytes:
    """Digest a text with the algorithm that it names; an empty text has the empty digest."""
    raw = _as_bytes(text)
    if not raw:
        return b""
    try:
        _, algorithm = _header(raw)
    except (FieldError, bounded_toml.InvalidTomlError) as error:
        raise _invalid(str(error)) from error
    return hashlib.new(algorithm, raw).digest()


def encode_annotation(text: bytes | str) -> str:
    """Write a text as the CoCo annotation's value: base64 over gzip, the same for the same text."""
    return base64.b64encode(gzip.compress(_as_bytes(text), mtime=0)).decode("ascii")


def decode_annotation(value: str) -> bytes:
    """
    Read an annotation's value: base64 over gzip, base64 alone, or the TOML text itself.

    Raise ``InvalidInputError`` (``initdata-invalid``); the result is at most 1 MiB long, whatever was sent.
    """
    if len(value) > _MAX_ANNOTATION_CHARS:
        raise _invalid("the annotation is too long")
    try:
        data = base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        # Quotes and equal signs are no base64; every initdata text has them.
        data = _as_bytes(value)
    return _inflate(data) if data.startswith(_GZIP_MAGIC) else _bounded(data)


def _inflate(data: bytes) -> bytes:
    decompressor = zlib.decompressobj(wbits=_ANY_GZIP_HEADER)
    try:
        text = decompressor.decompress(data, bounded_toml.MAX_TOML_BYTES + 1)
    except zlib.error as error:
        raise _invalid("the annotation's gzip stream is damaged") from error
    _bounded(text)
    if not decompressor.eof or decompressor.unused_data:
        raise _invalid("the annotation's gzip stream does not end where it should")
    return text


def _bounded(text: bytes) -> bytes:
    if len(text) > bounded_toml.MAX_TOML_BYTES:
        raise _invalid(f"longer than {bounded_toml.MAX_TOML_BYTES} bytes")
    return text


def _header(raw: bytes) -> tuple[Fields, str]:
    header = Fields(bounded_toml.loads(raw), "initdata")
    header.only("version", "algorithm", "data")
    if header.text("version") != VERSION:
        raise header.error("version", f"is not {VERSION}")
    algorithm = header.text("algorithm")
    if algorithm not in ALGORITHMS:
        raise header.error("algorithm", f"is not one of {', '.join(ALGORITHMS)}")
    return header, algorithm


def _settings(data: dict[str, str]) -> OwnerSettings:
    text = data.get(SETTINGS_NAME)
    return OwnerSettings.parse(bounded_toml.loads(text.encode())) if text is not None else OwnerSettings()


def _as_bytes(text: bytes | str) -> bytes:
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _invalid("not UTF-8") from error


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "initdata-invalid", "the initdata is not valid", stage=Stage.CONFIG, detail=detail
    )
