"""
Comparison of claims with reference values: the only place where this is done.

Policies see the outcomes as ``data.findings``, the audit log keeps both values, so that what is
explained later is what was decided on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.findings import Finding, member

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.trustee.appraisal.evidence import VerifiedEvidence

MR_ENCLAVE: Final = "sgx_mr_enclave"
ISV_PROD_ID: Final = "sgx_isv_prod_id"
_MEASUREMENT_REMEDY: Final = (
    "if this code is meant to have your secrets, register its measurement: "
    "`enclave-cc measure` prints it for a release and an initdata file"
)
_PRODUCT_REMEDY: Final = "register the product id of the enclave that may ask for secrets (the agent's is 1)"
_PRODUCT_ID_BYTES: Final = 2


def compare(evidence: VerifiedEvidence, values: Mapping[str, object]) -> tuple[Finding, ...]:
    """Return one finding for each reference value; no value registered means failed."""
    measurements = {text.lower() for text in _items(values.get(MR_ENCLAVE)) if isinstance(text, str)}
    products = {_product_id(item) for item in _items(values.get(ISV_PROD_ID))}
    return (
        member(
            "sgx.mr_enclave", allowed=measurements, actual=evidence.mr_enclave, remedy=_MEASUREMENT_REMEDY
        ),
        member("sgx.isv_prod_id", allowed=products, actual=str(evidence.isv_prod_id), remedy=_PRODUCT_REMEDY),
    )


def _items(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _product_id(item: object) -> str:
    """Read a number, or the little-endian hexadecimal text that existing policies use."""
    if isinstance(item, int) and not isinstance(item, bool):
        return str(item)
    try:
        raw = bytes.fromhex(str(item))
    except ValueError:
        return repr(item)
    return str(int.from_bytes(raw, "little")) if len(raw) == _PRODUCT_ID_BYTES else repr(item)
