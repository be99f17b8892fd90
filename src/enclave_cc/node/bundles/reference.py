"""Reference values without an enclave: what a bundle plus an owner's initdata will measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.formats.initdata import initdata_digest
from enclave_cc.formats.sgx.measurement import mr_enclave
from enclave_cc.platform.measurement import measure_bundle

if TYPE_CHECKING:
    from pathlib import Path


def reference_value(bundle: Path, initdata_text: bytes | str | None = None) -> str:
    """Return the MRENCLAVE, in hex, that a bundle has on the simulated platform with this initdata."""
    digest = initdata_digest(initdata_text or b"")
    return mr_enclave(measure_bundle(bundle).base, digest).hex()
