"""
How failures leave the shim: as ttrpc statuses, and for pods' owners as one exact line.

The shim cannot import the core, so it carries the literal remedies of its own few codes. What
agent, boot program and platform report arrives as code, stage, summary and remedy and is
passed on unchanged.
"""

from __future__ import annotations

from enclave_cc.formats.ttrpc import (
    ALREADY_EXISTS,
    DEADLINE_EXCEEDED,
    FAILED_PRECONDITION,
    NOT_FOUND,
    UNAVAILABLE,
    UNIMPLEMENTED,
    UNKNOWN,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# An event's message in Kubernetes holds 1024 characters; the frame around ours takes some.
_MAX_TEXT_CHARS: Final = 400

ABORTED: Final = 10
CANCELLED: Final = 1

# Codes that containerd would act on instead of reporting: a peer's "not found" is not "no such task".
_STATUSES_WITH_OTHER_MEANING: Final = (0, NOT_FOUND, ALREADY_EXISTS)


class Failure(Exception):  # noqa: N818 - it becomes a status, not a traceback
    """A call's outcome other than success; ``info`` holds ``ErrorInfo``'s members when it is one of ours."""

    def __init__(self, status: int, message: str, info: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.info = info


def not_found(message: str) -> Failure:
    """Say that there is no such container or process."""
    return Failure(NOT_FOUND, message)


def already_exists(message: str) -> Failure:
    """Say that the name is taken."""
    return Failure(ALREADY_EXISTS, message)


def failed_precondition(message: str) -> Failure:
    """Say that the process is in another state."""
    return Failure(FAILED_PRECONDITION, message)


def unimplemented(message: str) -> Failure:
    """Say that this shim does not do that."""
    return Failure(UNIMPLEMENTED, message)


def unknown(message: str) -> Failure:
    """Report what runc said."""
    return Failure(UNKNOWN, message)


class Reason:
    """Code, stage, summary and remedy of something that the shim itself noticed."""

    __slots__ = ("code", "remedy", "stage", "status", "summary")

    def __init__(self, status: int, code: str, stage: str, summary: str, remedy: str) -> None:
        self.status = status
        self.code = code
        self.stage = stage
        self.summary = summary
        self.remedy = remedy


def refusal(reason: Reason, request_id: str) -> Failure:
    """Render the line that reaches the pod's events."""
    code, stage, summary, remedy = (
        _one_line(text) for text in (reason.code, reason.stage, reason.summary, reason.remedy)
    )
    line = f"enclave-cc: {summary} [code={code} stage={stage} request={request_id}]; {remedy}"
    info = {"code": code, "stage": stage, "request_id": request_id, "summary": summary, "remedy": remedy}
    return Failure(reason.status, line, info)


def relayed(failure: Failure, request_id: str, otherwise: Reason) -> Failure:
    """Turn a peer's failure into ours; a peer that gave no reason gets the one at hand."""
    info = failure.info
    if info is None or not info["code"]:
        return refusal(otherwise, request_id)
    status = UNKNOWN if failure.status in _STATUSES_WITH_OTHER_MEANING else failure.status
    return refusal(Reason(status, info["code"], info["stage"], info["summary"], info["remedy"]), request_id)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_TEXT_CHARS]


INITDATA_INVALID: Final = Reason(
    FAILED_PRECONDITION,
    "initdata-invalid",
    "config",
    "the pod's initdata annotation cannot be decoded",
    "write the annotation as docs/reference/initdata.md says: base64 of TOML, gzip allowed, at most 1 MiB",
)
INITDATA_AMBIGUOUS: Final = Reason(
    FAILED_PRECONDITION,
    "initdata-ambiguous",
    "config",
    "the pod carries two different initdata annotations",
    "keep one of the two annotations, enclave-cc.dev/initdata or the CoCo one",
)
POD_NOT_RUNNING: Final = Reason(
    FAILED_PRECONDITION,
    "pod-not-running",
    "launch",
    "the container has no running pod sandbox on this node",
    "use the CRI; if the sandbox died, let the kubelet recreate the pod",
)
NODE_UNAVAILABLE: Final = Reason(
    UNAVAILABLE,
    "node-daemon-unavailable",
    "resolve",
    "the node daemon does not answer",
    "check the enclave-cc node daemon's service and log on this node",
)
AGENT_UNAVAILABLE: Final = Reason(
    UNAVAILABLE,
    "agent-unavailable",
    "launch",
    "the pod's agent enclave does not answer",
    "see agent.log in the pod's run directory on this node, then recreate the pod",
)
AGENT_START_FAILED: Final = Reason(
    FAILED_PRECONDITION,
    "agent-start-failed",
    "launch",
    "the pod's agent enclave could not be started",
    "run `enclave-cc doctor` on this node; the shim's log names the cause",
)
AGENT_BUNDLE_INVALID: Final = Reason(
    FAILED_PRECONDITION,
    "agent-bundle-invalid",
    "launch",
    "the node's agent bundle is missing or incomplete",
    "install the agent bundle again",
)
PLATFORM_UNAVAILABLE: Final = Reason(
    UNAVAILABLE,
    "platform-unavailable",
    "platform",
    "the node's enclave platform does not answer",
    "check the platform daemon's service and log on this node",
)
BOOT_FAILED: Final = Reason(
    UNKNOWN,
    "boot-failed",
    "launch",
    "the container's boot program ended early",
    "see the shim's log on this node; a bug report needs it",
)
CREATE_CANCELLED: Final = Reason(
    CANCELLED,
    "create-cancelled",
    "launch",
    "the container was deleted while it was being created",
    "nothing to do if you removed it; otherwise let the kubelet create it again",
)
CREATE_TIMED_OUT: Final = Reason(
    DEADLINE_EXCEEDED,
    "create-timed-out",
    "launch",
    "the container was not ready before the caller's deadline",
    "let the kubelet try again; for large images raise its runtimeRequestTimeout",
)
"""Both cover the whole of Create; the stage that was under way is in the shim's log."""
CHECKPOINT_REFUSED: Final = Reason(
    UNIMPLEMENTED,
    "checkpoint-refused",
    "run",
    "a checkpoint would write the container's memory to the host",
    "stop the container instead",
)
