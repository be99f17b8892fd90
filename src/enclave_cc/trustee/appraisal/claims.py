"""
What a verified quote says, in the words of Trustee's ``sgx`` verifier.

The names are an interface: policies are written against them. Values are lower-case
hexadecimal of the raw little-endian bytes. Three members are ours, because no policy can use
little-endian text: ``debug``, ``isv_prod_id_int`` and ``isv_svn_int``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.formats.sgx.pck_extension import SgxType

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from enclave_cc.formats.dcap.verify import QuoteVerdict
    from enclave_cc.formats.sgx.pck_extension import PckExtension

_HEADER: Final = (
    ("version", 2),
    ("att_key_type", 2),
    ("att_key_data_0", 4),
    ("qe_svn", 2),
    ("pce_svn", 2),
    ("vendor_id", 16),
    ("user_data", 20),
)
_BODY: Final = (
    ("cpu_svn", 16),
    ("misc_select", 4),
    ("reserved1", 12),
    ("isv_ext_prod_id", 16),
    ("attributes.flags", 8),
    ("attributes.xfrm", 8),
    ("mr_enclave", 32),
    ("reserved2", 32),
    ("mr_signer", 32),
    ("reserved3", 32),
    ("config_id", 64),
    ("isv_prod_id", 2),
    ("isv_svn", 2),
    ("config_svn", 2),
    ("reserved4", 42),
    ("isv_family_id", 16),
    ("report_data", 64),
)
_HEADER_BYTES: Final = 48
_DEBUG_FLAG: Final = 0x02
_SGX_TYPES: Final = {
    SgxType.STANDARD: "Standard",
    SgxType.SCALABLE: "Scalable",
    SgxType.SCALABLE_WITH_INTEGRITY: "Scalable with Integrity",
}


def sgx_claims(quote: bytes, verdict: QuoteVerdict) -> dict[str, object]:
    """Return the claims of a quote that ``verdict`` is about."""
    body = _cut(quote[_HEADER_BYTES:], _BODY)
    return {
        "header": _hex(_cut(quote, _HEADER).items()),
        "body": _hex(body.items()),
        "debug": bool(body["attributes.flags"][0] & _DEBUG_FLAG),
        "isv_prod_id_int": int.from_bytes(body["isv_prod_id"], "little"),
        "isv_svn_int": int.from_bytes(body["isv_svn"], "little"),
        **_platform_claims(verdict.pck),
        **_collateral_claims(verdict),
    }


def _platform_claims(pck: PckExtension) -> dict[str, object]:
    claims: dict[str, object] = {
        "platform_provider_id": pck.ppid.hex(),
        "sgx_type": _SGX_TYPES[pck.sgx_type],
    }
    if pck.platform_instance_id is not None:
        # Intel's library prints this one number from its last byte to its first.
        claims["platform_instance_id"] = pck.platform_instance_id[::-1].hex()
    if pck.configuration is not None:
        flags = {
            "is_dynamic_platform": pck.configuration.dynamic_platform,
            "is_cached_keys": pck.configuration.cached_keys,
            "is_smt_enabled": pck.configuration.smt_enabled,
        }
        claims |= {name: flag for name, flag in flags.items() if flag is not None}
    return claims


def _collateral_claims(verdict: QuoteVerdict) -> dict[str, object]:
    """Say how current the platform is; collateral that has expired did not get this far."""
    return {
        "tcb_status": str(verdict.status),
        "advisory_ids": list(verdict.advisory_ids),
        "collateral_expiration_status": "0",
        "earliest_issue_date": _time(verdict.earliest_issue),
        "latest_issue_date": _time(verdict.latest_issue),
        "earliest_expiration_date": _time(verdict.earliest_expiration),
        "tcb_date": _time(verdict.tcb_date),
        "tcb_eval_num": verdict.tcb_eval_num,
        "pck_crl_num": verdict.pck_crl_num,
        "root_ca_crl_num": verdict.root_ca_crl_num,
        "root_key_id": verdict.root_key_id,
    }


def _cut(data: bytes, layout: Iterable[tuple[str, int]]) -> dict[str, bytes]:
    members, offset = {}, 0
    for name, size in layout:
        members[name] = data[offset : offset + size]
        offset += size
    return members


def _hex(members: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    return {name: value.hex() for name, value in members}


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
