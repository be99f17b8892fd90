"""
Compose the agent from its parts: the one place that knows which implementation stands behind each port.

Nothing is decided here; whoever reads this learns what the agent consists of.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.enclave.agent.agent_service import AgentService
from enclave_cc.enclave.agent.attestation_service import AttestationService
from enclave_cc.enclave.agent.broker import AttestedSession, NoBroker
from enclave_cc.enclave.agent.identity import app_measurement, read_pod_uid
from enclave_cc.enclave.agent.image_service import ImageService
from enclave_cc.enclave.agent.pipeline import ImagePipeline, PodContext
from enclave_cc.enclave.agent.prepare import Preparations
from enclave_cc.enclave.agent.registries import RegistryOpener
from enclave_cc.enclave.agent.release import PendingReleases
from enclave_cc.enclave.agent.reporting import Reporter
from enclave_cc.enclave.agent.started import StartedContainers
from enclave_cc.enclave.attester.sgx import SgxAttester
from enclave_cc.enclave.measured_initdata import read_initdata
from enclave_cc.formats.messages.agent import AGENT_SERVICE, IMAGE_SERVICE, LOCAL_ATTESTATION_SERVICE
from enclave_cc.transport.kbs import KbsClient
from enclave_cc.transport.ttrpc_server import TtrpcServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.enclave.agent.broker import BrokerSession
    from enclave_cc.enclave.agent.event_log import EventLog
    from enclave_cc.enclave.agent.identity import AgentPaths
    from enclave_cc.formats.initdata import InitData
    from enclave_cc.platform.port import Processor

# Each container keeps one connection for its reports; the shim and handshakes come on top.
_MAX_CONNECTIONS: Final = 256


@dataclass(frozen=True, slots=True)
class Agent:
    """The composed agent."""

    server: TtrpcServer
    preparations: Preparations

    def stop(self) -> None:
        """Hang up on everybody, then end the preparations that are under way."""
        self.server.stop()
        self.preparations.close()


def compose(paths: AgentPaths, processor: Processor, log: EventLog) -> Agent:
    """Return the agent, ready to start; raise the error family when it must not serve."""
    initdata = read_initdata(paths.run / "initdata.toml", processor.measured_initdata())
    pod_uid = read_pod_uid(paths.run / "pod.json")
    settings = initdata.settings
    open_session = session_opener(initdata, processor)
    reporter = Reporter(open_session, log)
    releases = PendingReleases(clock=time.monotonic)
    started = StartedContainers()
    pipeline = ImagePipeline(
        PodContext(pod_uid, settings, paths.sealed, paths.blobs),
        open_session=open_session,
        open_registry=RegistryOpener(settings),
        releases=releases,
        reporter=reporter,
        log=log,
    )
    preparations = Preparations(pipeline, forget=pipeline.forget)
    agent = AgentService(preparations, started, reporter, pod_uid=pod_uid, tee=str(processor.tee))
    attestation = AttestationService(
        processor,
        releases,
        started,
        reporter,
        log,
        pod_uid=pod_uid,
        app_measurement=app_measurement(paths.boot_identity, initdata),
        clock=time.monotonic,
    )
    log.event(
        "composed",
        tee=str(processor.tee),
        broker=bool(settings.broker_url),
        weak=" ".join(settings.weaknesses()),
    )
    return Agent(_server(paths, agent, ImageService(preparations), attestation), preparations)


def session_opener(initdata: InitData, processor: Processor) -> Callable[[str], BrokerSession]:
    """Return what opens an attested session for a request id."""
    settings = initdata.settings
    attester = SgxAttester(processor)

    def open_session(request_id: str) -> BrokerSession:
        if settings.broker_url is None:
            return NoBroker()
        connection = KbsClient(
            settings.broker_url,
            tee=str(processor.tee),
            evidence=attester.evidence,
            ca_pem=settings.broker_tls_ca,
            token_key=settings.broker_token_key,
            initdata=initdata.text.decode("utf-8"),
            request_id=request_id,
            insecure_http=settings.insecure_broker_http,
        )
        return AttestedSession(connection, request_id)

    return open_session


def _server(
    paths: AgentPaths, agent: AgentService, image: ImageService, attestation: AttestationService
) -> TtrpcServer:
    server = TtrpcServer(str(paths.run / "agent.sock"), max_connections=_MAX_CONNECTIONS)
    server.add(
        AGENT_SERVICE,
        {
            "Prepare": agent.prepare,
            "AuthorizeExec": agent.authorize_exec,
            "Discard": agent.discard,
            "Status": agent.status,
        },
    )
    server.add(IMAGE_SERVICE, {"PullImage": image.pull_image})
    server.add(
        LOCAL_ATTESTATION_SERVICE,
        {"Hello": attestation.hello, "Prove": attestation.prove, "Report": attestation.report},
    )
    return server
