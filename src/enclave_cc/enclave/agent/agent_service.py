"""The agent's service towards the shim: prepare, authorize exec, discard, status.

Everything that arrives here was written by the host. Refusals that happen before the pipeline has a session
are reported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.core.request_id import parse_request_id
from enclave_cc.enclave.agent.exec_policy import authorize_exec
from enclave_cc.enclave.agent.prepare import PrepareRequest

if TYPE_CHECKING:
    from enclave_cc.enclave.agent.prepare import Preparations
    from enclave_cc.enclave.agent.reporting import Reporter
    from enclave_cc.enclave.agent.started import StartedContainers
    from enclave_cc.transport.ttrpc_server import CallContext


class AgentService:
    """Handlers of ``enclavecc.agent.v1.Agent``."""

    def __init__(
        self,
        preparations: Preparations,
        started: StartedContainers,
        reporter: Reporter,
        *,
        pod_uid: str,
        tee: str,
    ) -> None:
        self._preparations = preparations
        self._started = started
        self._reporter = reporter
        self._pod_uid = pod_uid
        self._tee = tee

    def prepare(self, request: dict[str, Any], _: CallContext) -> dict[str, Any]:
        """Prepare a container's root file system; repetitions join."""
        wanted = PrepareRequest(
            container_id=request["container_id"],
            image=request["image"],
            manifest_digest=request["manifest_digest"],
            spec=request["spec"],
            request_id=parse_request_id(request["request_id"]),
        )
        try:
            result = self._preparations.join(wanted)
        except EnclaveCcError as error:
            self._reporter.refused(wanted.request_id, error)
            raise
        prepared = result.result()
        return {
            "image_digest": prepared.image_digest,
            "sealed_image": prepared.sealed_image,
            "key_id": prepared.key_id,
        }

    def authorize_exec(self, request: dict[str, Any], _: CallContext) -> dict[str, Any]:
        """Approve one further process in a started container."""
        request_id, container_id = parse_request_id(request["request_id"]), request["container_id"]
        launch = self._preparations.launch_of(container_id)
        try:
            process = authorize_exec(request["process"], launch, self._started.user_of(container_id))
        except EnclaveCcError as error:
            self._reporter.refused(request_id, error)
            raise
        return {"process": process}

    def discard(self, request: dict[str, Any], _: CallContext) -> dict[str, Any]:
        """Forget a container; unknown ones are no error."""
        self._preparations.discard(request["container_id"])
        self._started.forget(request["container_id"])
        return {}

    def status(self, _: dict[str, Any], __: CallContext) -> dict[str, Any]:
        """Say who is here, how far the preparations under way are, and how the others' roots are served."""
        return {
            "state": "serving",
            "pod_uid": self._pod_uid,
            "tee": self._tee,
            "preparations": [
                {
                    "container_id": container_id,
                    "stage": str(seen.stage),
                    "layers": seen.layers,
                    "finished_layers": seen.finished_layers,
                    "arrived_bytes": seen.arrived_bytes,
                    "total_bytes": seen.total_bytes,
                    "reused_layers": seen.reused_layers,
                }
                for container_id, seen in self._preparations.under_way().items()
            ],
            "containers": [
                {
                    "container_id": container_id,
                    "rootfs_writable": str(launch.rootfs.writable),
                    "rootfs_writable_bytes": launch.rootfs.writable_bytes,
                    "rootfs_decrypt_to_memory": launch.rootfs.decrypt_to_memory,
                }
                for container_id, launch in self._preparations.launches().items()
            ],
        }
