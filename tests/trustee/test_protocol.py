"""The broker on the wire: statuses and error texts that existing clients know, no surprise for strangers."""

from __future__ import annotations

import base64
import json
import re
import ssl

import pytest
import urllib3
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enclave_cc.core.request_id import fresh_request_id, parse_request_id
from enclave_cc.formats.jose.jws import verify_es256

AUTH = {"version": "0.4.0", "tee": "sgx-sim", "extra-params": {}}
PREFIX = "https://github.com/confidential-containers/kbs/errors/"


@pytest.fixture
def http(broker):
    pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(cadata=broker.ca_pem), retries=False)

    def send(method, path, body=b"", **headers):
        body = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return pool.request(method, broker.url + path, body=body, headers=named)

    yield send
    pool.clear()


def reason(response):
    body = json.loads(response.data)
    assert set(body) == {"type", "detail"}
    assert response.headers["content-type"] == "application/json"
    return body["type"].removeprefix(PREFIX)


def test_health(http):
    response = http("GET", "/healthz")
    assert (response.status, response.data) == (200, b"")


def test_a_challenge_has_a_fresh_nonce_and_a_session_cookie(http):
    first, second = (http("POST", "/kbs/v0/auth", AUTH) for _ in range(2))
    nonces = [json.loads(item.data)["nonce"] for item in (first, second)]
    assert nonces[0] != nonces[1]
    assert len(base64.b64decode(nonces[0])) == 32
    assert json.loads(first.data)["extra-params"] == ""
    assert re.match(r"kbs-session-id=[0-9a-f]{32}; Expires=\w{3}, .* GMT", first.headers["set-cookie"])
    assert "HttpOnly" in first.headers["set-cookie"]


def test_another_version_is_refused_in_words_that_clients_look_for(http):
    response = http("POST", "/kbs/v0/auth", {**AUTH, "version": "0.1.1"})
    assert (response.status, reason(response)) == (401, "AttestationError")
    assert "Version Mismatch" in json.loads(response.data)["detail"]


@pytest.mark.parametrize("tee", ["sample", "tdx", "SGX", ""])
def test_evidence_of_other_kinds_is_refused(http, tee):
    response = http("POST", "/kbs/v0/auth", {**AUTH, "tee": tee})
    assert (response.status, reason(response)) == (401, "AttestationError")


def test_attesting_without_a_session_is_refused(http):
    response = http("POST", "/kbs/v0/attest", {})
    assert (response.status, reason(response)) == (401, "AttestationError")


def test_a_nonce_is_good_for_one_attempt(http):
    cookie = http("POST", "/kbs/v0/auth", AUTH).headers["set-cookie"].partition(";")[0]
    for _ in range(2):
        response = http("POST", "/kbs/v0/attest", b"{}", Cookie=cookie)
        assert (response.status, reason(response)) == (401, "AttestationError")
        assert json.loads(response.data)["detail"] == "Attestation error: RCAR handshake Attest failed"


def test_a_resource_without_a_token_is_refused(http):
    response = http("GET", "/kbs/v0/resource/default/key/1")
    assert (response.status, reason(response)) == (401, "TokenNotFound")


def test_a_resource_with_a_token_of_somebody_else_is_refused(http):
    response = http("GET", "/kbs/v0/resource/default/key/1", Authorization="Bearer a.b.c")
    assert (response.status, reason(response)) == (401, "TokenVerifierError")


def test_a_token_is_good_as_bearer_too(open_broker, http):
    client = open_broker.client()
    token = client.attest()
    client.close()
    response = http("GET", "/kbs/v0/resource/default/key/1", Authorization=f"Bearer {token}")
    assert response.status == 200
    assert set(json.loads(response.data)) == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}


def test_the_token_has_the_claims_that_policies_read(open_broker):
    client = open_broker.client()
    token = client.attest()
    assert client.attest() != token
    client.close()
    verified = verify_es256(token, load_pem_public_key(open_broker.token_key.encode()))
    claims = json.loads(verified.payload)
    submod = claims["submods"]["cpu0"]
    evidence = submod["ear.veraison.annotated-evidence"]
    assert verified.header["typ"] == "JWT"
    assert verified.header["kid"]
    assert verified.header["jwk"]["crv"] == "P-256"
    assert claims["exp"] - claims["iat"] == 300
    assert submod["ear.status"] == "contraindicated"
    assert submod["ear.trustworthiness-vector"]["hardware"] == 97
    assert submod["ear.trustworthiness-vector"]["executables"] == 3
    assert evidence["sgx-sim"]["body"]["mr_enclave"] == bytes(range(32)).hex()
    assert evidence["sgx-sim"]["body"]["attributes.flags"].startswith("07")
    assert evidence["sgx-sim"]["debug"] is True
    assert evidence["sgx-sim"]["isv_prod_id_int"] == 1
    assert evidence["runtime_data_claims"]["additional-evidence"] == ""
    assert "sgx" not in evidence


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "resource/default/key/1"),
        ("DELETE", "resource/default/key/1"),
        ("GET", "resource"),
        ("POST", "resource-policy"),
        ("GET", "resource-policy"),
        ("POST", "attestation-policy"),
        ("GET", "policy-text/default_cpu"),
        ("POST", "reference-value"),
        ("GET", "reference-value"),
        ("DELETE", "reference-value/x"),
        ("GET", "audit"),
        ("GET", f"explain/{fresh_request_id()}"),
    ],
)
def test_administration_needs_the_token(broker, http, method, path):
    for authorization in ("", "Bearer", "Bearer wrong", f"Basic {broker.admin_token}", "Bearer é"):
        headers = {"Authorization": authorization.encode("utf-8")} if authorization else {}
        response = http(method, f"/kbs/v0/{path}", b"", **headers)
        assert (response.status, reason(response)) == (401, "AdminAuthAccess")


