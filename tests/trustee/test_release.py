"""From evidence to a secret, and every way in which it is not released."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import equal
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.formats.initdata import initdata_digest
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.trustee.appraisal.evidence import SgxVerifier
from enclave_cc.trustee.audit.allowance import Allowance
from enclave_cc.trustee.broker.init import init_broker
from enclave_cc.trustee.policy.engine import _Worker
from enclave_cc.trustee.stores.sqlite import SqliteStore

URI = ResourceUri.parse("kbs:///default/key/1")
INITDATA = 'version = "0.1.0"\nalgorithm = "sha384"\n\n[data]\n"enclave-cc.toml" = ""\n'


def refused(client, uri=URI):
    with pytest.raises(RefusedError) as caught:
        client.resource(uri)
    client.close()
    return caught.value


def explained(broker, request_id):
    with broker.admin() as admin:
        return admin.explain(request_id)


def failed(explanation):
    return {item["rule"]: item for item in explanation["findings"] if item["outcome"] == "failed"}


def test_a_registered_enclave_gets_its_secret(open_broker):
    client = open_broker.client()
    assert client.resource(URI) == b"the key"
    assert client.resource(URI) == b"the key"
    client.close()


def test_a_release_is_in_the_log(open_broker):
    request_id = fresh_request_id()
    client = open_broker.client(request_id=request_id)
    client.resource(URI)
    client.close()
    explanation = explained(open_broker, request_id)
    assert [event["event"] for event in explanation["events"]] == ["challenge", "appraisal", "release"]
    assert explanation["remedy"] == "nothing was refused"


def test_an_unknown_measurement_is_refused_and_explained_with_both_values(open_broker):
    request_id = fresh_request_id()
    stranger = open_broker.platform.with_identity(mr_enclave=bytes(32))
    error = refused(open_broker.client(stranger, request_id=request_id))
    assert error.code == "broker-refused-resource"
    assert "PolicyDeny" in error.summary
    explanation = explained(open_broker, request_id)
    finding = failed(explanation)["sgx.mr_enclave"]
    assert finding["expected"] == bytes(range(32)).hex()
    assert finding["actual"] == bytes(32).hex()
    assert failed(explanation)["resource.policy"]["actual"] == "false"
    assert "enclave-cc measure" in explanation["remedy"]


def test_without_reference_values_nothing_is_released(open_broker):
    with open_broker.admin() as admin:
        admin.delete_reference_value("sgx_mr_enclave")
    request_id = fresh_request_id()
    refused(open_broker.client(request_id=request_id))
    finding = failed(explained(open_broker, request_id))["sgx.mr_enclave"]
    assert finding["expected"] == "(none registered)"


def test_another_product_id_is_refused(open_broker):
    request_id = fresh_request_id()
    app = open_broker.platform.with_identity(isv_prod_id=2)
    refused(open_broker.client(app, request_id=request_id))
    finding = failed(explained(open_broker, request_id))["sgx.isv_prod_id"]
    assert (finding["expected"], finding["actual"]) == ("1", "2")


def test_the_default_policy_refuses_simulated_enclaves(broker):
    with broker.admin() as admin:
        admin.put_resource(URI, b"the key")
        admin.add_reference_value("sgx_mr_enclave", bytes(range(32)).hex())
        admin.add_reference_value("sgx_isv_prod_id", [1])
    assert "PolicyDeny" in refused(broker.client()).summary


def test_a_policy_that_fails_to_evaluate_releases_nothing(open_broker):
    with open_broker.admin() as admin:
        admin.set_resource_policy(
            "package policy\n\nallow := 1 if input.submods\n\nallow := 2 if input.submods\n"
        )
    assert "PolicyEngineError" in refused(open_broker.client()).summary


@pytest.mark.parametrize("worker", ["late", "dead"])
def test_a_policy_engine_without_an_answer_is_unavailable_and_releases_nothing(
    open_broker, monkeypatch, worker
):
    client = open_broker.client()
    client.attest()

    def exchange(*_):
        raise TimeoutError if worker == "late" else OSError("the worker is gone")

    monkeypatch.setattr(_Worker, "exchange", exchange)
    with pytest.raises(UnavailableError) as caught:
        client.resource(URI)
    assert caught.value.code == "broker-unavailable"
    assert "Policy engine error" in caught.value.detail
    with pytest.raises(UnavailableError):
        client.attest()
    monkeypatch.undo()
    assert client.resource(URI) == b"the key"
    client.close()


def test_a_policy_that_says_something_else_than_true_releases_nothing(open_broker):
    with open_broker.admin() as admin:
        admin.set_resource_policy('package policy\n\nallow := "true"\n')
    assert "PolicyDeny" in refused(open_broker.client()).summary


def test_the_policy_decides_before_existence_is_looked_at(open_broker):
    missing = ResourceUri.parse("kbs:///default/key/absent")
    assert "PluginInternalError" in refused(open_broker.client(), missing).summary
    stranger = open_broker.platform.with_identity(mr_enclave=bytes(32))
    assert "PolicyDeny" in refused(open_broker.client(stranger), missing).summary


def test_evidence_of_another_handshake_is_refused(open_broker):
    request_id = fresh_request_id()
    platform = open_broker.platform
    client = open_broker.client(evidence=lambda _: platform.evidence(bytes(48)), request_id=request_id)
    error = refused(client)
    assert error.code == "broker-refused-attestation"
    finding = failed(explained(open_broker, request_id))["sgx.report_data"]
    assert finding["actual"] == bytes(64).hex()


def test_init_data_that_was_not_measured_is_refused(open_broker):
    request_id = fresh_request_id()
    error = refused(open_broker.client(initdata=INITDATA, request_id=request_id))
    assert error.code == "broker-refused-attestation"
    finding = failed(explained(open_broker, request_id))["sgx.config_id"]
    assert finding["expected"] == initdata_digest(INITDATA).ljust(64, b"\0").hex()
    assert finding["actual"] == bytes(64).hex()


def test_measured_init_data_is_accepted(open_broker):
    config_id = initdata_digest(INITDATA).ljust(64, b"\0")
    platform = open_broker.platform.with_identity(
        config_id=config_id, flags=open_broker.platform.identity.flags
    )
    client = open_broker.client(platform, initdata=INITDATA)
    assert client.resource(URI) == b"the key"
    client.close()


def test_a_simulated_quote_offered_as_sgx_is_refused(open_broker, monkeypatch):
    # Intel's service would be asked for collateral; here it "answers" with the simulated platform's.
    collateral = open_broker.platform.collateral()
    original = SgxVerifier.verify
    monkeypatch.setattr(
        SgxVerifier,
        "verify",
        lambda self, item: original(replace(self, collateral=lambda _: collateral), item),
    )
    error = refused(open_broker.client(tee="sgx"))
    assert error.code == "broker-refused-attestation"


def test_the_sample_tee_is_not_accepted(open_broker):
    request_id = fresh_request_id()
    error = refused(open_broker.client(tee="sample", request_id=request_id))
    assert error.code == "broker-refused-attestation"
    assert failed(explained(open_broker, request_id))["tee"]["actual"] == "sample"


def test_the_client_refuses_a_token_of_another_broker(open_broker, tmp_path):
    other = init_broker(tmp_path / "other", "127.0.0.1", 0, ["127.0.0.1"])
    error = refused(open_broker.client(token_key=other.token_public_key.read_text()))
    assert error.code == "broker-token-refused"


def test_the_client_refuses_a_broker_with_another_certificate(open_broker, tmp_path):
    other = init_broker(tmp_path / "other", "127.0.0.1", 0, ["127.0.0.1"])
    error = refused(open_broker.client(ca_pem=other.tls_ca.read_text()))
    assert error.code == "tls-peer-refused"


def test_a_broker_that_is_away_is_unavailable_not_refused(broker):
    client = broker.client()
    client._peer._url = "https://127.0.0.1:9"
    with pytest.raises(UnavailableError):
        client.attest()
    client.close()


def test_the_client_attests_again_when_the_broker_has_forgotten_it(open_broker):
    client = open_broker.client()
    client.resource(URI)
    client._cookie = "0" * 32
    assert client.resource(URI) == b"the key"
    client.close()


def test_findings_of_an_enclave_reach_its_owner(open_broker):
    container, pod = fresh_request_id(), fresh_request_id()
    client = open_broker.client(request_id=pod)
    finding = equal("image.signature", expected="a key of the owner", actual="none")
    client.report_findings(container, "verify", "image-not-signed", [finding], detail="two layers")
    client.close()
    explanation = explained(open_broker, container)
    assert [event["event"] for event in explanation["events"]] == ["findings"]
    assert explanation["events"][0]["fields"]["code"] == "image-not-signed"
    assert failed(explanation)["image.signature"]["actual"] == "none"


@pytest.mark.parametrize("claims", ['{"unknown": 2}', '{"executables": "3"}', "{}", "7"])
def test_an_attestation_policy_that_decides_nonsense_attests_nobody(open_broker, claims):
    with open_broker.admin() as admin:
        admin.set_attestation_policy(f"package policy\n\ntrust_claims := {claims}\n")
    assert refused(open_broker.client()).code == "broker-refused-attestation"


def test_an_attestation_policy_cannot_make_simulation_hardware(open_broker):
    with open_broker.admin() as admin:
        admin.set_attestation_policy('package policy\n\ntrust_claims := {"executables": 3, "hardware": 2}\n')
        admin.set_resource_policy(
            'package policy\n\nallow if input.submods.cpu0["ear.status"] == "affirming"\n'
        )
    assert "PolicyDeny" in refused(open_broker.client()).summary


def test_policies_written_for_other_brokers_find_reference_values(open_broker):
    with open_broker.admin() as admin:
        admin.set_attestation_policy(
            "package policy\n\nimport rego.v1\n\n"
            'trust_claims := {"executables": executables}\n\n'
            'executables := 3 if {\n\tmeasured := input["sgx-sim"].body.mr_enclave\n'
            '\tmeasured in query_reference_value("sgx_mr_enclave")\n}\n'
        )
    client = open_broker.client()
    assert client.resource(URI) == b"the key"
    client.close()


def test_several_enclaves_are_served_at_once(open_broker):
    def fetch(_):
        client = open_broker.client()
        try:
            return client.resource(URI)
        finally:
            client.close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fetch, range(24))) == [b"the key"] * 24
    with open_broker.admin() as admin:
        assert admin.audit()["length"] == 4 + 24 * 3


def test_nothing_is_released_that_cannot_be_logged(open_broker, monkeypatch):
    client = open_broker.client()
    client.attest()

    def full(*_):
        raise UnavailableError("store-unavailable", "full", stage=Stage.STORE)

    monkeypatch.setattr(SqliteStore, "append", full)
    with pytest.raises(UnavailableError) as caught:
        client.resource(URI)
    assert caught.value.code == "broker-unavailable"
    monkeypatch.undo()
    assert client.resource(URI) == b"the key"
    client.close()


def test_a_fault_of_the_broker_is_an_answer_without_its_text(open_broker, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("secret text")

    monkeypatch.setattr(SqliteStore, "get", broken)
    client = open_broker.client()
    with pytest.raises(UnavailableError) as caught:
        client.resource(URI)
    assert "secret text" not in caught.value.detail
    client.close()


def test_the_log_names_the_code_that_was_released_to(open_broker):
    request_id = fresh_request_id()
    client = open_broker.client(request_id=request_id)
    client.resource(URI)
    client.close()
    events = {event["event"]: event["fields"] for event in explained(open_broker, request_id)["events"]}
    assert events["appraisal"]["enclave"] == events["release"]["enclave"] == bytes(range(32)).hex()


def test_other_code_cannot_explain_a_request_away(open_broker):
    request_id = fresh_request_id()
    finding = equal("image.signature", expected="a key of the owner", actual="none")
    for enclave, allowed in ((bytes(range(32)), True), (bytes(32), False), (bytes(range(32)), True)):
        client = open_broker.client(open_broker.platform.with_identity(mr_enclave=enclave))
        if allowed:
            client.report_findings(request_id, "verify", "image-not-signed", [finding])
        else:
            with pytest.raises(RefusedError) as caught:
                client.report_findings(request_id, "verify", "all-is-well", [])
            assert caught.value.code == "broker-refused-findings"
        client.close()
    codes = [event["fields"]["code"] for event in explained(open_broker, request_id)["events"]]
    assert codes == ["image-not-signed"] * 2


def test_init_data_with_members_that_are_no_texts_is_read_as_if_they_were_not_there(open_broker):
    text = 'version = "0.1.0"\nalgorithm = "sha384"\n[data]\na = "b"\nwhen = 2020-01-01\nmuch = inf\n'
    config_id = initdata_digest(text).ljust(64, b"\0")
    client = open_broker.client(open_broker.platform.with_identity(config_id=config_id), initdata=text)
    assert client.resource(URI) == b"the key"
    client.close()


def test_init_data_that_no_token_can_hold_is_refused_at_once(open_broker):
    request_id = fresh_request_id()
    text = f'version = "0.1.0"\nalgorithm = "sha384"\n[data]\na = "{"x" * 250_000}"\n'
    config_id = initdata_digest(text).ljust(64, b"\0")
    platform = open_broker.platform.with_identity(config_id=config_id)
    error = refused(open_broker.client(platform, initdata=text, request_id=request_id))
    assert error.code == "broker-refused-attestation"
    assert "too long" in str(explained(open_broker, request_id)["events"])


@pytest.mark.parametrize("what", ["policy", "attestation policy", "value", "resource", "deletion"])
def test_what_cannot_be_logged_does_not_take_effect(open_broker, monkeypatch, what):
    def full(*_):
        raise UnavailableError("store-unavailable", "full", stage=Stage.STORE)

    with open_broker.admin() as admin:
        before = (admin.get_policy(), admin.get_policy("default_cpu"), admin.list_reference_values())
        monkeypatch.setattr(SqliteStore, "append", full)
        action = {
            "policy": lambda: admin.set_resource_policy("package policy\n\nallow := true\n"),
            "attestation policy": lambda: admin.set_attestation_policy("package policy\n\nx := 1\n"),
            "value": lambda: admin.set_reference_value("sgx_mr_enclave", "00" * 32),
            "resource": lambda: admin.put_resource(ResourceUri.parse("kbs:///default/key/2"), b"x"),
            "deletion": lambda: admin.delete_resource(URI),
        }[what]
        with pytest.raises(UnavailableError):
            action()
        monkeypatch.undo()
        assert before == (admin.get_policy(), admin.get_policy("default_cpu"), admin.list_reference_values())
        assert admin.list_resources() == ("default/key/1",)


def test_values_of_a_message_are_registered_together_or_not_at_all(broker):
    payload = base64.b64encode(json.dumps({"good": 1, "x" * 300: 2}).encode()).decode()
    with broker.admin() as admin:
        with pytest.raises(RefusedError):
            admin._send(
                "POST", "reference-value", json.dumps({"type": "sample", "payload": payload}).encode()
            )
        assert admin.list_reference_values() == {}


def test_strangers_cannot_fill_the_log(broker, monkeypatch):
    monkeypatch.setattr(Allowance, "take", lambda *_: False)
    client = broker.client(tee="sample")
    with pytest.raises(RefusedError):
        client.attest()
    client.close()
    client = broker.client()
    client.attest()
    with pytest.raises(UnavailableError):
        client.report_findings(fresh_request_id(), "verify", "image-not-signed", [])
    client.close()
    with broker.admin() as admin:
        assert [entry["event"] for entry in admin.audit()["entries"]] == ["appraisal"]
