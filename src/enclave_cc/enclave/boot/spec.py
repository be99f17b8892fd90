"""
The specification that runc gets: the host's, with everything in it replaced that the agent decided.

Capabilities, cgroups, namespaces and seccomp stay the host's: they confine the workload from outside, and
only the host could enforce them anyway. What would hide or replace files of the image does not stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage
from enclave_cc.core.fields import Fields
from enclave_cc.formats.launch import ApprovedMount
from enclave_cc.formats.oci.edge import foreign, read_object
from enclave_cc.formats.oci.runtime_spec import MAX_SPEC_BYTES, SpecMount, is_plain_path

if TYPE_CHECKING:
    from enclave_cc.enclave.resolved_user import ResolvedUser
    from enclave_cc.formats.launch import LaunchConfiguration

# The kernel's file systems; a mask elsewhere would empty a file of the image.
_MASKABLE: Final = ("/proc/", "/sys/")


def approved_spec(
    host_spec: bytes, launch: LaunchConfiguration, user: ResolvedUser, *, rootfs: str
) -> dict[str, object]:
    """Return the specification as JSON members; raise ``InvalidInputError`` (``runtime-spec-invalid``)."""
    with foreign("runtime-spec-invalid", "the runtime specification is malformed", stage=Stage.LAUNCH):
        fields = read_object(host_spec, "spec", max_bytes=MAX_SPEC_BYTES)
        # Hooks are host programs that would run against the mounted root.
        spec = {name: fields.raw(name) for name in fields.names() if name != "hooks"}
        root = fields.object("root")
        spec["root"] = {"path": rootfs, "readonly": root.boolean("readonly", default=False)}
        spec["process"] = _process(fields.object("process"), launch, user)
        spec["mounts"] = _mounts(fields, launch)
        spec["linux"] = _linux(fields.object("linux"), launch)
        return spec


def _process(fields: Fields, launch: LaunchConfiguration, user: ResolvedUser) -> dict[str, object]:
    process = {name: fields.raw(name) for name in fields.names() if name != "commandLine"}
    identity = user.to_json()
    host_user = fields.object("user")
    if host_user.has("umask"):
        identity["umask"] = host_user.integer("umask")
    process["args"] = list(launch.args)
    process["env"] = list(launch.env)
    process["cwd"] = launch.cwd
    process["user"] = identity
    return process


def _mounts(fields: Fields, launch: LaunchConfiguration) -> list[object]:
    """Keep the mounts that the agent approved; others have appeared since and are dropped."""
    return [
        value
        for index, value in enumerate(fields.array("mounts"))
        if _is_approved(SpecMount.read(Fields(value, f"spec.mounts[{index}]")), launch)
    ]


def _linux(fields: Fields, launch: LaunchConfiguration) -> dict[str, object]:
    """Keep the host's confinement without what lays something over the image."""
    linux = {name: fields.raw(name) for name in fields.names()}
    if fields.has("devices"):
        linux["devices"] = [
            value
            for value in fields.array("devices")
            if _is_approved(SpecMount.read_device(Fields(value, "spec.linux.devices")), launch)
        ]
    if fields.has("maskedPaths"):
        linux["maskedPaths"] = [
            path for path in fields.texts("maskedPaths") if is_plain_path(path) and path.startswith(_MASKABLE)
        ]
    if fields.has("namespaces"):
        linux["namespaces"] = [_namespace(value) for value in fields.array("namespaces")]
    return linux


def _namespace(value: object) -> dict[str, object]:
    """Let the container have mounts of its own: among others' the root's path means something else."""
    fields = Fields(value, "spec.linux.namespaces")
    own = fields.text("type") == "mount"
    return {name: fields.raw(name) for name in fields.names() if not (own and name == "path")}


def _is_approved(mount: SpecMount, launch: LaunchConfiguration) -> bool:
    return ApprovedMount(mount.destination, mount.kind) in launch.mounts
