"""The handshake: who may pass, and every attack that the protocol is made against."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulators.sgx_machine import InMemoryProcessor, Machine

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.core.secret import Secret
from enclave_cc.formats.framing import lp, unlp
from enclave_cc.formats.jose.jws import MAX_TOKEN_CHARS
from enclave_cc.formats.local_attestation import (
    AgentHandshake,
    AppHandshake,
    AppPolicy,
    Release,
    app_config_id,
    initdata_config_id,
)
from enclave_cc.formats.local_attestation.agent import HANDSHAKE_LIFETIME_S
from enclave_cc.formats.local_attestation.policy import PeerPolicy
from enclave_cc.formats.local_attestation.transcript import HelloReply
from enclave_cc.formats.sgx import ReportBody, TargetInfo
from enclave_cc.formats.sgx.report import Attribute
from enclave_cc.node.shim.enclave import app_config_id as shim_config_id

POD, CONTAINER = "pod-1", "container-1"
INITDATA = b"i" * 32
FLAGS = Attribute.INIT | Attribute.MODE64 | Attribute.KSS | Attribute.DEBUG
AGENT = ReportBody(
    flags=FLAGS, mr_enclave=b"G" * 32, isv_prod_id=1, isv_svn=1, config_id=initdata_config_id(INITDATA)
)
APP = ReportBody(
    flags=FLAGS, mr_enclave=b"P" * 32, isv_prod_id=2, isv_svn=1, config_id=app_config_id(POD, CONTAINER)
)
POLICY = AppPolicy(frozenset({APP.mr_enclave}))
MACHINE = Machine()
LOW_ORDER_POINTS = (
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
)


def released():
    return Release(Secret(b"k" * 32), b"m" * 32, b'{"args":[]}')


def vouch(token, agent):
    assert token == b"token"
    assert agent.isv_prod_id == 1


def app_side(identity=APP, *, machine=MACHINE, verify_token=vouch, pod=POD, container=CONTAINER):
    return AppHandshake(InMemoryProcessor(machine, identity, INITDATA), pod, container, verify_token)


def agent_side(identity=AGENT, *, machine=MACHINE, policy=POLICY):
    def lookup(pod, container):
        return policy if (pod, container) == (POD, CONTAINER) else None

    return AgentHandshake(InMemoryProcessor(machine, identity, INITDATA), lookup, b"token")


def run(app=None, agent=None, *, change=lambda number, message: message, source=released):
    """A whole handshake with somebody in the middle who may change each message."""
    app, agent = app or app_side(), agent or agent_side()
    m1 = change(1, app.hello())
    m2 = change(2, agent.reply(m1, now=0.0))
    m3 = change(3, app.prove(m2))
    m4 = change(4, agent.release(m3, source, now=1.0))
    return app.open(m4)


def refusal(action, code):
    with pytest.raises(RefusedError) as caught:
        action()
    assert caught.value.code == code
    assert caught.value.remedy
    return caught.value


def failed(error):
    return [finding.rule for finding in error.findings if finding.outcome is Outcome.FAILED]


def test_the_right_app_gets_the_key_from_the_right_agent():
    release = run()
    assert release.fdk == Secret(b"k" * 32)
    assert (release.manifest_sha256, release.launch) == (b"m" * 32, b'{"args":[]}')


def test_the_app_reports_back_over_the_same_session():
    app, agent = app_side(), agent_side()
    app.open(agent.release(app.prove(agent.reply(app.hello(), now=0.0)), released, now=1.0))
    assert agent.open_report(app.report(b"started")) == b"started"
    assert agent.open_report(app.report(b"poisoned")) == b"poisoned"


def test_a_report_cannot_be_replayed_or_reordered():
    app, agent = app_side(), agent_side()
    app.open(agent.release(app.prove(agent.reply(app.hello(), now=0.0)), released, now=1.0))
    first, second = app.report(b"1"), app.report(b"2")
    agent.open_report(first)
    refusal(lambda: agent.open_report(first), "local-attestation-refused")
    refusal(lambda: agent.open_report(second), "local-attestation-refused")


def test_the_agent_knows_whom_it_served():
    agent = agent_side()
    run(agent=agent)
    assert (agent.pod_uid, agent.container_id) == (POD, CONTAINER)


def test_two_handshakes_have_nothing_in_common():
    messages = []
    for _ in range(2):
        run(change=lambda number, message: messages.append((number, message)) or message)
    assert len({message for _, message in messages}) == 8


def test_neither_the_key_nor_the_apps_identity_is_visible_in_the_messages():
    seen = []
    run(change=lambda number, message: seen.append(message) or message)
    assert not any(b"k" * 32 in message or b"args" in message for message in seen)
    assert APP.config_id not in seen[2]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"mr_enclave": b"X" * 32}, "MRENCLAVE"),
        ({"isv_prod_id": 1}, "ISVPRODID"),
        ({"config_id": bytes(64)}, "CONFIGID"),
        ({"config_id": app_config_id("pod-2", CONTAINER)}, "CONFIGID"),
        ({"config_id": app_config_id(POD, "container-2")}, "CONFIGID"),
        ({"flags": FLAGS & ~Attribute.INIT}, "INIT and MODE64"),
        ({"flags": FLAGS & ~Attribute.MODE64}, "INIT and MODE64"),
        ({"flags": FLAGS | Attribute.PROVISION_KEY}, "privileged attributes"),
        ({"flags": FLAGS | Attribute.EINITTOKEN_KEY}, "privileged attributes"),
    ],
)
def test_another_app_is_refused_by_exactly_one_rule_and_all_rules_are_told(changes, rule):
    app = app_side(dataclasses.replace(APP, **changes))
    error = refusal(lambda: run(app), "app-identity-refused")
    assert failed(error) == [rule]
    assert len(error.findings) == 7
    assert all(finding.expected and finding.actual for finding in error.findings)


def test_no_key_is_fetched_for_a_refused_app():
    calls = []
    app = app_side(dataclasses.replace(APP, mr_enclave=b"X" * 32))
    refusal(lambda: run(app, source=lambda: calls.append(1)), "app-identity-refused")
    assert not calls


def test_an_old_app_is_refused():
    agent = agent_side(policy=AppPolicy(POLICY.mr_enclaves, min_isv_svn=2))
    assert failed(refusal(lambda: run(agent=agent), "app-identity-refused")) == ["ISVSVN"]


def test_a_debug_app_is_refused_by_an_agent_that_is_none():
    agent = agent_side(dataclasses.replace(AGENT, flags=FLAGS & ~Attribute.DEBUG))
    assert failed(refusal(lambda: run(agent=agent), "app-identity-refused")) == ["DEBUG"]


def test_a_policy_without_measurements_accepts_nobody():
    agent = agent_side(policy=AppPolicy(frozenset()))
    assert failed(refusal(lambda: run(agent=agent), "app-identity-refused")) == ["MRENCLAVE"]


@pytest.mark.parametrize(("pod", "container"), [("pod-2", CONTAINER), (POD, "container-2")])
def test_a_container_that_the_agent_does_not_serve_is_refused(pod, container):
    identity = dataclasses.replace(APP, config_id=app_config_id(pod, container))
    refusal(lambda: run(app_side(identity, pod=pod, container=container)), "app-identity-refused")


def test_the_app_of_another_pod_cannot_ask_in_this_pods_name():
    identity = dataclasses.replace(APP, config_id=app_config_id("pod-2", CONTAINER))
    assert failed(refusal(lambda: run(app_side(identity)), "app-identity-refused")) == ["CONFIGID"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"isv_prod_id": 2}, "ISVPRODID"),
        ({"config_id": initdata_config_id(b"x" * 32)}, "CONFIGID"),
        ({"flags": FLAGS & ~Attribute.INIT}, "INIT and MODE64"),
        ({"flags": FLAGS | Attribute.PROVISION_KEY}, "privileged attributes"),
    ],
)
def test_another_agent_is_refused_by_exactly_one_rule(changes, rule):
    agent = agent_side(dataclasses.replace(AGENT, **changes))
    assert failed(refusal(lambda: run(agent=agent), "agent-identity-refused")) == [rule]


def test_a_debug_agent_is_refused_by_an_app_that_is_none():
    policy = PeerPolicy.for_agent(
        initdata_digest=INITDATA, app=dataclasses.replace(APP, flags=FLAGS & ~Attribute.DEBUG)
    )
    assert [finding.rule for finding in policy.evaluate(AGENT).failed] == ["DEBUG"]


@pytest.mark.parametrize("complaint", [ValueError, RefusedError, InvalidInputError])
def test_an_agent_whose_token_is_not_good_gets_no_proof(complaint):
    findings = (Finding("token", Outcome.FAILED),)

    def deny(token, agent):
        if complaint is ValueError:
            raise ValueError("not vouched for")
        raise complaint("token-invalid", "a token was refused", stage=Stage.ATTEST, findings=findings)

    error = refusal(lambda: run(app_side(verify_token=deny)), "agent-token-refused")
    assert failed(error) == ([] if complaint is ValueError else ["token"])


def test_a_token_check_that_cannot_be_made_now_may_be_tried_again():
    def away(token, agent):
        raise UnavailableError("unavailable", "a key is not at hand", stage=Stage.ATTEST)

    with pytest.raises(UnavailableError):
        run(app_side(verify_token=away))


def test_an_agent_on_another_machine_is_refused():
    refusal(lambda: run(agent=agent_side(machine=Machine(fuse_key=b"o" * 32))), "agent-identity-refused")


def test_an_app_on_another_machine_is_refused():
    agent = agent_side()
    elsewhere = Machine(fuse_key=b"o" * 32)

    class Forger(InMemoryProcessor):
        """Knows this machine's key for reading, but its own processor signs."""

        def report_key(self, key_id):
            return InMemoryProcessor(MACHINE, self._identity).report_key(key_id)

    app = AppHandshake(Forger(elsewhere, APP, INITDATA), POD, CONTAINER, vouch)
    m3 = app.prove(agent.reply(app.hello(), now=0.0))
    refusal(lambda: agent.release(m3, released, now=1.0), "app-identity-refused")


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@settings(max_examples=60, deadline=None)
@given(position=st.floats(0, 0.999), flip=st.integers(1, 255))
def test_no_changed_byte_of_any_message_goes_unnoticed(number, position, flip):
    def change(current, message):
        if current != number:
            return message
        data = bytearray(message)
        data[int(position * len(data))] ^= flip
        return bytes(data)

    with pytest.raises(RefusedError):
        run(change=change)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=700))
