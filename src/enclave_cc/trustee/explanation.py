"""
Why a request ended as it did, for its owner: events in order, what was found, what to do.

Nothing is judged again here; findings are those that the decisions left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.catalogue import remedy_for
from enclave_cc.core.findings import Finding, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from enclave_cc.core.request_id import RequestId

_NOTHING_KNOWN: Final = (
    "nothing is recorded under this id: the request did not reach this broker; look at the node's log"
)
_NOTHING_WRONG: Final = "nothing was refused"


def explain(request_id: RequestId, events: Sequence[dict[str, object]]) -> dict[str, object]:
    """
    Return ``{request_id, events, findings, context, remedy}``.

    ``findings`` are those of the refusals, the failed ones first; ``context`` is what earlier steps of
    the same request found, which did not stop it.
    """
    refused = _refusals(events)
    findings = sorted(_findings(refused), key=lambda finding: finding.outcome is not Outcome.FAILED)
    context = [finding for finding in _findings(events) if finding not in findings]
    return {
        "request_id": request_id,
        "events": list(events),
        "findings": [finding.to_json() for finding in findings],
        "context": [finding.to_json() for finding in context],
        "remedy": _remedy(events, refused, findings),
    }


def _refusals(events: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    return [event for event in events if event.get("event") in {"refusal", "findings"}]


def _findings(events: Iterable[dict[str, object]]) -> tuple[Finding, ...]:
    items = (event.get("findings") for event in events)
    findings = (Finding.from_json(item) for group in items if isinstance(group, list) for item in group)
    return tuple(dict.fromkeys(findings))


def _remedy(
    events: Sequence[dict[str, object]], refused: Sequence[dict[str, object]], findings: Sequence[Finding]
) -> str:
    """Take the remedy of the first rule that failed and has one, else that of the last refusal's code."""
    if not events:
        return _NOTHING_KNOWN
    if not refused:
        return _NOTHING_WRONG
    remedies = (item.remedy for item in findings if item.outcome is Outcome.FAILED and item.remedy)
    return next(remedies, _remedy_of_code(refused[-1]))


def _remedy_of_code(event: dict[str, object]) -> str:
    fields = event.get("fields")
    return remedy_for(str(fields.get("code", ""))) if isinstance(fields, dict) else remedy_for("")
