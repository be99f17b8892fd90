"""The remedy for each error code: one line that says what to do next. The docs are made from it."""

from __future__ import annotations

from typing import Final

_UNKNOWN: Final = "run `enclave-cc doctor` and attach its output to a bug report"

REMEDIES: Final[dict[str, str]] = {
    # --- core
    "internal": _UNKNOWN,
    "invalid-request": "send a request that the interface documents; the detail names the field",
    "unavailable": "check that the peer runs and is reachable, then try again",
    "deadline-exceeded": "the peer is slow or gone: check its log, then try again",
    # --- image
    # --- sealed
    # --- sgx
    # --- broker
    # --- node
    # --- agent
    # --- demo
}


def remedy_for(code: str) -> str:
    """Return the remedy of a code; an unknown code asks for a bug report."""
    return REMEDIES.get(code, _UNKNOWN)
