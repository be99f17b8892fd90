"""
The app enclave's side of local attestation: prove, receive, and report over the same connection afterwards.

The handshake is ``formats.local_attestation``; this module carries its messages to the agent's socket.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Self

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.enclave.app_report import Violation
from enclave_cc.formats.local_attestation import AppHandshake
from enclave_cc.formats.messages.agent import LOCAL_ATTESTATION_SERVICE
from enclave_cc.transport.ttrpc_client import TtrpcClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.enclave.app_report import LaunchReport
    from enclave_cc.formats.local_attestation import Release
    from enclave_cc.formats.local_attestation.port import Reporter as Processor
    from enclave_cc.formats.sgx.report import ReportBody


class AgentLink:
    """A connection on which this enclave has proved itself; it stays open for reports."""

    def __init__(self, client: TtrpcClient, handshake: AppHandshake, release: Release) -> None:
        self._client = client
        self._handshake = handshake
        self.release = release

    @classmethod
    def connect(
        cls,
        agent_socket: str,
        processor: Processor,
        *,
        pod_uid: str,
        container_id: str,
        verify_token: Callable[[bytes, ReportBody], None],
    ) -> Self:
        """Prove each side to the other and receive the release; raise the error family."""
        client = TtrpcClient(agent_socket)
        try:
            handshake = AppHandshake(processor, pod_uid, container_id, verify_token)
            answer = _call(client, "Hello", handshake.hello())
            answer = _call(client, "Prove", handshake.prove(answer))
            return cls(client, handshake, handshake.open(answer))
        except BaseException:
            # No connection outlives a handshake that failed in any way.
            client.close()
            raise

    def launched(self, report: LaunchReport) -> None:
        """Tell the agent that the container was created; raise the error family."""
        self._report(report.to_bytes())

    def refused(self, error: EnclaveCcError) -> None:
        """Tell the owner, through the agent, what was refused; an agent that is gone cannot be told."""
        with contextlib.suppress(EnclaveCcError):
            self._report(Violation.of(error).to_bytes())

    def close(self) -> None:
        """Hang up and forget the key."""
        self.release.fdk.wipe()
        self._client.close()

    def _report(self, payload: bytes) -> None:
        self._client.call(LOCAL_ATTESTATION_SERVICE, "Report", {"message": self._handshake.report(payload)})


def _call(client: TtrpcClient, method: str, message: bytes) -> bytes:
    answer: bytes = client.call(LOCAL_ATTESTATION_SERVICE, method, {"message": message})["message"]
    return answer
