"""
Client of a key broker: attests when it must, fetches resources, reports findings.

A refusal is final where the broker says so; only an expired session is worth a second
attestation. Errors keep the broker's reason word for the host and its sentence for the owner.
"""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric import ec

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import MAX_VALUE_CHARS
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.jose import jwe
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jwk import EcPublicJwk
from enclave_cc.formats.jose.key_wrapping import ECDH
from enclave_cc.formats.kbs.messages import (
    VERSION,
    Attestation,
    Challenge,
    ErrorInformation,
    KbsMessageError,
    Request,
    TokenReply,
)
from enclave_cc.formats.kbs.runtime_data import report_data
from enclave_cc.formats.kbs.token import load_token_key, verify_token
from enclave_cc.transport.https import HttpsPeer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from enclave_cc.core.findings import Finding
    from enclave_cc.formats.kbs.resource_uri import ResourceUri
    from enclave_cc.transport.https import HttpAnswer

_COOKIE: Final = "kbs-session-id"
_PREFIX: Final = "/kbs/v0/"
# A resource of 8 MiB, sealed and base64-encoded, with room to spare.
_MAX_ANSWER_BYTES: Final = 16 << 20
_MAX_COOKIE_CHARS: Final = 512
_SESSION: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")
_OK: Final = 200
_REFUSAL_STATUSES: Final = range(400, 500)
# The session is gone or its token has expired; attesting again helps, once.
_STALE: Final = frozenset({"TokenNotFound", "TokenVerifierError"})

_Message = TypeVar("_Message", Challenge, TokenReply)