def test_any_bytes_in_place_of_a_message_are_refused(number, data):
    with pytest.raises(RefusedError):
        run(change=lambda current, message: data if current == number else message)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_an_endless_message_is_refused(number):
    with pytest.raises(RefusedError):
        run(change=lambda current, message: message + bytes(2 << 20) if current == number else message)


def _with_part(message, index, value):
    parts = list(unlp(message))
    parts[index] = value
    return lp(*parts)


@pytest.mark.parametrize("point", LOW_ORDER_POINTS)
def test_an_app_share_of_low_order_is_refused(point):
    agent = agent_side()
    m1 = _with_part(app_side().hello(), 3, point)
    assert "low-order" in refusal(lambda: agent.reply(m1, now=0.0), "local-attestation-refused").detail


@pytest.mark.parametrize("point", LOW_ORDER_POINTS)
def test_an_agent_share_of_low_order_inside_a_valid_report_is_refused(point):
    """A genuine, accepted agent that tries to fix the key still cannot."""
    from enclave_cc.formats.local_attestation import transcript  # noqa: PLC0415 - only this forger needs it

    app = app_side()
    m1 = app.hello()
    covered = transcript.HelloReply(b"n" * 32, b"s" * 16, point, b"token").pack()
    data = transcript.report_data(b"agent report", transcript.digest(b"th1", m1, covered))
    report = MACHINE.cpu.report(AGENT, TargetInfo.of(APP), data)
    error = refusal(lambda: app.prove(lp(covered, report.pack())), "local-attestation-refused")
    assert "low-order" in error.detail


