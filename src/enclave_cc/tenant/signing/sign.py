"""
Sign images as cosign does, wherever they lie: under a tag as cosign 2 does, as a bundle as cosign 3 does.

Both forms name the image: cosign's own bundles do not, and then nothing says which of the signer's images
was meant. Signatures that are there already stay.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Index, Manifest, parse_manifest_or_index
from enclave_cc.formats.oci.media_types import OCI_CONFIG
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.claim import SignedClaim
from enclave_cc.formats.sigstore.bundle import BUNDLE_MEDIA_TYPE, write_bundle
from enclave_cc.formats.sigstore.cosign import PAYLOAD_MEDIA_TYPE, SIGNATURE_ANNOTATION, signature_tag
from enclave_cc.formats.sigstore.statement import (
    PAYLOAD_TYPE,
    SIGN_PREDICATE,
    pre_authentication_encoding,
    write_statement,
)
from enclave_cc.tenant.places.layout import LayoutReader, LayoutWriter
from enclave_cc.tenant.signing.signing_key import SigningKey, generate_signing_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from enclave_cc.core.digest import Digest
    from enclave_cc.tenant.places.image_layout import ImageLayout
    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter

__all__ = ["BOTH_FORMS", "SignatureForm", "Signer", "generate_signing_key", "sign_image"]

_EMPTY: Final = b"{}"
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"


class SignatureForm(StrEnum):
    """The two ways in which cosign keeps signatures."""

    TAG = "tag"
    BUNDLE = "bundle"


BOTH_FORMS: Final = frozenset(SignatureForm)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs what lies in one place, for the name people pull by; the writer is the caller's to commit."""

    reader: ImageReader
    writer: ImageWriter
    repository: Reference
    key: SigningKey
    forms: Collection[SignatureForm] = BOTH_FORMS

    def sign(self, manifest: Descriptor, *, recursive: bool = False) -> tuple[Digest, ...]:
        """
        Sign a manifest or an index, with ``recursive`` an index's images too; return what was signed.

        Without the index itself signed, whoever pulls by its tag gets whatever index the registry makes.
        """
        signed = [manifest]
        document = parse_manifest_or_index(self.reader.document(manifest.digest))
        if recursive and isinstance(document, Index):
            signed += {entry.digest: entry for entry in document.manifests}.values()
        for descriptor in signed:
            claim = SignedClaim(descriptor.digest, self.repository.name)
            if SignatureForm.TAG in self.forms:
                self._under_tag(claim)
            if SignatureForm.BUNDLE in self.forms:
                self._as_bundle(claim, descriptor)
        return tuple(descriptor.digest for descriptor in signed)

    def _under_tag(self, claim: SignedClaim) -> None:
        payload = claim.to_bytes()
        signature = base64.b64encode(self.key.sign(payload)).decode("ascii")
        digest, size = self.writer.add_blob([payload], len(payload))
        layer = Descriptor(PAYLOAD_MEDIA_TYPE, digest, size, {SIGNATURE_ANNOTATION: signature})
        before = self.reader.signature_manifest(claim.manifest_digest)
        others = () if before is None else Manifest.parse(before).layers
        signed = Manifest(self._empty(OCI_CONFIG), (*others, layer))
        tag = signature_tag(claim.manifest_digest)
        self.writer.add_manifest(signed.to_bytes(), signed.media_type, name=tag)

    def _as_bundle(self, claim: SignedClaim, subject: Descriptor) -> None:
        statement = write_statement(claim)
        signature = self.key.sign(pre_authentication_encoding(PAYLOAD_TYPE, statement))
        hint = base64.b64encode(self.key.public.key_id).decode("ascii")
        bundle = write_bundle(statement, signature, key_hint=hint)
        digest, size = self.writer.add_blob([bundle], len(bundle))
        artifact = Manifest(
            self._empty(_EMPTY_TYPE),
            (Descriptor(BUNDLE_MEDIA_TYPE, digest, size),),
            annotations={
                "dev.sigstore.bundle.content": "dsse-envelope",
                "dev.sigstore.bundle.predicateType": SIGN_PREDICATE,
            },
            subject=Descriptor(subject.media_type, subject.digest, subject.size),
            artifact_type=BUNDLE_MEDIA_TYPE,
        )
        written = self.writer.add_manifest(artifact.to_bytes(), artifact.media_type)
        referrer = Descriptor(
            written.media_type, written.digest, written.size, artifact_type=BUNDLE_MEDIA_TYPE
        )
        self.writer.add_referrer(claim.manifest_digest, referrer)

    def _empty(self, media_type: str) -> Descriptor:
        digest, size = self.writer.add_blob([_EMPTY], len(_EMPTY))
        return Descriptor(media_type, digest, size)


def sign_image(
    layout: ImageLayout,
    manifest: Descriptor,
    *,
    repository: str,
    private_key_pem: bytes,
    forms: Collection[SignatureForm] = (SignatureForm.TAG,),
) -> tuple[Digest, ...]:
    """
    Sign a manifest (or index) of a layout for a repository.

    ``repository`` is the name people pull by, without a tag (``registry.example/team/app``). Raises
    ``InvalidInputError`` (signing-key-invalid, reference-invalid).
    """
    writer = LayoutWriter(layout.directory)
    signer = Signer(
        LayoutReader(layout),
        writer,
        Reference.parse(repository, default_tag=None),
        SigningKey.load(private_key_pem),
        forms,
    )
    signed = signer.sign(manifest)
    writer.commit()
    return signed
