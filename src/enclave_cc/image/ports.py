"""What pulling an image needs from outside: bytes nobody vouches for, and resources of the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.checks import Checks
    from enclave_cc.image.keys.layer_key import LayerKey
    from enclave_cc.transport.registry.client import FetchedManifest


class Resources(Protocol):
    """The broker, as far as an attested session reaches."""

    def get(self, uri: str) -> bytes:
        """Return the resource ``kbs:///repository/type/tag``; raises the error family."""


class LayerKeys(Protocol):
    """Whatever can open wrapped layer keys."""

    def unwrap(self, descriptor: Descriptor, checks: Checks) -> LayerKey:
        """Return the key of an encrypted layer; every attempt leaves a finding; raises the error family."""


class Registry(Protocol):
    """A registry, as far as manifests, configurations and signatures are concerned."""

    def manifest(self, reference: Reference, *, digest_or_tag: str) -> FetchedManifest:
        """Return a manifest's bytes, unchecked."""

    def blob(self, reference: Reference, descriptor_digest: str, *, offset: int = 0) -> Iterator[bytes]:
        """Stream a blob's bytes, unchecked."""

    def referrers(self, reference: Reference, *, digest: str) -> FetchedManifest:
        """
        Return the index of what refers to a manifest, unchecked.

        It is the referrers API's answer, else the manifest under the tag that stands in for it
        (``sha256-<hex>``); an empty index if there is neither.
        """


class SignatureStore(Protocol):
    """Where simple signatures lie beside a registry."""

    def signatures(self, reference: Reference, digest: Digest) -> Iterator[bytes]:
        """Yield a bounded number of signatures of a manifest, unchecked; raises the error family."""


class BlobSource(Protocol):
    """Where layer bytes come from, unchecked."""

    def open(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob's bytes."""


@runtime_checkable
class FallibleRegistry(Protocol):
    """A registry that has mirrors to blame."""

    def reject(self, descriptor_digest: str) -> bool:
        """Hear that a blob was wrong; tell whether asking again may give another one."""


@runtime_checkable
class FallibleBlobSource(Protocol):
    """A source that has a second place to ask when the first one lied."""

    def reject(self, descriptor: Descriptor) -> bool:
        """Hear that the bytes were wrong; tell whether asking again may give others."""