def test_a_share_swapped_by_the_middle_is_refused_on_either_way():
    other = app_side().hello()
    for number, index in ((1, 3), (1, 2)):
        with pytest.raises(RefusedError):
            run(
                change=lambda current, message, n=number, i=index: (
                    _with_part(message, i, unlp(other)[i]) if current == n else message
                )
            )


def test_a_reply_of_another_handshake_is_refused():
    stale = agent_side().reply(app_side().hello(), now=0.0)
    app = app_side()
    app.hello()
    refusal(lambda: app.prove(stale), "agent-identity-refused")


def test_a_proof_is_good_for_one_session_only():
    agent, other, app = agent_side(), agent_side(), app_side()
    m3 = app.prove(agent.reply(app.hello(), now=0.0))
    other.reply(app_side().hello(), now=0.0)
    refusal(lambda: other.release(m3, released, now=1.0), "local-attestation-refused")


def test_a_proof_cannot_be_replayed():
    agent, app = agent_side(), app_side()
    m3 = app.prove(agent.reply(app.hello(), now=0.0))
    agent.release(m3, released, now=1.0)
    refusal(lambda: agent.release(m3, released, now=1.0), "local-attestation-refused")


def test_a_failed_proof_ends_the_handshake():
    agent, app = agent_side(), app_side()
    m3 = app.prove(agent.reply(app.hello(), now=0.0))
    refusal(lambda: agent.release(b"wrong" * 10, released, now=1.0), "local-attestation-refused")
    refusal(lambda: agent.release(m3, released, now=1.0), "local-attestation-refused")


