"""What the administrator does besides resources: policies and reference values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.jose import base64url
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.kbs.messages import MAX_MESSAGE_BYTES
from enclave_cc.trustee.audit.log import Event
from enclave_cc.trustee.broker.errors import KbsRefusal
from enclave_cc.trustee.broker.exchange import Reply, Route
from enclave_cc.trustee.policy.library import PolicyId, parse_policy_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.trustee.audit.log import AuditLog
    from enclave_cc.trustee.broker.admin_gate import AdminGate
    from enclave_cc.trustee.broker.exchange import Exchange
    from enclave_cc.trustee.policy.library import PolicyLibrary
    from enclave_cc.trustee.reference_values.register import ReferenceValues

_PLAIN: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class AdministrationRoutes:
    """Policies and reference values."""

    admin: AdminGate
    policies: PolicyLibrary
    reference_values: ReferenceValues
    audit: AuditLog

    def routes(self) -> Mapping[tuple[str, str], Route]:
        """Return the routes by method and first segment; ``policy-text`` is ours, the rest Trustee's."""
        return {
            ("POST", "resource-policy"): Route(self.set_resource_policy, "PolicyEngineError"),
            ("GET", "resource-policy"): Route(self.list_resource_policies, "PolicyEngineError"),
            ("POST", "attestation-policy"): Route(self.set_attestation_policy, "AttestationError"),
            ("GET", "policy-text"): Route(self.policy_text, "PolicyEngineError"),
            ("POST", "reference-value"): Route(self.register_reference_value, "RvpsError"),
            ("GET", "reference-value"): Route(self.reference_value, "RvpsError"),
            ("DELETE", "reference-value"): Route(self.delete_reference_value, "RvpsError"),
        }

    def set_resource_policy(self, exchange: Exchange) -> Reply:
        """Put a resource policy into force."""
        self.admin.require(exchange)
        return self._set_policy(exchange, PolicyId.RESOURCE, _policy_text(_message(exchange)))

    def list_resource_policies(self, exchange: Exchange) -> Reply:
        """List the names, as existing clients expect."""
        self.admin.require(exchange)
        return Reply(json.dumps([PolicyId.RESOURCE]).encode())

    def set_attestation_policy(self, exchange: Exchange) -> Reply:
        """Put an attestation policy into force; a name that is never evaluated is refused."""
        self.admin.require(exchange)
        fields = _message(exchange)
        try:
            name = fields.text("policy_id")
        except FieldError as error:
            raise _unreadable(str(error)) from error
        return self._set_policy(exchange, parse_policy_id(name), _policy_text(fields))

    def policy_text(self, exchange: Exchange) -> Reply:
        """Return the text of the policy in force."""
        self.admin.require(exchange)
        text = self.policies.text(parse_policy_id(exchange.rest))
        return Reply(text.encode(), content_type=_PLAIN)

    def register_reference_value(self, exchange: Exchange) -> Reply:
        """Take an RVPS message."""
        self.admin.require(exchange)
        with self.audit.together():
            for name in self.reference_values.register_message(exchange.body):
                value = json.dumps(self.reference_values.get(name))
                self._record(exchange, "register-reference-value", name, {"value": value[:2048]})
        return Reply()

    def reference_value(self, exchange: Exchange) -> Reply:
        """Return one value; without a name, all of them."""
        self.admin.require(exchange)
        if not exchange.rest:
            return Reply(json.dumps(self.reference_values.current()).encode())
        value = self.reference_values.get(exchange.rest)
        if value is None:
            raise _unknown_value()
        return Reply(json.dumps(value).encode())

    def delete_reference_value(self, exchange: Exchange) -> Reply:
        """Forget a value."""
        self.admin.require(exchange)
        with self.audit.together():
            if not self.reference_values.delete(exchange.rest):
                raise _unknown_value()
            self._record(exchange, "delete-reference-value", exchange.rest, {})
        return Reply()

    def _set_policy(self, exchange: Exchange, policy: PolicyId, text: str) -> Reply:
        body = self.policies.checked(text)
        with self.audit.together():
            self.policies.put(policy, body)
            self._record(exchange, "set-policy", policy, {"sha256": hashlib.sha256(body).hexdigest()})
        return Reply()

    def _record(self, exchange: Exchange, action: str, name: str, fields: Mapping[str, str]) -> None:
        entry = {"action": action, "name": name, **fields}
        self.audit.record(Event.ADMINISTRATION, exchange.request_id, fields=entry)


def _message(exchange: Exchange) -> Fields:
    try:
        return Fields(loads(exchange.body, max_bytes=MAX_MESSAGE_BYTES), "policy")
    except (InvalidJsonError, FieldError) as error:
        raise _unreadable(str(error)) from error


def _policy_text(fields: Fields) -> str:
    try:
        return base64url.decode(fields.text("policy").rstrip("=")).decode()
    except (FieldError, JoseError, UnicodeDecodeError) as error:
        raise _unreadable(str(error)) from error


def _unreadable(detail: str) -> KbsRefusal:
    return KbsRefusal("ParsePolicyError", code="policy-invalid", detail=detail)


def _unknown_value() -> KbsRefusal:
    sentence = "RVPS configuration failed: Failed to get reference_values: No reference value found"
    return KbsRefusal("RvpsError", sentence=sentence, code="reference-value-unknown")
