"""The administrator's side of the broker, over HTTPS."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.jose import base64url
from enclave_cc.formats.kbs.messages import ErrorInformation, KbsMessageError
from enclave_cc.transport.https import HttpsPeer

if TYPE_CHECKING:
    from types import TracebackType

    from enclave_cc.formats.kbs.resource_uri import ResourceUri

_PREFIX: Final = "/kbs/v0/"
# A page of the audit log has a thousand entries of a few kilobytes.
_MAX_ANSWER_BYTES: Final = 64 << 20
_OK: Final = 200
_SERVER_FAULT: Final = 500


class AdminClient:
    """Everything that the administrator may do; each call is one request with an id of its own."""

    def __init__(
        self, url: str, token: str, ca_pem: str = "", *, timeout_s: float = 30, insecure_http: bool = False
    ) -> None:
        self._peer = HttpsPeer(
            url,
            ca_pem=ca_pem,
            timeout_s=timeout_s,
            max_answer_bytes=_MAX_ANSWER_BYTES,
            insecure_http=insecure_http,
        )
        self._token = token.strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._peer.close()

    def put_resource(self, uri: ResourceUri, value: bytes) -> None:
        """Store a secret."""
        self._send("POST", f"resource/{uri.path}", value)

    def delete_resource(self, uri: ResourceUri) -> None:
        """Remove a secret."""
        self._send("DELETE", f"resource/{uri.path}")

    def list_resources(self) -> tuple[str, ...]:
        """List the paths of all secrets."""
        value = self._json("GET", "resource")
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()

    def set_resource_policy(self, rego: str) -> None:
        """Put the policy into force that decides who may have which secret."""
        self._send("POST", "resource-policy", _json_body({"policy": base64url.encode(rego.encode())}))

    def set_attestation_policy(self, rego: str, policy_id: str = "default_cpu") -> None:
        """Put the policy into force that turns evidence into a trust vector."""
        message = {"type": "rego", "policy_id": policy_id, "policy": base64url.encode(rego.encode())}
        self._send("POST", "attestation-policy", _json_body(message))

    def get_policy(self, policy_id: str = "resource-policy") -> str:
        """Return the text of a policy in force: ``resource-policy`` or ``default_cpu``."""
        return self._send("GET", f"policy-text/{quote(policy_id)}").decode()

    def add_reference_value(self, name: str, value: object) -> None:
        """Add to a list of accepted values; what was registered before stays accepted."""
        known = self.list_reference_values().get(name)
        items = known if isinstance(known, list) else []
        added = value if isinstance(value, list) else [value]
        self.set_reference_value(name, [*items, *(item for item in added if item not in items)])

    def set_reference_value(self, name: str, value: object) -> None:
        """Replace a value."""
        payload = base64.b64encode(_json_body({name: value})).decode()
        message = {"version": "0.1.0", "type": "sample", "payload": payload}
        self._send("POST", "reference-value", _json_body(message))

    def delete_reference_value(self, name: str) -> None:
        """Forget a value."""
        self._send("DELETE", f"reference-value/{quote(name, safe='')}")

    def list_reference_values(self) -> dict[str, object]:
        """Return all values that have not expired."""
        return self._object("GET", "reference-value")

    def explain(self, request_id: str) -> dict[str, object]:
        """Return events, findings and remedy of one request."""
        return self._object("GET", f"explain/{quote(request_id, safe='')}")

    def audit(self, after: int = 0) -> dict[str, object]:
        """Return a page of the log, whose chain the broker has verified: length, head and entries."""
        return self._object("GET", f"audit?after={after}")

    def _object(self, method: str, path: str) -> dict[str, object]:
        value = self._json(method, path)
        try:
            Fields(value, "answer")
        except FieldError as error:
            raise _malformed(str(error)) from error
        return value if isinstance(value, dict) else {}

    def _json(self, method: str, path: str) -> object:
        try:
            return loads(self._send(method, path), max_bytes=_MAX_ANSWER_BYTES)
        except InvalidJsonError as error:
            raise _malformed(str(error)) from error

    def _send(self, method: str, path: str, body: bytes = b"") -> bytes:
        headers = {"Authorization": f"Bearer {self._token}", "X-Request-ID": fresh_request_id()}
        answer = self._peer.request(method, _PREFIX + path, body=body, headers=headers)
        if answer.status == _OK:
            return answer.body
        try:
            error = ErrorInformation.parse(answer.body)
        except KbsMessageError:
            error = ErrorInformation("Unknown", f"status {answer.status}")
        detail = f"{method} {path}: {error.detail}"
        if answer.status >= _SERVER_FAULT:
            raise UnavailableError(
                "broker-unavailable", "the key broker is not available", stage=Stage.BROKER, detail=detail
            )
        raise RefusedError(
            "broker-refused-administration",
            f"the key broker refused: {error.reason}",
            stage=Stage.BROKER,
            detail=detail,
        )


def _json_body(value: object) -> bytes:
    return json.dumps(value).encode()


def _malformed(detail: str) -> UnavailableError:
    return UnavailableError(
        "broker-answer-malformed",
        "the key broker's answer cannot be read",
        stage=Stage.BROKER,
        detail=detail,
    )
