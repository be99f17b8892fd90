"""
Decide whether an image may be opened at all: manifest, signatures, configuration, encryption.

The order is the security argument. The policy is chosen by the reference the user asked for, not
by where the bytes come from; every document is compared with the digest it was named by before it
is parsed; nothing is ever taken from a cache of earlier decisions. What passes is a
``VerifiedImage``, whose layers ``open_layer`` then streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome, equal, member
from enclave_cc.formats.oci.descriptor import Descriptor, Platform
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.manifest import Index, Manifest, parse_manifest_or_index
from enclave_cc.formats.oci.media_types import CONFIG_TYPES, LayerMediaType
from enclave_cc.formats.oci.platform_match import without_variant
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.image.checks import Checks
from enclave_cc.image.fetched import fetch_config, fetch_manifest
from enclave_cc.image.layers.opening import Layer, open_layer
from enclave_cc.image.limits import DEFAULT_LIMITS, require_at_most
from enclave_cc.image.ports import BlobSource, Registry, Resources, SignatureStore
from enclave_cc.image.signatures.evaluate import refuse_rejected, require_signatures
from enclave_cc.image.signatures.simple import NoSignatureStore
from enclave_cc.image.signatures.subject import SignatureSubject, SignedDocument

if TYPE_CHECKING:
    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.limits import Limits

__all__ = [
    "BlobSource",
    "Layer",
    "Registry",
    "Resources",
    "VerifiedImage",
    "load_policy",
    "open_layer",
    "verify_image",
]

NO_SIGNATURE_STORE: Final = NoSignatureStore()
# SGX exists on this one.
LINUX_AMD64: Final = Platform("linux", "amd64")


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """An image that may be opened: everything here was compared with what the manifest or the owner says."""

    reference: Reference
    manifest_digest: Digest
    config: ImageConfig
    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...]


def load_policy(resources: Resources, uri: str) -> SignaturePolicy:
    """Fetch the owner's signature policy and read it; no URI means no policy, which refuses."""
    if not uri:
        return _require_policy(None, Checks())
    return SignaturePolicy.parse(resources.get(uri))


