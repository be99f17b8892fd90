"""Quote verification next to dcap-qvl, and the whole local attestation handshake."""

from __future__ import annotations

import dataclasses

import dcap_qvl
from tests.formats.local_attestation.test_handshake import run as handshake
from tests.simulators.sgx_machine import IDENTITY, Machine

from bench.report import Goal, Result, interleaved, row
from enclave_cc.formats.sgx.report import Attribute

_MILLISECONDS = 1e3
_RUNS = 30
_INNER = 20


def run() -> Result:
    """Verify one and the same quote with both verifiers, in turn."""
    machine = Machine(interop=True)
    # Strict verifiers refuse DEBUG enclaves, which is what simulated ones are.
    identity = dataclasses.replace(IDENTITY, flags=IDENTITY.flags & ~Attribute.DEBUG)
    quote, collateral = machine.quote(identity), machine.collateral()
    theirs = dcap_qvl.QuoteCollateralV3.from_json(collateral.to_json().decode())
    now = int(machine.now.timestamp())
    root = machine.pki.root.der
    times = interleaved(
        {
            "ours": lambda: machine.verify(quote, collateral),
            "dcap-qvl": lambda: dcap_qvl.verify_with_root_ca(quote, theirs, root, now),
            "handshake": handshake,
        },
        runs=_RUNS,
        inner=_INNER,
    )
    in_ms = {name: [value * _MILLISECONDS for value in values] for name, values in times.items()}
    ratios = [mine / other for mine, other in zip(times["ours"], times["dcap-qvl"], strict=True)]
    rows = [
        row("verify_quote, warm", "ms", in_ms["ours"]),
        row("dcap-qvl, same quote", "ms", in_ms["dcap-qvl"]),
        row("verify_quote / dcap-qvl, pair by pair", "ratio", ratios),
        row("local attestation, both sides", "ms", in_ms["handshake"]),
    ]
    goals = [
        Goal("quote-verification-ms", rows[0].median, 1.0),
        Goal("quote-verification-over-dcap-qvl", rows[2].median, 1.0),
        Goal("local-attestation-ms", rows[3].median, 0.5),
    ]
    note = "One simulated quote that both accept; issuer checks are cached, decisions are not."
    return Result("attestation", rows, goals, note)