def test_findings_of_strangers_are_not_taken(http):
    response = http("POST", "/kbs/v0/findings", {"stage": "verify", "code": "x", "findings": []})
    assert (response.status, reason(response)) == (401, "TokenNotFound")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"stage": "verify", "code": "x", "findings": [{"rule": "r"}]},
        {"stage": "verify", "code": "x", "findings": [{"rule": "", "outcome": "failed"}]},
        {"stage": "verify", "code": "x" * 65, "findings": []},
        {"stage": "verify", "code": "x", "findings": [], "more": 1},
        {"stage": "verify", "code": "x", "findings": [{"rule": "r", "outcome": "failed"}] * 129},
    ],
)
def test_findings_that_are_none_are_refused(open_broker, http, body):
    client = open_broker.client()
    token = client.attest()
    client.close()
    response = http("POST", "/kbs/v0/findings", body, Authorization=f"Bearer {token}")
    assert (response.status, reason(response)) == (401, "FindingsError")


def test_unknown_plugins_and_paths_are_not_found(http):
    response = http("GET", "/kbs/v0/nebula-ca/x")
    assert (response.status, reason(response)) == (404, "PluginNotFound")
    response = http("GET", "/elsewhere")
    assert (response.status, reason(response)) == (404, "InvalidRequestPath")
    response = http("PATCH", "/kbs/v0/auth")
    assert (response.status, reason(response)) == (405, "InvalidRequestPath")


def test_a_request_id_comes_back_and_a_bad_one_is_replaced(http):
    request_id = fresh_request_id()
    assert http("GET", "/kbs/v0/x", X_Request_ID=request_id).headers["x-request-id"] == request_id
    assert parse_request_id(http("GET", "/kbs/v0/x", X_Request_ID="'; drop").headers["x-request-id"])


def test_a_body_that_is_too_large_is_refused_and_the_broker_goes_on(http):
    response = http("POST", "/kbs/v0/auth", b" " * (3 << 20))
    assert (response.status, reason(response)) == (413, "SerdeError")
    assert http("POST", "/kbs/v0/auth", AUTH).status == 200


def test_deep_json_is_refused(http):
    response = http("POST", "/kbs/v0/auth", b"[" * 100_000)
    assert (response.status, reason(response)) == (401, "AttestationError")


ROUTES = (
    "auth",
    "attest",
    "resource",
    "resource/a/b/c",
    "resource-policy",
    "attestation-policy",
    "policy-text/x",
    "reference-value",
    "reference-value/%00%ff",
    "findings",
    "explain/x",
    "audit?after=x",
    "",
    "%2e%2e/x",
)
BODIES = (
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(max_size=20) | st.floats(), st.lists, max_leaves=8)
    .map(json.dumps)
    .map(str.encode)
    | st.sampled_from(
        [
            b'{"version":"\\ud800","tee":"sgx-sim","extra-params":0}',
            b'{"version":"0.4.0","tee":"\\ud800","extra-params":0}',
            b'{"payload":"AA==","type":"sample"}',
            b'{"payload":"eyJcdWQ4MDAiOiAxfQ==","type":"sample"}',
            b'{"payload":"eyJhIjogMWU5OTl9","type":"sample"}',
            b'{"policy_id":"\\ud800","policy":"AA"}',
        ]
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(
    request=st.tuples(st.sampled_from(["GET", "POST", "PUT", "DELETE"]), st.sampled_from(ROUTES), BODIES),
    admin=st.booleans(),
    session=st.booleans(),
)
def test_whatever_is_sent_is_answered_in_the_protocol(broker, http, request, admin, session):
    method, route, body = request
    headers = {"Authorization": f"Bearer {broker.admin_token}"} if admin else {}
    if session:
        headers["Cookie"] = http("POST", "/kbs/v0/auth", AUTH).headers["set-cookie"].partition(";")[0]
    response = http(method, f"/kbs/v0/{route}", body, **headers)
    assert response.status in {200, 401, 404}
    assert response.headers["x-request-id"]
    if response.status != 200:
        assert reason(response)
