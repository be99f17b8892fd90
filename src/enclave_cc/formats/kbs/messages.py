"""
The messages of the KBS protocol, version 0.4.0: strict where we read, exact where we write.

Unknown members are ignored, as the protocol asks; everything that is used has its type and its
bound. Whatever is wrong raises ``KbsMessageError`` and nothing else.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jwk import PublicJwk, parse_public_jwk

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION: Final = "0.4.0"
ERROR_TYPE_PREFIX: Final = "https://github.com/confidential-containers/kbs/errors/"
# The same bound that existing servers put on a request.
MAX_MESSAGE_BYTES: Final = 2 << 20
# A nonce is 44 characters; one that a TEE needs to be a document stays below this.
_MAX_NONCE_CHARS: Final = 4096
_MAX_NAME_CHARS: Final = 64
_REASON: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_HASHES: Final = ("sha256", "sha384", "sha512")


class KbsMessageError(ValueError):
    """Bytes are not the protocol message they should be."""


@dataclass(frozen=True, slots=True)
class Request:
    """Opens a handshake: ``POST /kbs/v0/auth``."""

    version: str
    tee: str

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a request; ``extra-params`` must be there, its content is not used."""
        with _reading():
            fields = _fields(data, "request")
            if "extra-params" not in fields.names():
                raise KbsMessageError("request.extra-params: is missing")
            version, tee = fields.text("version"), fields.text("tee")
            if max(len(version), len(tee)) > _MAX_NAME_CHARS:
                raise KbsMessageError("request: a name is too long")
            return cls(version, tee)

    def to_bytes(self) -> bytes:
        """Write the request with the hashes that we compute."""
        return _write(
            {
                "version": self.version,
                "tee": self.tee,
                "extra-params": {"supported-hash-algorithms": list(_HASHES)},
            }
        )


@dataclass(frozen=True, slots=True)
class Challenge:
    """The broker's answer: a nonce, opaque to the client."""

    nonce: str

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a challenge; one that asks for another hash than SHA-384 is not for us."""
        with _reading():
            fields = _fields(data, "challenge")
            nonce = fields.text("nonce")
            if not nonce or len(nonce) > _MAX_NONCE_CHARS:
                raise KbsMessageError("challenge.nonce: has an unusable length")
            extra = fields.raw("extra-params")
            if isinstance(extra, dict) and extra.get("selected-hash-algorithm", "sha384") != "sha384":
                raise KbsMessageError("challenge.extra-params: selects another hash")
            return cls(nonce)

    def to_bytes(self) -> bytes:
        """Write the challenge."""
        return _write({"nonce": self.nonce, "extra-params": ""})


@dataclass(frozen=True, slots=True)
class Attestation:
    """Evidence for a challenge: ``POST /kbs/v0/attest``. ``init_data`` is TOML text."""

    nonce: str
    tee_key: PublicJwk
    primary_evidence: object
    additional_evidence: str = ""
    init_data: str | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read evidence; the evidence itself is the appraisal's to judge."""
        with _reading():
            fields = _fields(data, "attestation")
            runtime, evidence = fields.object("runtime-data"), fields.object("tee-evidence")
            primary = evidence.raw("primary_evidence")
            if not isinstance(primary, dict):
                raise KbsMessageError("attestation.tee-evidence.primary_evidence: is not an object")
            return cls(
                nonce=runtime.text("nonce"),
                tee_key=parse_public_jwk(runtime.raw("tee-pubkey")),
                primary_evidence=primary,
                additional_evidence=evidence.text("additional_evidence", default=""),
                init_data=_init_data(fields),
            )

    def to_bytes(self) -> bytes:
        """Write the evidence; an absent init-data is null."""
        init_data = None if self.init_data is None else {"format": "toml", "body": self.init_data}
        return _write(
            {
                "init-data": init_data,
                "runtime-data": {"nonce": self.nonce, "tee-pubkey": self.tee_key.to_json()},
                "tee-evidence": {
                    "primary_evidence": self.primary_evidence,
                    "additional_evidence": self.additional_evidence,
                },
            }
        )


@dataclass(frozen=True, slots=True)
class TokenReply:
    """The answer to good evidence."""

    token: str

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the reply; the token is not looked into."""
        with _reading():
            return cls(_fields(data, "token reply").text("token"))

    def to_bytes(self) -> bytes:
        """Write the reply."""
        return _write({"token": self.token})


@dataclass(frozen=True, slots=True)
class ErrorInformation:
    """Every answer that is not a success; ``reason`` is the last part of ``type``, as in ``PolicyDeny``."""

    reason: str
    detail: str

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read an error; the reason must be one word, because it travels on."""
        with _reading():
            fields = _fields(data, "error")
            reason = fields.text("type").removeprefix(ERROR_TYPE_PREFIX)
            if not _REASON.fullmatch(reason):
                raise KbsMessageError("error.type: is not one of the protocol's")
            return cls(reason, fields.text("detail", default=""))

    def to_bytes(self) -> bytes:
        """Write the error."""
        return _write({"type": ERROR_TYPE_PREFIX + self.reason, "detail": self.detail})


def _init_data(fields: Fields) -> str | None:
    if not fields.has("init-data"):
        return None
    init_data = fields.object("init-data")
    if init_data.text("format") != "toml":
        raise KbsMessageError("attestation.init-data.format: is not toml")
    return init_data.text("body")


def _fields(data: bytes, where: str) -> Fields:
    return Fields(loads(data, max_bytes=MAX_MESSAGE_BYTES), where)


@contextmanager
def _reading() -> Iterator[None]:
    """Turn every complaint about foreign bytes into the one error that this module declares."""
    try:
        yield
    except (InvalidJsonError, FieldError, JoseError) as error:
        raise KbsMessageError(str(error)) from error


def _write(value: object) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise KbsMessageError("a text is not Unicode") from error
