"""Which signatures there are of one manifest, and which of them were made with a key at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.sigstore.detached import Content
from enclave_cc.image.checks import Checks
from enclave_cc.image.signatures.found import FoundSignatures
from enclave_cc.image.signatures.subject import SignatureSubject, SignedDocument
from enclave_cc.tenant.places.as_registry import PlaceAsRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.formats.signatures.public_key import PublicKey
    from enclave_cc.formats.sigstore.detached import DetachedSignature
    from enclave_cc.tenant.places.ports import ImageReader

_FORMS: Final = {Content.PAYLOAD: "tag", Content.STATEMENT: "bundle", Content.MANIFEST: "openpgp"}


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """
    One signature: its form, and the fingerprint of the key under which it verified, if one did.

    ``names`` are the names that it was made for; without a key they are claims.
    """

    form: str
    key: str
    names: tuple[str, ...]
    has_certificate: bool

    def to_json(self) -> dict[str, object]:
        """Return the signature as JSON members."""
        return {
            "form": self.form,
            "key": self.key or None,
            "names": list(self.names),
            "certificate": self.has_certificate,
        }


def list_signatures(
    reader: ImageReader, asked: Reference, digest: Digest, body: bytes, keys: Sequence[PublicKey]
) -> tuple[SignatureReport, ...]:
    """List what stands beside a manifest; what is malformed is left out, as the policy leaves it out."""
    registry = PlaceAsRegistry(reader)
    registry.manifest(asked, digest_or_tag=str(digest))
    subject = SignatureSubject(asked, (SignedDocument(digest, body),))
    return tuple(_report(found, digest, keys) for found in FoundSignatures(subject, registry, Checks()))


def _report(found: DetachedSignature, digest: Digest, keys: Sequence[PublicKey]) -> SignatureReport:
    try:
        claims = [claim for claim in found.claims() if claim.manifest_digest == digest]
    except InvalidInputError:
        claims = []
    # A signature of another image is nobody's signature of this one.
    signers = [key.fingerprint for key in keys if claims and key.has_signed(found.message, found.signature)]
    return SignatureReport(
        form=_FORMS.get(found.content, "other"),
        key=signers[0] if signers else "",
        names=tuple(dict.fromkeys(claim.docker_reference for claim in claims if claim.docker_reference)),
        has_certificate=bool(found.certificates),
    )
