"""
Cosign's signatures of version 2: a manifest under a tag derived from the signed digest.

Each layer of that manifest is a payload (what is claimed), with the raw signature over exactly its
bytes in an annotation. A payload means nothing before its signature verified, so parsing one is a
separate step that callers take afterwards.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from enclave_cc.core import strict_json
from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.edge import decode_base64, foreign, read_object

if TYPE_CHECKING:
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.manifest import Manifest

PAYLOAD_MEDIA_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION: Final = "dev.cosignproject.cosign/signature"
PAYLOAD_TYPE: Final = "cosign container image signature"

# A payload is a few hundred bytes; a signature of RSA-4096 is 512.
MAX_PAYLOAD_BYTES: Final = 64 << 10
_MAX_SIGNATURE_CHARS: Final = 8192
# Whoever may push can add signatures; this bounds what verifying costs.
MAX_SIGNATURES: Final = 64

_SUMMARY: Final = "an image signature is malformed"


def signature_tag(digest: Digest) -> str:
    """Name the tag under which the signatures of a manifest are found."""
    return f"{digest.algorithm}-{digest.hex}.sig"


@dataclass(frozen=True, slots=True)
class PayloadClaim:
    """What a payload says: this manifest, under this name."""

    manifest_digest: Digest
    docker_reference: str

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read a payload whose signature verified; raise ``InvalidInputError`` (signature-invalid)."""
        with foreign("signature-invalid", _SUMMARY, stage=Stage.VERIFY):
            fields = read_object(payload, "payload", max_bytes=MAX_PAYLOAD_BYTES)
            fields.only("critical", "optional")
            critical = fields.object("critical")
            critical.only("identity", "image", "type")
            if critical.text("type") != PAYLOAD_TYPE:
                raise critical.error("type", "is another kind of signature")
            identity, image = critical.object("identity"), critical.object("image")
            return cls(
                manifest_digest=Digest.parse(image.text("docker-manifest-digest")),
                docker_reference=identity.text("docker-reference"),
            )

    def to_bytes(self) -> bytes:
        """Write the payload as cosign does."""
        critical = {
            "identity": {"docker-reference": self.docker_reference},
            "image": {"docker-manifest-digest": str(self.manifest_digest)},
            "type": PAYLOAD_TYPE,
        }
        return strict_json.canonical({"critical": critical, "optional": None})


@dataclass(frozen=True, slots=True)
class SignatureLayer:
    """A payload blob and the signature that stands beside it."""

    payload: Descriptor
    signature: bytes


def signature_layers(manifest: Manifest) -> tuple[SignatureLayer, ...]:
    """
    List the signatures in a signature manifest.

    Layers that are no signatures, or whose annotation is not base64, are left out: anybody who may
    push can add one, and that must not hide the others.
    """
    found = []
    for layer in manifest.layers[:MAX_SIGNATURES]:
        text = layer.annotations.get(SIGNATURE_ANNOTATION, "").replace("\n", "").replace("\r", "")
        if layer.media_type != PAYLOAD_MEDIA_TYPE or not text or len(text) > _MAX_SIGNATURE_CHARS:
            continue
        if layer.size > MAX_PAYLOAD_BYTES:
            continue
        try:
            found.append(SignatureLayer(layer, decode_base64(text, "signature")))
        except ValueError:
            continue
    return tuple(found)


def generate_signing_key() -> tuple[bytes, bytes]:
    """Make a P-256 key pair; return the private (PKCS #8) and the public PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def sign_payload(payload: bytes, private_key_pem: bytes) -> str:
    """Sign with a P-256 key and return the annotation; raise ``InvalidInputError`` (signing-key-invalid)."""
    try:
        key = serialization.load_pem_private_key(private_key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_key("not an unencrypted PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != ec.SECP256R1.name:
        raise _bad_key("not a P-256 key")
    return base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode("ascii")


def _bad_key(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "signing-key-invalid", "the signing key cannot be used", stage=Stage.CONFIG, detail=detail
    )