def verify_image(
    reference: Reference,
    *,
    manifest_digest: Digest | None,
    registry: Registry,
    resources: Resources,
    policy: SignaturePolicy | None,
    require_encrypted: bool,
    signature_store: SignatureStore = NO_SIGNATURE_STORE,
    platform: Platform = LINUX_AMD64,
    limits: Limits = DEFAULT_LIMITS,
) -> VerifiedImage:
    """
    Verify everything about an image but the content of its layers.

    ``manifest_digest`` is what the host resolved the tag to, of the manifest or of its index; a
    digest in the reference is stronger, and the two must agree. ``signature_store`` has the simple
    signatures, if the owner named one. Raises ``RefusedError`` with the findings of every rule
    evaluated so far, ``InvalidInputError`` for documents that do not parse, and ``UnavailableError``.
    """
    checks = Checks()
    pull = _Pull(reference, registry, platform, limits, checks)
    # (1) The policy, by the name that was asked for; "reject" needs no network.
    scope = _require_policy(policy, checks).scope_for(reference)
    refuse_rejected(scope, checks)
    # (2) The manifest: named by digest where anybody named one, its platform chosen if it is an index.
    manifest, documents = pull.resolve(manifest_digest)
    # (3) The signatures, over the manifest or over the index that names it.
    require_signatures(
        SignatureSubject(reference, documents),
        scope,
        registry=registry,
        resources=resources,
        store=signature_store,
        checks=checks,
    )
    # (4) The configuration, and that it fits the manifest and this machine.
    config = pull.configuration(manifest)
    # (5) The layers' types, sizes and encryption.
    layers = tuple(
        Layer(reference, descriptor, _layer_type(descriptor, checks), diff_id)
        for descriptor, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    if require_encrypted:
        _require_encrypted(layers, checks)
    return VerifiedImage(reference, documents[0].digest, config, layers, checks.findings)


@dataclass(frozen=True, slots=True)
class _Pull:
    """What the steps of one pull share."""

    reference: Reference
    registry: Registry
    platform: Platform
    limits: Limits
    checks: Checks

    def resolve(self, claimed: Digest | None) -> tuple[Manifest, tuple[SignedDocument, ...]]:
        """Return the manifest, its bytes, and after them those of the index it came from, if any."""
        body, digest = self._manifest_body(self.reference.digest or claimed)
        document = self._parsed(body)
        documents: tuple[SignedDocument, ...] = (SignedDocument(digest, body),)
        while isinstance(document, Index):
            summary = "the image's indexes are nested deeper than the limit"
            self._require_at_most("index-depth", summary, self.limits.index_depth, len(documents))
            body, digest = self._manifest_body(document.select(self.platform).digest)
            document, documents = self._parsed(body), (SignedDocument(digest, body), *documents)
        if claimed is not None:
            self.checks.require(
                member(
                    "image.manifest.claim",
                    allowed={str(known.digest) for known in documents},
                    actual=str(claimed),
                ),
                "manifest-digest-mismatch",
                "the node resolved the image to another manifest",
                stage=Stage.VERIFY,
            )
        self._require_affordable(document)
        return document, documents

    def configuration(self, manifest: Manifest) -> ImageConfig:
        """Fetch and read the configuration; what it says must fit manifest and machine."""
        kind = member("image.config.media-type", allowed=CONFIG_TYPES, actual=manifest.config.media_type)
        self._require_fit(kind)
        body = fetch_config(self.registry, self.reference, manifest.config, self.checks, self.limits)
        self._require_shallow(body)
        config = ImageConfig.parse(body)
        wanted = str(without_variant(self.platform))
        runs_on = str(without_variant(Platform(config.os, config.architecture)))
        self._require_fit(equal("image.config.platform", expected=wanted, actual=runs_on))
        layers, diff_ids = str(len(manifest.layers)), str(len(config.diff_ids))
        self._require_fit(equal("image.config.diff-ids", expected=layers, actual=diff_ids))
        return config

    def _manifest_body(self, wanted: Digest | None) -> tuple[bytes, Digest]:
        return fetch_manifest(self.registry, self.reference, wanted, self.checks, self.limits)

    def _parsed(self, body: bytes) -> Manifest | Index:
        self._require_shallow(body)
        return parse_manifest_or_index(body)

    def _require_shallow(self, body: bytes) -> None:
        summary, depth = "a document of the image is nested too deeply", strict_json.depth(body)
        self._require_at_most("document-depth", summary, self.limits.document_depth, depth)

    def _require_affordable(self, manifest: Manifest) -> None:
        """Compare what a manifest announces with the limits; what arrives is counted against them too."""
        limits, sizes = self.limits, [layer.size for layer in manifest.layers]
        for rule, summary, limit, actual in (
            ("layers", "the image has more layers than the limit", limits.layers, len(sizes)),
            (
                "layer-bytes",
                "a layer is larger than the limit",
                limits.compressed_layer_bytes,
                max(sizes, default=0),
            ),
            ("image-bytes", "the image is larger than the limit", limits.compressed_image_bytes, sum(sizes)),
        ):
            self._require_at_most(rule, summary, limit, actual)

    def _require_at_most(self, rule: str, summary: str, limit: int, actual: int) -> None:
        rule = f"image.limit.{rule}"
        require_at_most(self.checks, rule, summary, limit=limit, actual=actual, stage=Stage.VERIFY)

    def _require_fit(self, finding: Finding) -> None:
        self.checks.require(
            finding,
            "image-config-mismatch",
            "the image's configuration does not fit its manifest or this platform",
            stage=Stage.VERIFY,
        )


def _layer_type(descriptor: Descriptor, checks: Checks) -> LayerMediaType:
    try:
        return LayerMediaType.parse(descriptor.media_type)
    except ValueError as error:
        raise InvalidInputError(
            "layer-media-type-unknown",
            "a layer is of an unknown kind",
            stage=Stage.VERIFY,
            detail=str(error),
            findings=checks.findings,
        ) from error


def _require_encrypted(layers: tuple[Layer, ...], checks: Checks) -> None:
    """Refuse a plain layer, and an image without layers: nothing in it was encrypted for the owner."""
    plain = [str(layer.descriptor.digest) for layer in layers if not layer.media_type.encrypted]
    encrypted = layers and not plain
    actual = f"plain: {', '.join(plain)}" if plain else f"{len(layers)} encrypted layers"
    finding = Finding(
        "image.encrypted",
        Outcome.PASSED if encrypted else Outcome.FAILED,
        "every layer encrypted, at least one",
        actual,
    )
    checks.require(
        finding, "layer-not-encrypted", "a layer of the image is not encrypted", stage=Stage.VERIFY
    )


def _require_policy(policy: SignaturePolicy | None, checks: Checks) -> SignaturePolicy:
    """Refuse when the owner said nothing about signatures: nothing said means no."""
    if policy is not None:
        return policy
    finding = Finding("image.signature.policy", Outcome.FAILED, "a signature policy in initdata", "none")
    raise RefusedError(
        "image-policy-missing",
        "no signature policy says which images may run",
        stage=Stage.POLICY,
        findings=(*checks.findings, finding),
    )
