"""
Reads one requirement of a signature policy; what makes no sense together is refused.

Besides containers-policy.json(5) there is one extension, for trust that its ``fulcio`` cannot express:
``trustedRootPath`` or ``trustedRootData`` with ``certificateIdentity`` and ``certificateOidcIssuer``.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.signatures.identity import SignedIdentity
from enclave_cc.formats.signatures.requirements import (
    FulcioTrust,
    InsecureAcceptAnything,
    KeyTrust,
    Material,
    Reject,
    SignedBy,
    SigstoreSigned,
    TrustedRootTrust,
)
from enclave_cc.formats.signatures.signer import SignerIdentity

if TYPE_CHECKING:
    from enclave_cc.core.fields import Fields
    from enclave_cc.formats.signatures.requirements import Requirement, SigstoreTrust

_PEM: Final = "-----BEGIN "
_GPG_KEYS: Final = "GPGKeys"
# Keys are rotated, not collected; each is tried on each signature.
_MAX_KEYS: Final = 32

_KEYS: Final = ("keyPath", "keyPaths", "keyData", "keyDatas")
_REKOR: Final = ("rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")
_ROOT: Final = ("trustedRootPath", "trustedRootData")
_SIGNER: Final = ("certificateIdentity", "certificateOidcIssuer")


@dataclass(frozen=True, slots=True)
class RequirementReader:
    """Reads requirements; with ``allow_files`` paths may be files of this machine."""

    allow_files: bool

    def read(self, fields: Fields) -> Requirement:
        """Read a requirement; raise ``ValueError`` for anything that is not understood whole."""
        match fields.text("type"):
            case "insecureAcceptAnything":
                fields.only("type")
                return InsecureAcceptAnything()
            case "reject":
                fields.only("type")
                return Reject()
            case "signedBy":
                return self._signed_by(fields)
            case "sigstoreSigned":
                return self._sigstore_signed(fields)
            case _:
                raise fields.error("type", "is not supported")

    def _signed_by(self, fields: Fields) -> SignedBy:
        fields.only("type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity")
        if fields.text("keyType") != _GPG_KEYS:
            raise fields.error("keyType", "is not GPGKeys")
        return SignedBy(self._materials(fields, "keyPath", "keyPaths", "keyData"), _identity(fields))

    def _sigstore_signed(self, fields: Fields) -> SigstoreSigned:
        fields.only("type", *_KEYS, "fulcio", *_REKOR, *_ROOT, *_SIGNER, "signedIdentity")
        return SigstoreSigned(self._trust(fields), _identity(fields))

    def _trust(self, fields: Fields) -> SigstoreTrust:
        """Read who is trusted: exactly one of keys, an authority, or a trust root."""
        forms = (_any(fields, _KEYS), fields.has("fulcio"), _any(fields, _ROOT))
        if sum(forms) != 1:
            raise fields.error("keyPath", "exactly one of keys, fulcio and a trusted root is needed")
        if not forms[2] and _any(fields, _SIGNER):
            raise fields.error("certificateIdentity", "belongs to a trusted root")
        if forms[2]:
            if _any(fields, _REKOR):
                raise fields.error("rekorPublicKeyPath", "is in the trusted root already")
            signer = SignerIdentity(_nonempty(fields, _SIGNER[0]), _nonempty(fields, _SIGNER[1]))
            return TrustedRootTrust(self._materials(fields, *_ROOT)[0], signer)
        rekor = self._materials(fields, *_REKOR) if _any(fields, _REKOR) else ()
        if forms[0]:
            return KeyTrust(self._materials(fields, *_KEYS), rekor)
        if not rekor:
            # Without a log nothing says when the short-lived certificate signed.
            raise fields.error("rekorPublicKeyPath", "is needed with fulcio")
        return self._fulcio(fields.object("fulcio"), rekor)

    def _fulcio(self, fields: Fields, rekor: tuple[Material, ...]) -> FulcioTrust:
        fields.only("caPath", "caData", "oidcIssuer", "subjectEmail")
        signer = SignerIdentity(_nonempty(fields, "subjectEmail"), _nonempty(fields, "oidcIssuer"))
        return FulcioTrust(self._materials(fields, "caPath", "caData")[0], rekor, signer)

    def _materials(self, fields: Fields, *names: str) -> tuple[Material, ...]:
        """Read the one member of several that is there: a path, paths, data or datas."""
        present = [name for name in names if fields.has(name)]
        if len(present) != 1:
            raise fields.error(names[0], f"exactly one of {', '.join(names)} is needed")
        (name,) = present
        values = fields.texts(name) if name.endswith("s") else (fields.text(name),)
        if not 0 < len(values) <= _MAX_KEYS:
            raise fields.error(name, "is empty or too long")
        if name.removesuffix("s").endswith("Data"):
            return tuple(Material(data=_data(fields, name, value)) for value in values)
        return tuple(Material(uri=self._path(fields, name, value)) for value in values)

    def _path(self, fields: Fields, name: str, value: str) -> str:
        if value.startswith("kbs:") or not self.allow_files:
            return str(ResourceUri.parse(value))
        if not value or "://" in value:
            raise fields.error(name, "is neither a file nor a resource of the broker")
        return value


def _any(fields: Fields, names: tuple[str, ...]) -> bool:
    return any(fields.has(name) for name in names)


def _nonempty(fields: Fields, name: str) -> str:
    value = fields.text(name)
    if not value:
        raise fields.error(name, "is empty")
    return value


def _identity(fields: Fields) -> SignedIdentity:
    if not fields.has("signedIdentity"):
        return SignedIdentity()
    return SignedIdentity.read(fields.object("signedIdentity"))


def _data(fields: Fields, name: str, text: str) -> bytes:
    """Read PEM text, plain or in base64 as containers-policy.json(5) has it."""
    if text.lstrip().startswith(_PEM):
        return text.encode("utf-8")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise fields.error(name, "is neither PEM nor base64") from error
    if not data:
        raise fields.error(name, "is empty")
    return data
