"""
From the released key to a created container: mount, resolve the user, write the specification, call runc.

What is set up here is taken down by the caller's exit stack, in the opposite order, whatever went wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.enclave.app_report import LaunchReport
from enclave_cc.enclave.boot.container import Container
from enclave_cc.enclave.boot.spec import approved_spec
from enclave_cc.enclave.boot.users import resolve_user
from enclave_cc.formats.launch import LaunchConfiguration
from enclave_cc.formats.oci.runtime_spec import MAX_SPEC_BYTES
from enclave_cc.formats.sealed.manifest import Binding

if TYPE_CHECKING:
    from contextlib import ExitStack

    from enclave_cc.enclave.boot.attest import AgentLink
    from enclave_cc.enclave.boot.control import BootOrder
    from enclave_cc.enclave.rootfs.server.client import RootfsServer


def launch(
    order: BootOrder, link: AgentLink, server: RootfsServer, cleanup: ExitStack
) -> tuple[Container, int]:
    """Return the created container and its pid; raise the error family."""
    configuration = LaunchConfiguration.parse(link.release.launch)
    try:
        server.open(
            order.sealed_image,
            fdk=link.release.fdk,
            manifest_sha256=link.release.manifest_sha256,
            binding=Binding(order.pod_uid, order.container_id, configuration.image_digest),
            mountpoint=order.rootfs,
            work=order.work,
            options=configuration.rootfs,
        )
    finally:
        link.release.fdk.wipe()
    user = resolve_user(order.rootfs, configuration.user)
    spec = approved_spec(_host_spec(order), configuration, user, rootfs=str(order.rootfs))
    container = Container(order)
    cleanup.callback(container.delete)
    pid = container.create(spec)
    link.launched(LaunchReport(user))
    return container, pid


def _host_spec(order: BootOrder) -> bytes:
    try:
        with (order.bundle / "config.json").open("rb") as file:
            return file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(
            "runtime-spec-invalid",
            "the runtime specification cannot be read",
            stage=Stage.LAUNCH,
            detail=str(error),
        ) from error
