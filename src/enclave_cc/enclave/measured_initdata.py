"""The owner's text as the host delivers it, believed only if it is the one in this enclave's identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.findings import equal
from enclave_cc.core.verdict import Verdict
from enclave_cc.formats.initdata import InitData
from enclave_cc.formats.owner.bounded_toml import MAX_TOML_BYTES

if TYPE_CHECKING:
    from pathlib import Path


def read_initdata(path: Path | None, measured: bytes) -> InitData:
    """
    Read the text, which may be absent.

    Raise ``RefusedError`` (``initdata-mismatch``) unless its digest is ``measured``,
    ``InvalidInputError`` for a text that does not parse.
    """
    initdata = InitData.parse(_read(path) if path is not None else b"")
    finding = equal("initdata.digest", expected=measured.hex(), actual=initdata.digest.hex())
    Verdict((finding,)).require(
        "initdata-mismatch", "the initdata is not the one that was measured", stage=Stage.CONFIG
    )
    return initdata


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOML_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InvalidInputError(
            "initdata-invalid", "the initdata cannot be read", stage=Stage.CONFIG, detail=str(error)
        ) from error
