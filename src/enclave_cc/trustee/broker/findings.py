"""
``POST findings``: an attested enclave tells its owner what it refused, and with which values.

This is the only way for values to leave an enclave; they go into the log of the broker that the
enclave's own configuration names, never to the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.findings import Finding
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.trustee.audit.log import Event
from enclave_cc.trustee.broker.errors import UNAVAILABLE, KbsRefusal
from enclave_cc.trustee.broker.exchange import Reply, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.trustee.audit.allowance import Allowance
    from enclave_cc.trustee.audit.log import AuditLog
    from enclave_cc.trustee.broker.attested import ClientRecognition
    from enclave_cc.trustee.broker.exchange import Exchange

_FAILURE: Final = "FindingsError"
# A refused image with a dozen layers leaves fewer than forty.
MAX_FINDINGS: Final = 128
_MAX_BYTES: Final = 1 << 20
_MAX_WORD_CHARS: Final = 64
_MAX_DETAIL_CHARS: Final = 4096


@dataclass(frozen=True, slots=True)
class FindingsRoutes:
    """Takes findings of attested clients."""

    clients: ClientRecognition
    audit: AuditLog
    allowance: Allowance

    def routes(self) -> Mapping[tuple[str, str], Route]:
        """Return the route by method and first segment."""
        return {("POST", "findings"): Route(self.accept, _FAILURE)}

    def accept(self, exchange: Exchange) -> Reply:
        """Write the findings into the log, under the request's id, with the code that sent them."""
        enclave = self.clients.require(exchange).token.measurement
        self._require_own(exchange, enclave)
        try:
            fields, findings = _parse(exchange.body)
        except (InvalidJsonError, FieldError) as error:
            raise KbsRefusal(_FAILURE, code="findings-malformed", detail=str(error)) from error
        if not self.allowance.take(len(exchange.body)):
            raise KbsRefusal(_FAILURE, status=UNAVAILABLE, code="findings-too-many", recorded=False)
        fields["enclave"] = enclave
        self.audit.record(Event.FINDINGS, exchange.request_id, fields=fields, findings=findings)
        return Reply()

    def _require_own(self, exchange: Exchange, enclave: str) -> None:
        """Refuse a request of other code: any attested stranger could tell its owner what to do about it."""
        for entry in self.audit.of_request(exchange.request_id):
            fields = entry["fields"]
            if isinstance(fields, dict) and fields.get("enclave", enclave) != enclave:
                raise KbsRefusal(_FAILURE, code="findings-foreign", recorded=False)


def _parse(body: bytes) -> tuple[dict[str, str], tuple[Finding, ...]]:
    fields = Fields(loads(body, max_bytes=_MAX_BYTES), "findings")
    fields.only("stage", "code", "detail", "findings")
    words = {name: fields.text(name) for name in ("stage", "code")}
    for name, word in words.items():
        if len(word) > _MAX_WORD_CHARS:
            raise fields.error(name, "is too long")
    items = fields.array("findings")
    if len(items) > MAX_FINDINGS:
        raise fields.error("findings", f"has more than {MAX_FINDINGS} items")
    detail = fields.text("detail", default="")[:_MAX_DETAIL_CHARS]
    findings = tuple(Finding.from_json(item) for item in items)
    if not all(finding.rule for finding in findings):
        raise fields.error("findings", "has an item without a rule")
    return {**words, "detail": detail}, findings
