"""`enclave-cc explain`: the owner's view of a request, every rule with both values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.cli.options import DEFAULT_ADMIN, AdminOption, OutputOption
from enclave_cc.cli.output import Output, show, show_json
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.core.request_id import parse_request_id
from enclave_cc.trustee.admin_access import AdminAccess

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKS = {Outcome.PASSED: "ok  ", Outcome.FAILED: "FAIL", Outcome.SKIPPED: "skip"}


def explain(
    request_id: str, *, admin: AdminOption = DEFAULT_ADMIN, output: OutputOption = Output.TEXT
) -> None:
    """
    Say why a request was refused: what happened, which rules were checked, with which values, and what to do.

    REQUEST-ID is what the pod's event shows after `request=`.

    Example: `enclave-cc explain 01J9ZQ6Y3M8XKJ5T7V2W4RAABC --admin broker/admin.json`
    """
    identifier = parse_request_id(request_id)
    with AdminAccess.read(admin).client() as client:
        explanation = client.explain(identifier)
    if output is Output.JSON:
        show_json(explanation)
    else:
        show("\n".join(explanation_lines(explanation)))


def explanation_lines(explanation: dict[str, object]) -> Iterator[str]:
    """Lay an explanation out for a terminal: events, rules with the failed ones on top, and the remedy."""
    yield f"request {explanation.get('request_id')}"
    events = explanation.get("events")
    for event in events if isinstance(events, list) else []:
        fields = event.get("fields")
        shown = (
            " ".join(f"{name}={value}" for name, value in fields.items()) if isinstance(fields, dict) else ""
        )
        yield f"  {event.get('time', '')}  {event.get('event', '')}  {shown}".rstrip()
    yield from _rules(explanation.get("findings"), "rules of the refusal")
    yield from _rules(explanation.get("context"), "what was found before, and did not stop it")
    yield f"what to do: {explanation.get('remedy')}"


def _rules(findings: object, title: str) -> Iterator[str]:
    if not isinstance(findings, list) or not findings:
        return
    yield f"{title}:"
    for item in findings:
        finding = Finding.from_json(item)
        yield f"  {_MARKS[finding.outcome]}  {finding.rule}"
        if finding.outcome is Outcome.FAILED:
            yield f"          expected {finding.expected}"
            yield f"          found    {finding.actual}"
