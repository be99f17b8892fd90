"""
The signatures beside an image, in both forms that cosign writes: under a tag, and as referring bundles.

They are fetched one after the other, only as far as somebody looks. Whatever is malformed, missing or too
large is noted and passed over: it must not hide the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.oci.manifest import Index, Manifest
from enclave_cc.formats.sigstore.bundle import BUNDLE_MEDIA_TYPE, MAX_BUNDLE_BYTES, parse_bundle
from enclave_cc.formats.sigstore.cosign import signature_layers, signature_tag
from enclave_cc.image.fetched import read_blob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.sigstore.detached import DetachedSignature
    from enclave_cc.image.checks import Checks
    from enclave_cc.image.ports import Registry
    from enclave_cc.image.signatures.subject import SignatureSubject, SignedDocument

RULE: Final = "image.signature.found"
# Each costs two requests; whoever may push can add referrers.
MAX_BUNDLES: Final = 32
_MAX_ARTIFACT_BYTES: Final = 64 << 10
# What whoever may push can cause: nothing there, or more than a manifest may have.
_PASSED_OVER: Final = frozenset({"image-not-found", "registry-response-invalid"})


class FoundSignatures:
    """Signatures of one image; iterating twice fetches once."""

    def __init__(self, subject: SignatureSubject, registry: Registry, checks: Checks) -> None:
        self._subject = subject
        self._registry = registry
        self._checks = checks
        self._known: list[DetachedSignature] = []
        self._rest = self._fetch()

    def __iter__(self) -> Iterator[DetachedSignature]:
        yield from tuple(self._known)
        for signature in self._rest:
            self._known.append(signature)
            yield signature

    def _fetch(self) -> Iterator[DetachedSignature]:
        for document in self._subject.documents:
            yield from self._under_tag(document)
        for document in self._subject.documents:
            yield from self._bundles(document)

    def _under_tag(self, document: SignedDocument) -> Iterator[DetachedSignature]:
        """List what cosign 2 writes; a payload that is not what its descriptor says is none."""
        body = self._manifest(signature_tag(document.digest))
        if body is None:
            return
        try:
            layers = signature_layers(Manifest.parse(body))
        except InvalidInputError as error:
            self._pass_over("a signature manifest", error.detail)
            return
        for layer in layers:
            payload = self._blob(layer.payload)
            if payload is not None:
                yield layer.with_payload(payload)

    def _bundles(self, document: SignedDocument) -> Iterator[DetachedSignature]:
        """List what cosign 3 writes: artifacts that refer to the manifest, each with one bundle."""
        try:
            answer = self._registry.referrers(self._subject.asked, digest=str(document.digest))
            entries = Index.parse(answer.body).manifests
        except InvalidInputError as error:
            self._pass_over("an index of referrers", error.detail or error.summary)
            return
        # The type is absent where a registry's fallback index does not repeat it.
        fitting = [entry for entry in entries if entry.artifact_type in {"", BUNDLE_MEDIA_TYPE}]
        if len(fitting) > MAX_BUNDLES:
            self._pass_over(f"at most {MAX_BUNDLES} bundles", str(len(fitting)))
        for entry in fitting[:MAX_BUNDLES]:
            found = self._bundle(entry, document)
            if found is not None:
                yield found

    def _bundle(self, entry: Descriptor, document: SignedDocument) -> DetachedSignature | None:
        if entry.size > _MAX_ARTIFACT_BYTES:
            self._pass_over("an artifact with a bundle", f"{entry.size} bytes")
            return None
        body = self._manifest(str(entry.digest))
        if (
            body is None
            or len(body) > _MAX_ARTIFACT_BYTES
            or Digest.of(body, entry.digest.algorithm) != entry.digest
        ):
            return None
        try:
            layers = Manifest.parse(body).layers
            bundles = [layer for layer in layers if layer.media_type == BUNDLE_MEDIA_TYPE]
            if len(bundles) != 1 or bundles[0].size > MAX_BUNDLE_BYTES:
                return None
            data = self._blob(bundles[0])
            return None if data is None else parse_bundle(data, artifact=document.body)
        except InvalidInputError as error:
            self._pass_over("a sigstore bundle", error.detail)
            return None

    def _manifest(self, digest_or_tag: str) -> bytes | None:
        try:
            return self._registry.manifest(self._subject.asked, digest_or_tag=digest_or_tag).body
        except InvalidInputError as error:
            if error.code not in _PASSED_OVER:
                raise
            if error.code != "image-not-found":
                self._pass_over("a manifest with a signature", error.detail or error.summary)
            return None

    def _blob(self, descriptor: Descriptor) -> bytes | None:
        try:
            data = read_blob(self._registry, self._subject.asked, descriptor)
        except InvalidInputError as error:
            self._pass_over("a blob with a signature", error.detail or error.summary)
            return None
        return data if Digest.of(data, descriptor.digest.algorithm) == descriptor.digest else None

    def _pass_over(self, expected: str, actual: str) -> None:
        self._checks.note(Finding(RULE, Outcome.SKIPPED, expected, actual))
