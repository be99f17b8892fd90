"""Collateral of the simulated platform: what Intel's PCS would serve, signed whenever it is asked for."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.formats.dcap.collateral import Collateral
from enclave_cc.formats.dcap.tcb_info import TcbStatus
from enclave_cc.platform.simulated.pki import SIMULATED_FMSPC, SIMULATED_PCE_ID, raw_signature
from enclave_cc.platform.simulated.quoting import QE_ISV_PROD_ID, QE_ISV_SVN, QE_MR_SIGNER

if TYPE_CHECKING:
    from enclave_cc.platform.simulated.pki import SimulatedPki

SIMULATION_ADVISORY: Final = "ECC-SIM-0001"
# As Intel: collateral is good for 30 days.
VALID_DAYS: Final = 30
_TCB_DATE_AGE: Final = dt.timedelta(days=30)


@dataclass(frozen=True, slots=True)
class CollateralFaults:
    """What tests make wrong on purpose; the defaults are the honest platform."""

    status: TcbStatus = TcbStatus.SW_HARDENING_NEEDED
    advisory_ids: tuple[str, ...] = (SIMULATION_ADVISORY,)
    level: bytes = bytes([1] * 16)
    qe_status: TcbStatus = TcbStatus.UP_TO_DATE
    revoked_by_root: tuple[int, ...] = ()
    revoked_by_ca: tuple[int, ...] = ()


INTEROP: Final = CollateralFaults(status=TcbStatus.UP_TO_DATE, advisory_ids=())


def sign_collateral(
    pki: SimulatedPki, now: dt.datetime, faults: CollateralFaults | None = None
) -> Collateral:
    """Make collateral that is valid from `now` for 30 days."""
    faults = faults or CollateralFaults()
    issuer_chain = pki.tcb_signer.pem + pki.root.pem
    tcb_info = strict_json.canonical(_tcb_info(now, faults))
    identity = strict_json.canonical(_qe_identity(now, faults))
    return Collateral(
        pck_crl_issuer_chain=pki.ca.pem + pki.root.pem,
        root_ca_crl=pki.revocation_list(pki.root, now=now, days=VALID_DAYS, revoked=faults.revoked_by_root),
        pck_crl=pki.revocation_list(pki.ca, now=now, days=VALID_DAYS, revoked=faults.revoked_by_ca),
        tcb_info_issuer_chain=issuer_chain,
        tcb_info=tcb_info.decode(),
        tcb_info_signature=raw_signature(pki.tcb_signer.key, tcb_info),
        qe_identity_issuer_chain=issuer_chain,
        qe_identity=identity.decode(),
        qe_identity_signature=raw_signature(pki.tcb_signer.key, identity),
    )


def _header(now: dt.datetime, identifier: str, version: int) -> dict[str, object]:
    return {
        "id": identifier,
        "version": version,
        "issueDate": _time(now),
        "nextUpdate": _time(now + dt.timedelta(days=VALID_DAYS)),
        "tcbEvaluationDataNumber": 1,
    }


def _tcb_info(now: dt.datetime, faults: CollateralFaults) -> dict[str, object]:
    level: dict[str, object] = {
        "tcb": {"sgxtcbcomponents": [{"svn": svn} for svn in faults.level], "pcesvn": 1},
        "tcbDate": _time(now - _TCB_DATE_AGE),
        "tcbStatus": faults.status.value,
    }
    if faults.advisory_ids:
        level["advisoryIDs"] = list(faults.advisory_ids)
    return _header(now, "SGX", 3) | {
        "fmspc": SIMULATED_FMSPC.hex().upper(),
        "pceId": SIMULATED_PCE_ID.hex(),
        "tcbType": 0,
        "tcbLevels": [level],
    }


def _qe_identity(now: dt.datetime, faults: CollateralFaults) -> dict[str, object]:
    level = {
        "tcb": {"isvsvn": QE_ISV_SVN},
        "tcbDate": _time(now - _TCB_DATE_AGE),
        "tcbStatus": faults.qe_status.value,
    }
    # The masks are those of Intel's quoting enclave: all of MISCSELECT, all flags but bit 2 (MODE64).
    return _header(now, "QE", 2) | {
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_MR_SIGNER.hex().upper(),
        "isvprodid": QE_ISV_PROD_ID,
        "tcbLevels": [level],
    }


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
