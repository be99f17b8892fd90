"""One call to another process of the node, on a connection of its own, with failures told in our words."""

from __future__ import annotations

from enclave_cc.node.shim.failures import Failure, Reason, refusal, relayed
from enclave_cc.node.shim.reactor import DeadlineExceeded
from enclave_cc.node.shim.rpc_client import RpcClient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from enclave_cc.formats.messages.service import Service
    from enclave_cc.node.shim.reactor import Reactor


async def call_once(
    reactor: Reactor,
    path: str,
    service: Service,
    method: str,
    request: dict[str, Any],
    *,
    timeout_s: float,
    otherwise: Reason,
    request_id: str,
) -> dict[str, Any]:
    """Connect, call, hang up; raise ``Failure`` with the peer's reason, ``otherwise`` when it gave none."""
    try:
        client = RpcClient(reactor, path)
    except OSError as error:
        raise refusal(otherwise, request_id) from error
    try:
        return await client.call(service, method, request, timeout_s)
    except Failure as failure:
        raise relayed(failure, request_id, otherwise) from failure
    except DeadlineExceeded as error:
        raise refusal(otherwise, request_id) from error
    finally:
        client.close()
