"""The owner's text in a pod's annotations, decoded and bounded; what it says is the enclaves' affair."""

from __future__ import annotations

from enclave_cc.node.shim.failures import INITDATA_AMBIGUOUS, INITDATA_INVALID, Reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    import zlib
    from collections.abc import Mapping
    from typing import Final

ANNOTATIONS: Final = ("enclave-cc.dev/initdata", "io.katacontainers.config.hypervisor.cc_init_data")

_MAX_TEXT_BYTES: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ANY_GZIP_HEADER: Final = 16 + 15


class RefusedInitdata(Exception):  # noqa: N818 - reads as what happened
    """The annotation cannot be used, and why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.code)
        self.reason = reason


def initdata_of(annotations: Mapping[str, str]) -> bytes:
    """Return the pod's text, empty when it carries none; raise ``RefusedInitdata``."""
    values = {annotations[name] for name in ANNOTATIONS if annotations.get(name)}
    if len(values) > 1:
        raise RefusedInitdata(INITDATA_AMBIGUOUS)
    return _decode(values.pop()) if values else b""


def _decode(value: str) -> bytes:
    import zlib  # noqa: PLC0415 - most shims' start does not need it
    from binascii import a2b_base64  # noqa: PLC0415 - as above

    try:
        if '"' in value:
            # Plain TOML; quotes are no base64, and every initdata text has them.
            data = value.encode()
        else:
            data = a2b_base64("".join(value.split()).encode("ascii"), strict_mode=True)
        text = _inflate(zlib.decompressobj(_ANY_GZIP_HEADER), data) if data.startswith(_GZIP_MAGIC) else data
        text.decode("utf-8")
    except (ValueError, zlib.error) as error:
        raise RefusedInitdata(INITDATA_INVALID) from error
    if not text or len(text) > _MAX_TEXT_BYTES:
        raise RefusedInitdata(INITDATA_INVALID)
    return text


def _inflate(inflater: zlib._Decompress, data: bytes) -> bytes:
    text = inflater.decompress(data, _MAX_TEXT_BYTES + 1)
    if not inflater.eof or inflater.unused_data:
        raise ValueError("not one whole gzip member")
    return text
