"""Who plays in the story: the running scene, its owner with keys and images, the pods' annotation."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from enclave_cc.demo.cri.kubelet import PodPlan
from enclave_cc.demo.images.busybox import pause_image, workload_image
from enclave_cc.demo.images.debian import server_image
from enclave_cc.demo.owner.policies import BrokerAddress, initdata
from enclave_cc.demo.owner.publish import Tenant, register_agent
from enclave_cc.demo.scene.containerd_config import RUNTIME_HANDLER
from enclave_cc.demo.scene.scene import PAUSE_REPOSITORY
from enclave_cc.formats.initdata import ANNOTATION, encode_annotation
from enclave_cc.formats.rootfs_annotations import WRITABLE, WRITABLE_SIZE
from enclave_cc.formats.rootfs_options import Writable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.demo.owner.publish import PublishedImage
    from enclave_cc.demo.scene.scene import Scene
    from enclave_cc.tenant.places.image_layout import ImageLayout

# What the author of the small pod asks for what it writes.
WRITABLE_MIB: Final = 32
WRITABLE_WISHES: Final = MappingProxyType(
    {WRITABLE: str(Writable.SCRATCH), WRITABLE_SIZE: f"{WRITABLE_MIB}Mi"}
)


@dataclass(frozen=True, slots=True)
class PlainImages:
    """What the owner built and nobody else has seen."""

    pause: ImageLayout
    hello: ImageLayout
    server: ImageLayout


@dataclass(frozen=True, slots=True)
class Cast:
    """Everything that the acts of the story share."""

    scene: Scene
    tenant: Tenant
    plain: PlainImages
    hello: PublishedImage
    server: PublishedImage
    initdata: bytes
    measurement: str

    def pod(
        self,
        name: str,
        image: PublishedImage,
        *,
        runtime_handler: str = RUNTIME_HANDLER,
        wishes: Mapping[str, str] = MappingProxyType({}),
    ) -> PodPlan:
        """Plan a pod that carries the owner's initdata, and the wishes of whoever wrote the pod."""
        annotations = {ANNOTATION: encode_annotation(self.initdata), **wishes}
        return PodPlan(name, image.reference, runtime_handler, annotations)

    def variant(self, name: str) -> ImageLayout:
        """Build the small image once more, with another configuration: somebody's to break."""
        plan = workload_image(self.scene.busybox, marker=self.tenant.marker, variant=name)
        return self.tenant.build(name, plan)


def build_images(scene: Scene, tenant: Tenant) -> PlainImages:
    """Build all images in the owner's directory."""
    return PlainImages(
        pause=tenant.build("pause", pause_image(scene.busybox)),
        hello=tenant.build("hello", workload_image(scene.busybox, marker=tenant.marker)),
        server=tenant.build(
            "server",
            server_image(scene.cache / "packages", port=scene.ports.server, marker=tenant.marker),
        ),
    )


def publish(scene: Scene, tenant: Tenant, plain: PlainImages) -> Cast:
    """Encrypt, sign and push; put keys, policies and the agent's reference value into the broker."""
    tenant.push_plain(plain.pause, PAUSE_REPOSITORY)
    hello = tenant.publish("hello", plain.hello, signed_by=tenant.signing_key)
    server = tenant.publish("server", plain.server, signed_by=tenant.signing_key)
    broker = BrokerAddress(
        scene.broker.url, scene.broker.tls_ca.read_text(), scene.broker.token_public_key.read_text()
    )
    text = initdata(broker, registry=scene.registry)
    with scene.admin() as admin:
        tenant.instruct_broker(admin)
        measurement = register_agent(admin, scene.bundles.agent, text)
    return Cast(scene, tenant, plain, hello, server, text, measurement)
