"""Local attestation as the agent serves it: to this pod's containers, once, over one connection."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace

import pytest
from tests.simulators.sgx_machine import InMemoryProcessor, Machine

from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.agent import attestation_service
from enclave_cc.enclave.agent.attestation_service import AttestationService
from enclave_cc.enclave.agent.event_log import EventLog
from enclave_cc.enclave.agent.release import PendingRelease, PendingReleases
from enclave_cc.enclave.agent.started import StartedContainers
from enclave_cc.enclave.app_report import LaunchReport, Violation
from enclave_cc.enclave.resolved_user import ResolvedUser
from enclave_cc.formats.launch import LaunchConfiguration
from enclave_cc.formats.local_attestation import AppHandshake, app_config_id, initdata_config_id
from enclave_cc.formats.sgx import ReportBody
from enclave_cc.formats.sgx.report import Attribute

MACHINE = Machine()
FLAGS = Attribute.INIT | Attribute.MODE64 | Attribute.KSS | Attribute.DEBUG
INITDATA = b"i" * 32
AGENT = ReportBody(flags=FLAGS, mr_enclave=b"G" * 32, isv_prod_id=1, config_id=initdata_config_id(INITDATA))
APP = ReportBody(flags=FLAGS, mr_enclave=b"P" * 32, isv_prod_id=2, config_id=app_config_id("pod", "c1"))
LAUNCH = LaunchConfiguration(("/bin/x",), (), "/", "", "sha256:aa")


@dataclass
class Context:
    connection: int = 1
    closed: bool = False
    on_close: list = field(default_factory=list)

    def when_closed(self, callback):
        if self.closed:
            callback()
        else:
            self.on_close.append(callback)


class Reports:
    def __init__(self):
        self.refusals = []

    def refused(self, request_id, error, session=None):
        self.refusals.append((request_id, error))


class Agent:
    """The service with its collaborators."""

    def __init__(self):
        self.now = 100.0
        self.releases = PendingReleases(clock=lambda: self.now)
        self.started = StartedContainers()
        self.reports = Reports()
        self.service = AttestationService(
            InMemoryProcessor(MACHINE, AGENT, INITDATA),
            self.releases,
            self.started,
            self.reports,
            EventLog(io.StringIO(), clock=lambda: 0.0),
            pod_uid="pod",
            app_measurement=APP.mr_enclave,
            clock=lambda: self.now,
        )
        self.keep("c1")

    def keep(self, container):
        fdk = Secret(b"k" * 32)
        self.releases.keep(PendingRelease(container, "request", "key", fdk, b"m" * 32, LAUNCH, "token"))
        return fdk

    def hello(self, app, context):
        return self.service.hello({"message": app.hello()}, context)["message"]

    def prove(self, message, context):
        return self.service.prove({"message": message}, context)["message"]

    def report(self, message, context):
        return self.service.report({"message": message}, context)

    def whole(self, app, context):
        release = app.open(self.prove(app.prove(self.hello(app, context)), context))
        return app, release


@pytest.fixture
def agent():
    return Agent()


def app_side(identity=APP, pod="pod", container="c1"):
    tokens = []
    app = AppHandshake(
        InMemoryProcessor(MACHINE, identity, INITDATA), pod, container, lambda token, _: tokens.append(token)
    )
    app.tokens = tokens
    return app


def test_the_containers_app_enclave_gets_key_digest_and_launch(agent):
    app, release = agent.whole(app_side(), Context())
    assert bytes(release.fdk.reveal()) == b"k" * 32
    assert release.manifest_sha256 == b"m" * 32
    assert LaunchConfiguration.parse(release.launch) == LAUNCH
    assert app.tokens == [b"token"]
    assert agent.reports.refusals == []


def test_the_agent_wipes_the_key_that_left(agent):
    fdk = agent.keep("c1")
    agent.whole(app_side(), Context())
    assert len(fdk) == 0


def test_the_key_leaves_once(agent):
    agent.whole(app_side(), Context())
    with pytest.raises(RefusedError):
        agent.hello(app_side(), Context(2))


@pytest.mark.parametrize(("pod", "container"), [("other", "c1"), ("pod", "c2")])
def test_another_pod_or_container_is_refused_at_the_door(agent, pod, container):
    with pytest.raises(RefusedError) as caught:
        agent.hello(app_side(pod=pod, container=container), Context())
    assert caught.value.code == "app-identity-refused"
    assert agent.releases.waits("c1")


@pytest.mark.parametrize(
    "identity",
    [
        replace(APP, mr_enclave=b"X" * 32),
        replace(APP, isv_prod_id=1),
        replace(APP, config_id=app_config_id("pod", "c2")),
    ],
    ids=["measurement", "product", "config-id"],
)
def test_an_app_enclave_of_another_identity_gets_no_key_and_the_owner_hears_of_it(agent, identity):
    app, context = app_side(identity), Context()
    proof = app.prove(agent.hello(app, context))
    with pytest.raises(RefusedError) as caught:
        agent.prove(proof, context)
    assert caught.value.code == "app-identity-refused"
    assert agent.releases.waits("c1")
    ((request_id, error),) = agent.reports.refusals
    assert request_id == "request"
    assert error.findings


def test_a_key_that_expired_between_hello_and_proof_does_not_leave(agent):
    app, context = app_side(), Context()
    proof = app.prove(agent.hello(app, context))
    agent.releases.discard("c1")
    with pytest.raises(RefusedError) as caught:
        agent.prove(proof, context)
    assert caught.value.code == "key-release-refused"


def test_a_connection_has_one_handshake(agent):
    context = Context()
    agent.hello(app_side(), context)
    with pytest.raises(RefusedError) as caught:
        agent.hello(app_side(), context)
    assert caught.value.code == "local-attestation-refused"


def test_a_handshake_belongs_to_its_connection(agent):
    app = app_side()
    proof = app.prove(agent.hello(app, Context(1)))
    with pytest.raises(InvalidInputError):
        agent.prove(proof, Context(2))


def test_half_open_handshakes_are_limited_and_end_with_their_connection(agent, monkeypatch):
    monkeypatch.setattr(attestation_service, "MAX_HANDSHAKES", 2)
    contexts = [Context(number) for number in range(3)]
    for context in contexts[:2]:
        agent.hello(app_side(), context)
    with pytest.raises(UnavailableError) as caught:
        agent.hello(app_side(), contexts[2])
    assert caught.value.code == "too-many-handshakes"
    for callback in contexts[0].on_close:
        callback()
    agent.hello(app_side(), contexts[2])


def test_containers_that_have_their_key_do_not_count_as_half_open(agent, monkeypatch):
    monkeypatch.setattr(attestation_service, "MAX_HANDSHAKES", 1)
    agent.whole(app_side(), Context(1))
    agent.keep("c1")
    agent.hello(app_side(), Context(2))


def test_a_launch_report_makes_the_user_known(agent):
    context = Context()
    app, _ = agent.whole(app_side(), context)
    user = ResolvedUser(1, 2, (3,))
    agent.report(app.report(LaunchReport(user).to_bytes()), context)
    assert agent.started.user_of("c1") == user
    agent.started.forget("c1")
    assert agent.started.user_of("c1") is None


def test_a_violation_reaches_the_owner_under_the_containers_request(agent):
    context = Context()
    app, _ = agent.whole(app_side(), context)
    finding = Finding("rootfs.chunk", Outcome.FAILED, "a", "b")
    agent.report(
        app.report(Violation("sealed-chunk-refused", Stage.MOUNT, "s", (finding,)).to_bytes()), context
    )
    ((request_id, error),) = agent.reports.refusals
    assert (request_id, error.code, error.findings) == ("request", "sealed-chunk-refused", (finding,))


def test_reports_need_a_proof_the_right_seal_and_an_end(agent, monkeypatch):
    monkeypatch.setattr(attestation_service, "MAX_REPORTS_PER_CONNECTION", 3)
    context = Context()
    with pytest.raises(InvalidInputError):
        agent.report(b"x", context)
    app, _ = agent.whole(app_side(), context)
    launched = LaunchReport(ResolvedUser(0, 0)).to_bytes()
    agent.report(app.report(launched), context)
    for forged in (b"not sealed", b"x" * 100):
        with pytest.raises(EnclaveCcError):
            agent.report(forged, context)
    with pytest.raises(EnclaveCcError):
        agent.report(app.report(launched), context)


@pytest.mark.parametrize("message", [b"", b"x" * 2000, bytes(64)])
def test_bytes_that_are_no_message_are_refused(agent, message):
    with pytest.raises(EnclaveCcError):
        agent.service.hello({"message": message}, Context())
    app, context = app_side(), Context(2)
    agent.hello(app, context)
    with pytest.raises(EnclaveCcError):
        agent.prove(message, context)


def test_a_caller_that_hung_up_meanwhile_takes_no_place(agent, monkeypatch):
    monkeypatch.setattr(attestation_service, "MAX_HANDSHAKES", 1)
    agent.hello(app_side(), Context(1, closed=True))
    agent.whole(app_side(), Context(2))
