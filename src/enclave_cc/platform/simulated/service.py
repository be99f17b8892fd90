"""The platform's ttrpc service. Who calls is what the kernel says about the connection, never a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.sgx.keys import KeyRequest
from enclave_cc.formats.sgx.report import REPORT_DATA_BYTES, TargetInfo
from enclave_cc.formats.sgx.structure import InvalidStructureError, require_length
from enclave_cc.platform.simulated.enclaves import refused_launch
from enclave_cc.platform.simulated.launch import LaunchRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.platform.simulated.enclaves import Enclave
    from enclave_cc.platform.simulated.platform import SimulatedPlatform
    from enclave_cc.transport.ttrpc_server import CallContext

    Handler = Callable[[dict[str, Any], CallContext], dict[str, Any]]

T = TypeVar("T")
_SUPERUSER: Final = 0


class PlatformService:
    """Handlers of `PLATFORM_SERVICE`."""

    def __init__(self, platform: SimulatedPlatform, *, launching_uid: int = _SUPERUSER) -> None:
        """`launching_uid` may launch; tests without root pass their own."""
        self._platform = platform
        self._launching_uid = launching_uid

    def handlers(self) -> dict[str, Handler]:
        """All methods by name."""
        return {
            "Launch": self._launch,
            "Identity": self._identity,
            "Report": self._report,
            "GetKey": self._get_key,
            "Quote": self._quote,
            "Collateral": self._collateral,
        }

    def _launch(self, request: dict[str, Any], context: CallContext) -> dict[str, Any]:
        if context.peer_uid != self._launching_uid:
            raise refused_launch("only the superuser may launch")
        if request["pid"] == context.peer_pid:
            raise refused_launch("a process cannot launch itself")
        launch = LaunchRequest(request["pid"], request["bundle"], request["initdata"], request["config_id"])
        return {"mr_enclave": self._platform.launcher.launch(launch).mr_enclave}

    def _identity(self, request: dict[str, Any], context: CallContext) -> dict[str, Any]:
        del request
        enclave = self._caller(context)
        return {"body": enclave.identity.pack(), "initdata_digest": enclave.initdata_digest}

    def _report(self, request: dict[str, Any], context: CallContext) -> dict[str, Any]:
        enclave = self._caller(context)
        target = _parse(TargetInfo.parse, request["target_info"])
        data = _report_data(request)
        return {"report": self._platform.cpu.report(enclave.identity, target, data).pack()}

    def _get_key(self, request: dict[str, Any], context: CallContext) -> dict[str, Any]:
        enclave = self._caller(context)
        key_request = _parse(KeyRequest.parse, request["key_request"])
        return {"key": self._platform.cpu.get_key(enclave.identity, key_request)}

    def _quote(self, request: dict[str, Any], context: CallContext) -> dict[str, Any]:
        enclave = self._caller(context)
        return {"quote": self._platform.quote(enclave.identity, _report_data(request))}

    def _collateral(self, request: dict[str, Any], context: CallContext) -> dict[str, Any]:
        del request, context
        platform = self._platform
        return {"collateral": platform.collateral().to_json(), "root": platform.root_der}

    def _caller(self, context: CallContext) -> Enclave:
        return self._platform.enclaves.of_connection(context.socket, context.peer_pid)


def _report_data(request: dict[str, Any]) -> bytes:
    def whole(data: bytes) -> bytes:
        require_length(data, REPORT_DATA_BYTES, "report_data")
        return data

    return _parse(whole, request["report_data"])


def _parse(parse: Callable[[bytes], T], data: bytes) -> T:
    try:
        return parse(data)
    except InvalidStructureError as error:
        raise InvalidInputError(
            "invalid-request",
            "a platform request is malformed",
            stage=Stage.PLATFORM,
            detail=str(error),
        ) from error
