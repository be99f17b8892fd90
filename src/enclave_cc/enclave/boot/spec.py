"""
The specification that runc gets: the host's, with everything in it replaced that the agent decided.

Capabilities, cgroups, namespaces and seccomp stay the host's: they confine the workload from outside, and
only the host could enforce them anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.errors import Stage
from enclave_cc.core.fields import Fields
from enclave_cc.formats.launch import ApprovedMount
from enclave_cc.formats.oci.edge import foreign, read_object
from enclave_cc.formats.oci.runtime_spec import MAX_SPEC_BYTES, SpecMount

if TYPE_CHECKING:
    from enclave_cc.enclave.resolved_user import ResolvedUser
    from enclave_cc.formats.launch import LaunchConfiguration


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
    approved = set(launch.mounts)
    kept: list[object] = []
    for index, value in enumerate(fields.array("mounts")):
        mount = SpecMount.read(Fields(value, f"spec.mounts[{index}]"))
        if ApprovedMount(mount.destination, mount.kind) in approved:
            kept.append(value)
    return kept
