"""
Who may start further processes in a container, and with what around them.

The host chooses the command, where the owner allows exec at all; environment, directory and user are those
of the container itself, because the host's idea of them was never believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.core.verdict import Verdict
from enclave_cc.enclave.agent.launch_policy import TERMINAL
from enclave_cc.formats.oci.edge import foreign, read_object
from enclave_cc.formats.oci.runtime_spec import MAX_SPEC_BYTES, SpecProcess

if TYPE_CHECKING:
    from enclave_cc.enclave.resolved_user import ResolvedUser
    from enclave_cc.formats.launch import LaunchConfiguration


def authorize_exec(process: bytes, launch: LaunchConfiguration, user: ResolvedUser | None) -> bytes:
    """
    Return the process to start; raise ``RefusedError`` (``exec-refused``) where the owner forbids exec.

    ``user`` is None until the container has started.
    """
    wanted = SpecProcess.parse(process)
    findings = (
        Finding(
            "exec.allowed",
            Outcome.PASSED if launch.exec_allowed else Outcome.FAILED,
            "exec = true",
            " ".join(map(repr, wanted.args)),
            "set exec = true in [workload], if the owner agrees",
        ),
    )
    Verdict(findings).require(
        "exec-refused", "the owner's policy forbids exec in this container", stage=Stage.EXEC
    )
    if user is None:
        raise InvalidInputError(
            "container-not-started", "the container has not started yet", stage=Stage.EXEC
        )
    members = _members(process)
    members["env"] = [*launch.env, *([TERMINAL] if wanted.terminal else [])]
    members["cwd"] = launch.cwd
    members["user"] = user.to_json()
    return strict_json.canonical(members)


def _members(process: bytes) -> dict[str, object]:
    """Return the document itself: what is not replaced (capabilities, rlimits, …) stays the host's."""
    with foreign("runtime-spec-invalid", "the process specification is malformed", stage=Stage.EXEC):
        fields = read_object(process, "process", max_bytes=MAX_SPEC_BYTES)
        return {name: fields.raw(name) for name in fields.names()}
