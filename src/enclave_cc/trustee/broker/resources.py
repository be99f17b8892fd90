"""
Release of resources to attested clients, and their upkeep by the administrator.

(1) The client has a token of ours, by session or as bearer.
(2) The resource policy allows exactly this path; no answer means no.
(3) Only then is looked whether the resource exists.
(4) The release is in the log before it leaves, sealed to the key in the token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.jose import jwe
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.trustee.audit.log import Event
from enclave_cc.trustee.broker.errors import KbsRefusal
from enclave_cc.trustee.broker.exchange import OPAQUE, Reply, Route
from enclave_cc.trustee.policy.library import PolicyId

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.trustee.audit.log import AuditLog
    from enclave_cc.trustee.broker.admin_gate import AdminGate
    from enclave_cc.trustee.broker.attested import AttestedClient, ClientRecognition
    from enclave_cc.trustee.broker.exchange import Exchange
    from enclave_cc.trustee.policy.engine import PolicyEngine
    from enclave_cc.trustee.policy.library import PolicyLibrary
    from enclave_cc.trustee.reference_values.register import ReferenceValues
    from enclave_cc.trustee.resources.repository import ResourceRepository

_FAILURE: Final = "PluginInternalError"
_ALLOW: Final = "data.policy.allow"
_MAX_PATH_CHARS: Final = 2048
_DENY_REMEDY: Final = "see the findings beside this one, or set a resource policy that allows this enclave"


@dataclass(frozen=True, slots=True)
class ResourceRoutes:
    """Resources in and out."""

    clients: ClientRecognition
    admin: AdminGate
    repository: ResourceRepository
    policies: PolicyLibrary
    reference_values: ReferenceValues
    engine: PolicyEngine
    audit: AuditLog

    def routes(self) -> Mapping[tuple[str, str], Route]:
        """Return the routes by method and first segment."""
        return {
            ("GET", "resource"): Route(self.get, _FAILURE),
            ("POST", "resource"): Route(self.put, _FAILURE),
            ("DELETE", "resource"): Route(self.delete, _FAILURE),
        }

    def get(self, exchange: Exchange) -> Reply:
        """Release a resource; without a path, list them all to the administrator."""
        if not exchange.rest:
            self.admin.require(exchange)
            return Reply(json.dumps(list(self.repository.paths())).encode())
        client = self.clients.require(exchange)
        self._require_allowed(exchange, client)
        uri = ResourceUri.parse_path(exchange.rest)
        secret = self.repository.get(uri)
        if secret is None:
            raise KbsRefusal(_FAILURE, code="resource-missing", findings=(_missing(uri),))
        try:
            sealed = jwe.seal(secret, client.token.tee_key)
        except JoseError as error:
            raise KbsRefusal("JweError", code="tee-key-unusable", detail=str(error)) from error
        fields = {"resource": str(uri), "enclave": client.token.measurement}
        self.audit.record(Event.RELEASE, exchange.request_id, fields=fields)
        return Reply(json.dumps(sealed, separators=(",", ":")).encode())

    def put(self, exchange: Exchange) -> Reply:
        """Store a resource."""
        self.admin.require(exchange)
        uri = ResourceUri.parse_path(exchange.rest)
        with self.audit.together():
            self.repository.put(uri, exchange.body)
            self._record(exchange, "set-resource", uri, size=len(exchange.body))
        return Reply(content_type=OPAQUE)

    def delete(self, exchange: Exchange) -> Reply:
        """Remove a resource."""
        self.admin.require(exchange)
        uri = ResourceUri.parse_path(exchange.rest)
        with self.audit.together():
            if not self.repository.delete(uri):
                raise KbsRefusal(_FAILURE, code="resource-missing", findings=(_missing(uri),))
            self._record(exchange, "delete-resource", uri, size=0)
        return Reply(content_type=OPAQUE)

    def _require_allowed(self, exchange: Exchange, client: AttestedClient) -> None:
        """Do step 2."""
        path = exchange.rest[:_MAX_PATH_CHARS]
        try:
            results = self.engine.evaluate(
                self.policies.text(PolicyId.RESOURCE),
                (_ALLOW,),
                document=client.token.claims,
                data={
                    "plugin": "resource",
                    "resource-path": path.split("/"),
                    "query": dict(exchange.query),
                    "reference_values": self.reference_values.current(),
                },
            )
        except EnclaveCcError as error:
            raise KbsRefusal.of(error, "PolicyEngineError") from error
        allow = results.get(_ALLOW)
        if allow is not True:
            actual = "undefined" if allow is None else json.dumps(allow)
            denial = Finding("resource.policy", Outcome.FAILED, "true", actual, _DENY_REMEDY)
            raise KbsRefusal(
                "PolicyDeny", code="resource-denied", detail=path, findings=(*client.failed, denial)
            )

    def _record(self, exchange: Exchange, action: str, uri: ResourceUri, *, size: int) -> None:
        fields = {"action": action, "resource": str(uri), "size_bytes": str(size)}
        self.audit.record(Event.ADMINISTRATION, exchange.request_id, fields=fields)


def _missing(uri: ResourceUri) -> Finding:
    return Finding(
        "resource.exists", Outcome.FAILED, str(uri), "(absent)", "put the resource into the broker"
    )