class KbsClient:
    """One attested session with one broker, renewed when the broker forgets it."""

    def __init__(
        self,
        url: str,
        *,
        tee: str,
        evidence: Callable[[bytes], Mapping[str, object]],
        request_id: str,
        ca_pem: str = "",
        token_key: str = "",
        initdata: str | None = None,
        timeout_s: float = 30,
        insecure_http: bool = False,
    ) -> None:
        """
        Prepare a client; nothing is sent yet.

        ``evidence`` turns 48 bytes of report data into the TEE's evidence object. ``ca_pem`` replaces the
        system's roots. With ``token_key`` (PEM) the broker's token must verify under it.
        """
        self._peer = HttpsPeer(
            url,
            ca_pem=ca_pem,
            timeout_s=timeout_s,
            max_answer_bytes=_MAX_ANSWER_BYTES,
            insecure_http=insecure_http,
        )
        self._tee = tee
        self._evidence = evidence
        self._request_id = request_id
        self._token_key = load_token_key(token_key) if token_key else None
        self._initdata = initdata
        self._private_key = ec.generate_private_key(ec.SECP256R1())
        self._public_jwk = EcPublicJwk.of(self._private_key.public_key(), algorithm=ECDH)
        self._cookie = ""
        self._token = ""
        self._lock = threading.RLock()

    def attest(self) -> str:
        """Do the whole handshake; return the broker's token."""
        with self._lock:
            self._cookie = self._token = ""
            challenge = self._challenge()
            evidence = self._evidence(report_data(challenge.nonce, self._public_jwk))
            attestation = Attestation(
                nonce=challenge.nonce,
                tee_key=self._public_jwk,
                primary_evidence=dict(evidence),
                init_data=self._initdata,
            )
            answer = self._send("POST", "attest", attestation.to_bytes())
            token = _parsed(self._accepted(answer, "attestation"), TokenReply.parse).token
            if self._token_key is not None:
                verify_token(token, self._token_key, self._public_jwk, challenge.nonce, now=datetime.now(UTC))
            self._token = token
            return token

    def resource(self, uri: ResourceUri) -> bytes:
        """Fetch and open one resource, attesting first when that has not been done."""
        body = self._attested("GET", f"resource/{quote(uri.path)}", b"", "resource", detail=str(uri))
        try:
            return jwe.unseal(loads(body, max_bytes=_MAX_ANSWER_BYTES), self._private_key)
        except (JoseError, InvalidJsonError) as error:
            raise UnavailableError(
                "broker-answer-malformed",
                "the key broker's answer cannot be read",
                stage=Stage.BROKER,
                detail=f"{uri}: {error}",
            ) from error

    def report_findings(
        self, request_id: str, stage: str, code: str, findings: Iterable[Finding], *, detail: str = ""
    ) -> None:
        """Tell the owner, through the broker's log, what was refused and with which values."""
        message = {
            "stage": str(stage),
            "code": code,
            "detail": detail[:MAX_VALUE_CHARS],
            "findings": [finding.to_json() for finding in findings],
        }
        self._attested("POST", "findings", json.dumps(message).encode(), "findings", request_id=request_id)

    def close(self) -> None:
        """Close the connections."""
        self._peer.close()

    def _challenge(self) -> Challenge:
        answer = self._send("POST", "auth", Request(VERSION, self._tee).to_bytes())
        return _parsed(self._accepted(answer, "attestation"), Challenge.parse)

    def _attested(
        self, method: str, path: str, body: bytes, what: str, *, detail: str = "", request_id: str = ""
    ) -> bytes:
        """Send a request in the session; attest again when the broker does not know it any more."""
        with self._lock:
            fresh = not self._token
            if fresh:
                self.attest()
            answer = self._send(method, path, body, request_id=request_id)
            if not fresh and answer.status in _REFUSAL_STATUSES and _reason(answer).reason in _STALE:
                self.attest()
                answer = self._send(method, path, body, request_id=request_id)
            return self._accepted(answer, what, detail)

    def _send(self, method: str, path: str, body: bytes, *, request_id: str = "") -> HttpAnswer:
        headers = {"X-Request-ID": request_id or self._request_id, "Content-Type": "application/json"}
        if self._cookie:
            headers["Cookie"] = f"{_COOKIE}={self._cookie}"
        answer = self._peer.request(method, _PREFIX + path, body=body, headers=headers)
        self._cookie = _session_cookie(answer) or self._cookie
        return answer

    def _accepted(self, answer: HttpAnswer, what: str, detail: str = "") -> bytes:
        """Return the body of a success; raise what the broker said otherwise."""
        if answer.status == _OK:
            return answer.body
        error = _reason(answer)
        sentence = f"{detail} {error.detail[:500]} (request {self._request_id})".strip()
        if answer.status not in _REFUSAL_STATUSES:
            raise UnavailableError(
                "broker-unavailable", "the key broker is not available", stage=Stage.BROKER, detail=sentence
            )
        raise RefusedError(
            f"broker-refused-{what}",
            f"the key broker refused: {error.reason}",
            stage=Stage.ATTEST if what == "attestation" else Stage.BROKER,
            detail=sentence,
        )


def _parsed(body: bytes, parse: Callable[[bytes], _Message]) -> _Message:
    try:
        return parse(body)
    except KbsMessageError as error:
        raise UnavailableError(
            "broker-answer-malformed",
            "the key broker's answer cannot be read",
            stage=Stage.BROKER,
            detail=str(error),
        ) from error


def _reason(answer: HttpAnswer) -> ErrorInformation:
    """Read the broker's reason; something else in front of it may have answered."""
    try:
        return ErrorInformation.parse(answer.body)
    except KbsMessageError:
        return ErrorInformation("Unknown", f"status {answer.status}")


def _session_cookie(answer: HttpAnswer) -> str:
    header = answer.headers.get("set-cookie", "")
    if not header or len(header) > _MAX_COOKIE_CHARS:
        return ""
    try:
        morsel = SimpleCookie(header).get(_COOKIE)
    except CookieError:
        return ""
    # What comes back in a header of ours must not be able to end it.
    return morsel.value if morsel is not None and _SESSION.fullmatch(morsel.value) else ""
