"""SGX byte layouts. Parsing and packing only: nothing here decides whom to trust."""

from __future__ import annotations

from enclave_cc.formats.sgx.keys import KeyRequest
from enclave_cc.formats.sgx.report import Report, ReportBody, TargetInfo, verify_report
from enclave_cc.formats.sgx.structure import InvalidStructureError

__all__ = ["InvalidStructureError", "KeyRequest", "Report", "ReportBody", "TargetInfo", "verify_report"]
