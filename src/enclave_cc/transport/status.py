"""Our errors as ttrpc statuses and back: class, code, stage and request id survive, values never travel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from enclave_cc.core.errors import (
    EnclaveCcError,
    InternalError,
    InvalidInputError,
    RefusedError,
    Stage,
    UnavailableError,
)
from enclave_cc.formats import ttrpc
from enclave_cc.formats.protobuf import ProtobufError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

_TO_STATUS: Final[Mapping[type[EnclaveCcError], int]] = {
    InvalidInputError: ttrpc.INVALID_ARGUMENT,
    RefusedError: ttrpc.PERMISSION_DENIED,
    UnavailableError: ttrpc.UNAVAILABLE,
}
_FROM_STATUS: Final[Mapping[int, type[EnclaveCcError]]] = {
    ttrpc.INVALID_ARGUMENT: InvalidInputError,
    ttrpc.NOT_FOUND: InvalidInputError,
    ttrpc.ALREADY_EXISTS: InvalidInputError,
    ttrpc.FAILED_PRECONDITION: InvalidInputError,
    ttrpc.UNIMPLEMENTED: InvalidInputError,
    ttrpc.PERMISSION_DENIED: RefusedError,
    ttrpc.UNAVAILABLE: UnavailableError,
    ttrpc.RESOURCE_EXHAUSTED: UnavailableError,
    ttrpc.DEADLINE_EXCEEDED: UnavailableError,
}


def status_of(error: EnclaveCcError, request_id: str) -> dict[str, Any]:
    """Write the host's view of an error as a google.rpc.Status with our details."""
    info = {
        "code": error.code,
        "stage": str(error.stage),
        "request_id": request_id,
        "summary": error.summary,
        "remedy": error.remedy,
    }
    details = {"type_url": ttrpc.ERROR_INFO_URL, "value": encode(ttrpc.ERROR_INFO, info)}
    return {
        "code": _TO_STATUS.get(type(error), ttrpc.INTERNAL),
        "message": error.host_line(request_id or "-"),
        "details": [details],
    }


def error_of(status: dict[str, Any]) -> EnclaveCcError:
    """Read a status back; one without our details becomes code ``remote-error``."""
    kind = _FROM_STATUS.get(status["code"], InternalError)
    for detail in status["details"]:
        if detail["type_url"] != ttrpc.ERROR_INFO_URL:
            continue
        try:
            info = decode(ttrpc.ERROR_INFO, detail["value"])
            return kind(info["code"], info["summary"], stage=Stage(info["stage"]), detail=status["message"])
        except (ProtobufError, ValueError):
            break
    return kind(
        "remote-error", "a peer reported an error", stage=Stage.REQUEST, detail=status["message"][:2048]
    )
