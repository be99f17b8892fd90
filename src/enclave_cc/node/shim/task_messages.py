"""
The Task API, v2 and v3 (they differ in the package name only), with its options and events.

Sources: containerd ``api/runtime/task/v2/shim.proto``, ``api/events/*.proto`` and
``runtime/v2/runc/options/oci.proto``.
"""

from __future__ import annotations

from enclave_cc.formats.messages.service import Method, Service
from enclave_cc.formats.protobuf import (
    ANY,
    BOOL,
    EMPTY,
    STRING,
    TIMESTAMP,
    UINT,
    Schema,
    mapping,
    repeated,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

CREATED: Final = 1
RUNNING: Final = 2
STOPPED: Final = 3
PAUSED: Final = 4


def _schema(name: str, *fields: tuple[str, Any]) -> Schema:
    """Make a schema with fields numbered from one, as most of these messages are."""
    return Schema(name, dict(enumerate(fields, 1)))


MOUNT: Final = _schema(
    "Mount", ("type", STRING), ("source", STRING), ("target", STRING), ("options", repeated(STRING))
)
_STDIO: Final = (("terminal", BOOL), ("stdin", STRING), ("stdout", STRING), ("stderr", STRING))
_ID: Final = ("id", STRING)
_EXEC_ID: Final = ("exec_id", STRING)
_PROCESS: Final = _schema("ProcessRequest", _ID, _EXEC_ID)
_CONTAINER: Final = _schema("ContainerRequest", _ID)
_EXIT: Final = (("exit_status", UINT), ("exited_at", TIMESTAMP))
_PROCESS_INFO: Final = _schema("ProcessInfo", ("pid", UINT), ("info", ANY))
_PID: Final = _schema("PidResponse", ("pid", UINT))
DELETE_RESPONSE: Final = _schema("DeleteResponse", ("pid", UINT), *_EXIT)

_METHODS: Final = {
    "State": Method(
        _PROCESS,
        _schema(
            "StateResponse",
            _ID,
            ("bundle", STRING),
            ("pid", UINT),
            ("status", UINT),
            ("stdin", STRING),
            ("stdout", STRING),
            ("stderr", STRING),
            ("terminal", BOOL),
            *_EXIT,
            _EXEC_ID,
        ),
    ),
    "Create": Method(
        _schema(
            "CreateTaskRequest",
            _ID,
            ("bundle", STRING),
            ("rootfs", repeated(MOUNT)),
            *_STDIO,
            ("checkpoint", STRING),
            ("parent_checkpoint", STRING),
            ("options", ANY),
        ),
        _PID,
    ),
    "Start": Method(_PROCESS, _PID),
    "Delete": Method(_PROCESS, DELETE_RESPONSE),
    "Pids": Method(_CONTAINER, _schema("PidsResponse", ("processes", repeated(_PROCESS_INFO)))),
    "Pause": Method(_CONTAINER, EMPTY),
    "Resume": Method(_CONTAINER, EMPTY),
    "Checkpoint": Method(_schema("CheckpointTaskRequest", _ID, ("path", STRING), ("options", ANY)), EMPTY),
    "Kill": Method(_schema("KillRequest", _ID, _EXEC_ID, ("signal", UINT), ("all", BOOL)), EMPTY),
    "Exec": Method(_schema("ExecProcessRequest", _ID, _EXEC_ID, *_STDIO, ("spec", ANY)), EMPTY),
    "ResizePty": Method(_schema("ResizePtyRequest", _ID, _EXEC_ID, ("width", UINT), ("height", UINT)), EMPTY),
    "CloseIO": Method(_schema("CloseIORequest", _ID, _EXEC_ID, ("stdin", BOOL)), EMPTY),
    "Update": Method(
        _schema("UpdateTaskRequest", _ID, ("resources", ANY), ("annotations", mapping())), EMPTY
    ),
    "Wait": Method(_PROCESS, _schema("WaitResponse", *_EXIT)),
    "Stats": Method(_CONTAINER, _schema("StatsResponse", ("stats", ANY))),
    "Connect": Method(
        _CONTAINER, _schema("ConnectResponse", ("shim_pid", UINT), ("task_pid", UINT), ("version", STRING))
    ),
    "Shutdown": Method(_schema("ShutdownRequest", _ID, ("now", BOOL)), EMPTY),
}
TASK_V2: Final = Service("containerd.task.v2.Task", _METHODS)
TASK_V3: Final = Service("containerd.task.v3.Task", _METHODS)

RUNC_OPTIONS_SUFFIX: Final = "runc.v1.Options"
RUNC_OPTIONS: Final = Schema(
    "RuncOptions", {1: ("no_pivot_root", BOOL), 2: ("no_new_keyring", BOOL), 9: ("systemd_cgroup", BOOL)}
)
PROCESS_DETAILS_URL: Final = "containerd.runc.v1.ProcessDetails"
PROCESS_DETAILS: Final = _schema("ProcessDetails", _EXEC_ID)

_CONTAINER_ID: Final = ("container_id", STRING)
_TASK_IO: Final = _schema(
    "TaskIO", ("stdin", STRING), ("stdout", STRING), ("stderr", STRING), ("terminal", BOOL)
)


class Event:
    """A topic and the message that goes with it."""

    __slots__ = ("schema", "topic", "type_url")

    def __init__(self, topic: str, name: str, *fields: tuple[str, Any]) -> None:
        self.topic = topic
        self.type_url = f"containerd.events.{name}"
        self.schema = _schema(name, *fields)


TASK_CREATE: Final = Event(
    "/tasks/create",
    "TaskCreate",
    _CONTAINER_ID,
    ("bundle", STRING),
    ("rootfs", repeated(MOUNT)),
    ("io", _TASK_IO),
    ("checkpoint", STRING),
    ("pid", UINT),
)
TASK_START: Final = Event("/tasks/start", "TaskStart", _CONTAINER_ID, ("pid", UINT))
TASK_EXIT: Final = Event("/tasks/exit", "TaskExit", _CONTAINER_ID, _ID, ("pid", UINT), *_EXIT)
TASK_DELETE: Final = Event("/tasks/delete", "TaskDelete", _CONTAINER_ID, ("pid", UINT), *_EXIT, _ID)
TASK_OOM: Final = Event("/tasks/oom", "TaskOOM", _CONTAINER_ID)
TASK_EXEC_ADDED: Final = Event("/tasks/exec-added", "TaskExecAdded", _CONTAINER_ID, _EXEC_ID)
TASK_EXEC_STARTED: Final = Event(
    "/tasks/exec-started", "TaskExecStarted", _CONTAINER_ID, _EXEC_ID, ("pid", UINT)
)
TASK_PAUSED: Final = Event("/tasks/paused", "TaskPaused", _CONTAINER_ID)
TASK_RESUMED: Final = Event("/tasks/resumed", "TaskResumed", _CONTAINER_ID)

_ENVELOPE: Final = Schema(
    "Envelope",
    {1: ("timestamp", TIMESTAMP), 2: ("namespace", STRING), 3: ("topic", STRING), 4: ("event", ANY)},
)
EVENTS: Final = Service(
    "containerd.services.events.ttrpc.v1.Events",
    {"Forward": Method(_schema("ForwardRequest", ("envelope", _ENVELOPE)), EMPTY)},
)

_RUNTIME_VERSION: Final = _schema("RuntimeVersion", ("version", STRING), ("revision", STRING))
RUNTIME_INFO: Final = _schema("RuntimeInfo", ("name", STRING), ("version", _RUNTIME_VERSION))

_NANO: Final = 1_000_000_000
# Go's zero time, which containerd prints as "not exited".
_NEVER_S: Final = -62135596800


def timestamp(time_ns: int) -> dict[str, int]:
    """Write nanoseconds since the epoch as a Timestamp; zero is never."""
    if not time_ns:
        return {"seconds": _NEVER_S, "nanos": 0}
    return {"seconds": time_ns // _NANO, "nanos": time_ns % _NANO}
