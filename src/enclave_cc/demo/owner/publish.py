"""
What the owner does before anything runs: keys, encryption, signatures, push, and what the broker shall know.

Plaintext and keys stay in the owner's directory, which the host's side of the scene never reads.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.secret import Secret
from enclave_cc.demo.owner.policies import (
    NAMESPACE,
    RESOURCE_POLICY,
    SIGNATURE_POLICY,
    SIGNING_KEY,
    WRAPPING_KEY,
    signature_policy,
)
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.node.bundles.reference import reference_value
from enclave_cc.tenant.building.image import build_image
from enclave_cc.tenant.encryption.layouts import encrypt_image
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.push import push_image
from enclave_cc.tenant.signing.sign import generate_signing_key, sign_image
from enclave_cc.transport.registry.client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enclave_cc.demo.images.plan import ImagePlan
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.trustee.admin_client import AdminClient

AGENT_PRODUCT_ID: Final = 1
TAG: Final = "v1"
# Long enough that chance cannot find it elsewhere, short enough to lie inside one block of anything.
_SAMPLE_BYTES: Final = 48


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A cosign key pair in PEM."""

    private_pem: bytes
    public_pem: bytes

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a fresh pair."""
        return cls(*generate_signing_key())


@dataclass(frozen=True, slots=True)
class PublishedImage:
    """An image in the registry: how it is called, the names of its layers, and what nobody may see."""

    reference: str
    layout: ImageLayout
    manifest: Manifest
    layers: tuple[str, ...]
    plaintext: tuple[bytes, ...]


class Tenant:
    """The image owner with keys that live as long as the scene."""

    def __init__(self, directory: Path, registry: str) -> None:
        self.signing_key = SigningKey.generate()
        self.marker = f"enclave-cc demo plaintext {Secret.random(16).reveal().hex()}"
        self._directory = directory
        self._registry = registry
        self._wrapping_key = Secret.random()
        self._public: list[ImageLayout] = []
        self._numbers = itertools.count(1)

    def build(self, name: str, plan: ImagePlan) -> ImageLayout:
        """Build a plain image in the owner's directory."""
        layout = self._layout(f"{name}-plain")
        build_image(layout, plan.layers, plan.process)
        return layout

    def push_plain(self, layout: ImageLayout, repository: str) -> None:
        """Push an image as it is: it holds nothing of anybody."""
        self._public.append(layout)
        self._push(layout, Reference.parse(f"{self._registry}/{repository}"))

    def encrypt(self, plain: ImageLayout, name: str) -> tuple[ImageLayout, Descriptor]:
        """Encrypt all layers of a plain image, each under a fresh key."""
        layout = self._layout(name)
        key = BrokerKey(Secret(bytes(self._wrapping_key.reveal())), WRAPPING_KEY)
        return layout, encrypt_image(plain, layout, [key])

    def publish(
        self, name: str, plain: ImageLayout, *, signed_by: SigningKey | None, repository: str | None = None
    ) -> PublishedImage:
        """Encrypt, sign (unless there is no key) and push."""
        layout, descriptor = self.encrypt(plain, name)
        return self.publish_encrypted(repository or name, layout, descriptor, plain, signed_by=signed_by)

    def publish_encrypted(
        self,
        repository: str,
        layout: ImageLayout,
        descriptor: Descriptor,
        plain: ImageLayout,
        *,
        signed_by: SigningKey | None,
    ) -> PublishedImage:
        """Sign and push what is encrypted already."""
        reference = Reference.parse(f"{self._registry}/{NAMESPACE}/{repository}:{TAG}")
        if signed_by is not None:
            sign_image(layout, descriptor, repository=reference.name, private_key_pem=signed_by.private_pem)
        self._push(layout, reference)
        manifest = read_manifest(layout)
        return PublishedImage(
            reference=str(reference),
            layout=layout,
            manifest=manifest,
            layers=tuple(str(layer.digest) for layer in (*manifest.layers, *read_manifest(plain).layers)),
            plaintext=(self.marker.encode(), *self._secret_samples(plain)),
        )

    def instruct_broker(self, admin: AdminClient) -> None:
        """Put keys and policies into the broker."""
        for uri, value in {
            WRAPPING_KEY: bytes(self._wrapping_key.reveal()),
            SIGNING_KEY: self.signing_key.public_pem,
            SIGNATURE_POLICY: signature_policy(self._registry),
        }.items():
            admin.put_resource(ResourceUri.parse(uri), value)
        admin.set_resource_policy(RESOURCE_POLICY)

    def _layout(self, name: str) -> ImageLayout:
        return ImageLayout.create(self._directory / f"{next(self._numbers):02}-{name}")

    def _secret_samples(self, plain: ImageLayout) -> Iterator[bytes]:
        """List samples of the layers that no public image has too: both may hold the same program."""
        public = [
            layout.open_blob(layer.digest)
            for layout in self._public
            for layer in read_manifest(layout).layers
        ]
        contents = []
        for blob in public:
            with blob:
                contents.append(blob.read())
        for sample in _samples(plain):
            if not any(sample in content for content in contents):
                yield sample

    def _push(self, layout: ImageLayout, reference: Reference) -> None:
        client = RegistryClient(insecure_http=(self._registry,))
        try:
            push_image(layout, reference, client)
        finally:
            client.close()


def register_agent(admin: AdminClient, agent_bundle: Path, initdata: bytes) -> str:
    """Register what an agent with this bundle and initdata measures; return the value."""
    measurement = reference_value(agent_bundle, initdata)
    admin.add_reference_value("sgx_mr_enclave", [measurement])
    admin.add_reference_value("sgx_isv_prod_id", [AGENT_PRODUCT_ID])
    return measurement


def read_manifest(layout: ImageLayout) -> Manifest:
    """Return the manifest of a layout with one image."""
    document = layout.read_manifest(layout.find())
    if not isinstance(document, Manifest):
        raise TypeError("the demo builds no indexes")
    return document


def _samples(plain: ImageLayout) -> Iterator[bytes]:
    """Take a piece from the middle of each compressed layer: it would betray a layer stored as it was."""
    for layer in read_manifest(plain).layers:
        with plain.open_blob(layer.digest) as blob:
            blob.seek(max(0, layer.size // 2 - _SAMPLE_BYTES))
            sample = blob.read(_SAMPLE_BYTES)
        if len(set(sample)) > _SAMPLE_BYTES // 2:
            yield sample
