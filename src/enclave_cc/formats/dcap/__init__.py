"""Verification of SGX DCAP quotes: pure functions over a quote, its collateral, a trusted root and a time."""

from __future__ import annotations

from enclave_cc.formats.dcap.collateral import Collateral, InvalidCollateralError
from enclave_cc.formats.dcap.tcb_info import TcbStatus
from enclave_cc.formats.dcap.trusted_root import IntelRoot, SimulatedRoot, TrustedRoot
from enclave_cc.formats.dcap.verify import QuoteVerdict, verify_quote

__all__ = [
    "Collateral",
    "IntelRoot",
    "InvalidCollateralError",
    "QuoteVerdict",
    "SimulatedRoot",
    "TcbStatus",
    "TrustedRoot",
    "verify_quote",
]
