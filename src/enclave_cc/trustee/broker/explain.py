"""``GET explain/<request-id>`` and ``GET audit``: the owner asks what happened, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.request_id import parse_request_id
from enclave_cc.trustee.broker.errors import KbsRefusal
from enclave_cc.trustee.broker.exchange import Reply, Route
from enclave_cc.trustee.explanation import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.trustee.audit.log import AuditLog
    from enclave_cc.trustee.broker.admin_gate import AdminGate
    from enclave_cc.trustee.broker.exchange import Exchange

_FAILURE: Final = "ExplainError"
_MAX_SEQUENCE_CHARS: Final = 18


@dataclass(frozen=True, slots=True)
class ExplainRoutes:
    """Reading the log."""

    admin: AdminGate
    audit: AuditLog

    def routes(self) -> Mapping[tuple[str, str], Route]:
        """Return the routes by method and first segment."""
        return {
            ("GET", "explain"): Route(self.explain, _FAILURE),
            ("GET", "audit"): Route(self.listing, _FAILURE),
        }

    def explain(self, exchange: Exchange) -> Reply:
        """Tell what is known about one request; an unknown one has no events."""
        self.admin.require(exchange)
        request_id = parse_request_id(exchange.rest)
        return Reply(json.dumps(explain(request_id, self.audit.of_request(request_id))).encode())

    def listing(self, exchange: Exchange) -> Reply:
        """Return a page of the log, after the whole chain was verified."""
        self.admin.require(exchange)
        after = exchange.query.get("after", "0")
        if not after.isascii() or not after.isdigit() or len(after) > _MAX_SEQUENCE_CHARS:
            raise KbsRefusal(_FAILURE, code="invalid-request", recorded=False)
        length, head = self.audit.verify_chain()
        entries = self.audit.listing(after=int(after))
        return Reply(json.dumps({"length": length, "head": head.hex(), "entries": entries}).encode())
