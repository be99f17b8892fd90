"""Documents from a registry, bounded and compared with the digest they were asked for by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import Stage
from enclave_cc.core.findings import equal
from enclave_cc.image.limits import at_most
from enclave_cc.image.ports import FallibleRegistry

if TYPE_CHECKING:
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.checks import Checks
    from enclave_cc.image.limits import Limits
    from enclave_cc.image.ports import Registry


def fetch_manifest(
    registry: Registry, reference: Reference, wanted: Digest | None, checks: Checks, limits: Limits
) -> tuple[bytes, Digest]:
    """Fetch by digest, or by the reference's tag where no digest is known; return the body and its digest."""
    target = reference.target if wanted is None else str(wanted)
    body = registry.manifest(reference, digest_or_tag=target).body
    checks.require(
        at_most("image.limit.manifest-bytes", limit=limits.manifest_bytes, actual=len(body)),
        "image-limit-exceeded",
        "the image manifest is larger than the limit",
        stage=Stage.FETCH,
    )
    actual = Digest.of(body, "sha256" if wanted is None else wanted.algorithm)
    if wanted is not None:
        checks.require(
            equal("image.manifest.digest", expected=str(wanted), actual=str(actual)),
            "manifest-digest-mismatch",
            "the registry serves another manifest than the one named",
            stage=Stage.VERIFY,
        )
    return body, actual


def fetch_config(
    registry: Registry, reference: Reference, descriptor: Descriptor, checks: Checks, limits: Limits
) -> bytes:
    """Fetch the image configuration that a manifest names."""
    checks.require(
        at_most("image.limit.config-bytes", limit=limits.config_bytes, actual=descriptor.size),
        "image-limit-exceeded",
        "the image configuration is larger than the limit",
        stage=Stage.FETCH,
    )
    body = read_blob(registry, reference, descriptor)
    actual = Digest.of(body, descriptor.digest.algorithm)
    while actual != descriptor.digest and _ask_elsewhere(registry, descriptor):
        body = read_blob(registry, reference, descriptor)
        actual = Digest.of(body, descriptor.digest.algorithm)
    checks.require(
        equal("image.config.digest", expected=str(descriptor.digest), actual=str(actual)),
        "config-digest-mismatch",
        "the registry serves another configuration than the manifest names",
        stage=Stage.VERIFY,
    )
    return body


def _ask_elsewhere(registry: Registry, descriptor: Descriptor) -> bool:
    # Whoever lied is not asked again, so that this ends.
    return isinstance(registry, FallibleRegistry) and registry.reject(str(descriptor.digest))


def read_blob(registry: Registry, reference: Reference, descriptor: Descriptor) -> bytes:
    """Read a small blob, at most one byte more than announced; the caller compares its digest."""
    body = bytearray()
    for chunk in registry.blob(reference, str(descriptor.digest)):
        body += chunk[: descriptor.size + 1 - len(body)]
        if len(body) > descriptor.size:
            break
    return bytes(body)