def test_a_handshake_takes_one_hello():
    agent = agent_side()
    m1 = app_side().hello()
    agent.reply(m1, now=0.0)
    refusal(lambda: agent.reply(m1, now=0.0), "local-attestation-refused")


def test_a_refused_hello_cannot_be_tried_again():
    agent = agent_side()
    refusal(lambda: agent.reply(b"", now=0.0), "local-attestation-refused")
    refusal(lambda: agent.reply(app_side().hello(), now=0.0), "local-attestation-refused")


def test_a_handshake_expires():
    agent, app = agent_side(), app_side()
    m3 = app.prove(agent.reply(app.hello(), now=100.0))
    late = 100.0 + HANDSHAKE_LIFETIME_S + 0.1
    assert (
        "expired"
        in refusal(lambda: agent.release(m3, released, now=late), "local-attestation-refused").detail
    )


def test_steps_out_of_order_are_refused():
    for action in (
        lambda: app_side().prove(b""),
        lambda: app_side().open(b""),
        lambda: app_side().report(b""),
        lambda: agent_side().release(b"", released, now=0.0),
        lambda: agent_side().open_report(b""),
    ):
        refusal(action, "local-attestation-refused")


def test_an_app_takes_one_reply_one_release_and_sends_one_hello():
    app, agent = app_side(), agent_side()
    m2 = agent.reply(app.hello(), now=0.0)
    m4 = agent.release(app.prove(m2), released, now=1.0)
    refusal(app.hello, "local-attestation-refused")
    refusal(lambda: app.prove(m2), "local-attestation-refused")
    app.open(m4)
    refusal(lambda: app.open(m4), "local-attestation-refused")


def test_a_report_made_for_another_purpose_is_no_proof():
    """A REPORT with the right identity over another statement (such as a broker's nonce) does not count."""
    app = app_side()
    m1 = app.hello()
    reply = agent_side().reply(m1, now=0.0)
    covered, _ = unlp(reply)
    foreign = MACHINE.cpu.report(AGENT, TargetInfo.of(APP), b"n" * 64)
    error = refusal(lambda: app.prove(lp(covered, foreign.pack())), "agent-identity-refused")
    assert "another handshake" in error.detail


def test_the_agents_own_report_cannot_be_reflected_as_the_apps():
    """Same identities on both ends would still differ by the label in the report data."""
    from enclave_cc.formats.local_attestation import transcript  # noqa: PLC0415 - only this test looks inside

    assert transcript.report_data(b"agent report", b"t") != transcript.report_data(b"app report", b"t")


def test_names_must_be_short_ascii():
    for pod in ("", "p" * 254, "pöd"):
        with pytest.raises(RefusedError):
            agent_side().reply(app_side(pod=pod).hello(), now=0.0)


def test_an_apps_config_id_separates_pod_and_container():
    assert app_config_id("ab", "c") != app_config_id("a", "bc")
    assert len(app_config_id(POD, CONTAINER)) == 64


def test_the_lean_shim_computes_the_same_config_id():
    assert shim_config_id(POD, CONTAINER) == app_config_id(POD, CONTAINER)


def test_an_agents_config_id_is_its_padded_initdata_digest():
    assert initdata_config_id(b"i" * 48) == b"i" * 48 + bytes(16)
    with pytest.raises(ValueError, match="64"):
        initdata_config_id(bytes(65))


def test_a_release_wipes_the_buffer_it_was_read_from():
    buffer = released().pack()
    Release.take(buffer)
    assert not any(buffer)


@given(st.binary(max_size=100))
def test_any_bytes_as_a_release_parse_or_raise_the_declared_error(data):
    try:
        Release.take(bytearray(data))
    except RefusedError:
        return
    assert len(unlp(data)) == 3


def test_a_token_as_long_as_any_broker_signs_fits():
    longest = HelloReply(b"n" * 32, b"s" * 16, b"k" * 32, b"t" * MAX_TOKEN_CHARS)
    assert HelloReply.parse(longest.pack()) == longest
    with pytest.raises(RefusedError):
        HelloReply.parse(dataclasses.replace(longest, token=longest.token + b"t").pack())
