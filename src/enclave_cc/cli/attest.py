"""`enclave-cc attest`: what an SGX quote proves, row by row; of use to people who never install the rest."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output, show, show_json, show_table
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.dcap.certificates import CertificateError
from enclave_cc.formats.dcap.collateral import Collateral, InvalidCollateralError
from enclave_cc.formats.dcap.trusted_root import IntelRoot, SimulatedRoot, TrustedRoot
from enclave_cc.formats.dcap.verify import QuoteVerdict, verify_quote
from enclave_cc.transport.pcs import PcsClient

app = App(name="attest", help="Verify SGX quotes, row by row.")

_INTEL_PCS = "https://api.trustedservices.intel.com"
_INTEL_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
_DEBUG = 0x02


@app.command
def verify(
    quote: Path,
    *,
    collateral: Annotated[
        Path | None, Parameter(help="Collateral as JSON; fetched from Intel's service when absent.")
    ] = None,
    insecure_simulation_root: Annotated[
        Path | None,
        Parameter(help="Accept quotes of the simulated platform with this root certificate instead."),
    ] = None,
    at: Annotated[str, Parameter(help="Judge as of this time (ISO 8601) instead of now.")] = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """
    Verify a raw DCAP quote (version 3) and print what it proves.

    A verified quote says who runs; whether that is good enough is for your policy.

    Example: `enclave-cc attest verify quote.bin --collateral collateral.json --at 2025-01-31T00:00:00Z`
    """
    data = _read(quote)
    root = IntelRoot() if insecure_simulation_root is None else _simulated(insecure_simulation_root)
    material = _fetch(data) if collateral is None else _collateral(collateral)
    verdict = verify_quote(data, material, root, _time(at))
    rows = _rows(verdict)
    if output is Output.JSON:
        findings = [finding.to_json() for finding in verdict.findings]
        show_json({**dict(rows), "findings": findings})
    else:
        show_table(("fact", "value"), rows)
        show(f"{len(verdict.findings)} rules checked, all passed")


def _rows(verdict: QuoteVerdict) -> list[tuple[str, str]]:
    body = verdict.body
    return [
        ("tcb_status", str(verdict.status)),
        ("advisories", " ".join(verdict.advisory_ids) or "none"),
        ("simulated", "yes" if verdict.simulated else "no"),
        ("debug", "YES: its memory can be read" if body.flags & _DEBUG else "no"),
        ("mr_enclave", body.mr_enclave.hex()),
        ("mr_signer", body.mr_signer.hex()),
        ("isv_prod_id", str(body.isv_prod_id)),
        ("isv_svn", str(body.isv_svn)),
        ("config_id", body.config_id.hex()),
        ("report_data", body.report_data.hex()),
        ("fmspc", verdict.pck.fmspc.hex()),
        ("tcb_date", verdict.tcb_date.isoformat()),
        ("collateral_until", verdict.earliest_expiration.isoformat()),
    ]


def _fetch(quote: bytes) -> Collateral:
    return PcsClient(_INTEL_PCS, root_crl_url=_INTEL_ROOT_CRL).collateral(quote)


def _simulated(path: Path) -> TrustedRoot:
    try:
        return SimulatedRoot(_read(path))
    except CertificateError as error:
        raise _unusable(path, str(error)) from error


def _collateral(path: Path) -> Collateral:
    try:
        return Collateral.from_json(_read(path))
    except InvalidCollateralError as error:
        raise _unusable(path, str(error)) from error


def _time(text: str) -> dt.datetime:
    if not text:
        return dt.datetime.now(dt.UTC)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(
            "time-invalid", "the time is not ISO 8601", stage=Stage.CONFIG, detail=text
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from error


def _unusable(path: Path, why: str) -> InvalidInputError:
    return InvalidInputError(
        "file-unusable", "a file cannot be used", stage=Stage.CONFIG, detail=f"{path}: {why}"
    )
