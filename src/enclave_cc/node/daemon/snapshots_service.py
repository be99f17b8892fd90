"""The gRPC face of the snapshotter: our own codec on generic handlers, typed statuses, nothing generated."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc

from enclave_cc.formats.protobuf import ProtobufError, decode, encode
from enclave_cc.node.daemon.containerd_messages import SNAPSHOTS
from enclave_cc.node.daemon.snapshot_failure import InvalidArgumentError, SnapshotFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from enclave_cc.formats.messages.service import Method
    from enclave_cc.node.daemon.snapshot_record import SnapshotRecord
    from enclave_cc.node.daemon.snapshotter import Snapshotter

_LOG: Final = logging.getLogger(__name__)
_NANO: Final = 1_000_000_000
_PAGE: Final = 100
# A Prepare may wait for a prefetch, so there are more threads than work for the processor.
_WORKERS: Final = 32
_MAX_MESSAGE_BYTES: Final = 16 << 20
_STOP_GRACE_S: Final = 2.0


class SnapshotsService:
    """Serves one snapshotter on a Unix socket."""

    def __init__(self, snapshotter: Snapshotter, path: Path) -> None:
        self._snapshotter = snapshotter
        self._path = path
        self._server = grpc.server(
            ThreadPoolExecutor(_WORKERS, thread_name_prefix="snapshots"),
            options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)],
        )
        self._server.add_generic_rpc_handlers((self._handler(),))

    def start(self) -> None:
        """Bind the socket, readable by root only, and serve in the background."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
            self._server.start()
        finally:
            os.umask(before)

    def stop(self) -> None:
        """Let calls end for a moment, then stop."""
        self._server.stop(_STOP_GRACE_S).wait()

    def _handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        calls: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            "Prepare": self._prepare,
            "View": self._view,
            "Mounts": lambda request: {"mounts": self._snapshotter.mounts(request["key"])},
            "Commit": self._commit,
            "Remove": self._remove,
            "Stat": lambda request: {"info": _info(self._snapshotter.stat(request["key"]))},
            "Update": self._update,
            "Usage": self._usage,
            "Cleanup": self._cleanup,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(_unary(name, SNAPSHOTS.methods[name], call))
            for name, call in calls.items()
        }
        handlers["List"] = grpc.unary_stream_rpc_method_handler(self._list)
        return grpc.method_handlers_generic_handler(SNAPSHOTS.name, handlers)

    def _prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"mounts": self._snapshotter.prepare(request["key"], request["parent"], request["labels"])}

    def _view(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"mounts": self._snapshotter.view(request["key"], request["parent"], request["labels"])}

    def _commit(self, request: dict[str, Any]) -> None:
        self._snapshotter.commit(request["name"], request["key"], request["labels"])

    def _remove(self, request: dict[str, Any]) -> None:
        self._snapshotter.remove(request["key"])

    def _cleanup(self, _request: dict[str, Any]) -> None:
        self._snapshotter.cleanup()

    def _update(self, request: dict[str, Any]) -> dict[str, Any]:
        info, mask = request["info"], request["update_mask"]
        if info is None:
            raise InvalidArgumentError("the request has no info")
        paths = mask["paths"] if mask else []
        return {"info": _info(self._snapshotter.update(info["name"], info["labels"], paths))}

    def _usage(self, request: dict[str, Any]) -> dict[str, Any]:
        size, files = self._snapshotter.usage(request["key"])
        return {"size": size, "inodes": files}

    def _list(self, data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        method = SNAPSHOTS.methods["List"]
        try:
            decode(method.request, data)
        except ProtobufError as error:
            _abort(context, InvalidArgumentError(str(error)))
        records = self._snapshotter.records()
        for start in range(0, len(records), _PAGE):
            page = [_info(record) for record in records[start : start + _PAGE]]
            yield encode(method.response, {"info": page})


def _unary(
    name: str, method: Method, call: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return encode(method.response, call(decode(method.request, data)) or {})
        except ProtobufError as error:
            _abort(context, InvalidArgumentError(str(error)))
        except SnapshotFailure as failure:
            _abort(context, failure)
        except Exception:  # noqa: BLE001 - a call's outermost boundary; the log gets the cause
            _LOG.exception("snapshot-call-failed", extra={"fields": {"method": name}})
            context.abort(grpc.StatusCode.INTERNAL, "internal error")

    return answer


def _abort(context: grpc.ServicerContext, failure: SnapshotFailure) -> NoReturn:
    context.abort(failure.code, str(failure))


def _info(record: SnapshotRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "parent": record.parent,
        "kind": int(record.kind),
        "created_at": _timestamp(record.created_ns),
        "updated_at": _timestamp(record.updated_ns),
        "labels": record.labels,
    }


def _timestamp(time_ns: int) -> dict[str, int]:
    return {"seconds": time_ns // _NANO, "nanos": time_ns % _NANO}
