"""Messages of the protocol, and the hash that binds evidence to a handshake."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.jose.jwk import parse_public_jwk
from enclave_cc.formats.kbs.messages import (
    MAX_MESSAGE_BYTES,
    Attestation,
    Challenge,
    ErrorInformation,
    KbsMessageError,
    Request,
    TokenReply,
)
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.kbs.runtime_data import report_data

JWK = {
    "kty": "EC",
    "crv": "P-256",
    "alg": "ECDH-ES+A256KW",
    "x": "2ct8UA3JAfYRDoiMBEiU1o8r3fHwGBoJun29_nMKhjs",
    "y": "xa4yfEUak7tsUBLNZ4DSKboOtdx5viw6sY-umZws_h4",
}
ATTESTATION = {
    "init-data": None,
    "runtime-data": {"nonce": "n", "tee-pubkey": JWK},
    "tee-evidence": {"primary_evidence": {"quote": "AA=="}, "additional_evidence": ""},
}
PARSERS = [Request.parse, Challenge.parse, Attestation.parse, TokenReply.parse, ErrorInformation.parse]


def changed(path, value):
    """The message above with one member replaced."""
    message = json.loads(json.dumps(ATTESTATION))
    *parents, last = path
    place = message
    for name in parents:
        place = place[name]
    place[last] = value
    return json.dumps(message).encode()


def test_report_data_is_that_of_other_implementations(vectors):
    vector = json.loads((vectors / "oci" / "kbs_runtime_data.json").read_text())
    digest = report_data(vector["nonce"], parse_public_jwk(vector["tee-pubkey"]))
    assert digest.hex() == vector["primary_runtime_data_sha384"]
    assert digest.ljust(64, b"\0").hex() == vector["sgx_report_data_64"]


def test_additional_evidence_changes_report_data():
    key = parse_public_jwk(JWK)
    assert report_data("n", key) != report_data("n", key, "{}")


def test_messages_round_trip():
    assert Request.parse(Request("0.4.0", "sgx").to_bytes()) == Request("0.4.0", "sgx")
    assert Challenge.parse(Challenge("nonce").to_bytes()) == Challenge("nonce")
    assert TokenReply.parse(TokenReply("a.b.c").to_bytes()) == TokenReply("a.b.c")
    error = ErrorInformation("PolicyDeny", "Access denied by policy")
    assert ErrorInformation.parse(error.to_bytes()) == error
    for init_data in (None, 'version = "0.1.0"'):
        message = Attestation("n", parse_public_jwk(JWK), {"quote": "AA=="}, init_data=init_data)
        assert Attestation.parse(message.to_bytes()) == message


def test_the_attestation_is_written_as_the_protocol_says():
    message = Attestation("n", parse_public_jwk(JWK), {"quote": "AA=="})
    assert json.loads(message.to_bytes()) == ATTESTATION


@pytest.mark.parametrize("extra", ["", {}, None, {"supported-hash-algorithms": ["sha384"]}])
def test_extra_parameters_may_be_anything(extra):
    request = {"version": "0.4.0", "tee": "sgx", "extra-params": extra}
    assert Request.parse(json.dumps(request).encode()).tee == "sgx"


def test_extra_parameters_must_be_there():
    with pytest.raises(KbsMessageError):
        Request.parse(b'{"version":"0.4.0","tee":"sgx"}')


def test_a_challenge_that_selects_another_hash_is_refused():
    with pytest.raises(KbsMessageError):
        Challenge.parse(b'{"nonce":"n","extra-params":{"selected-hash-algorithm":"sha512"}}')


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("runtime-data",), None),
        (("runtime-data", "nonce"), 7),
        (("runtime-data", "tee-pubkey"), None),
        (("runtime-data", "tee-pubkey"), {**JWK, "y": JWK["x"]}),
        (("tee-evidence",), "text"),
        (("tee-evidence", "primary_evidence"), "text"),
        (("tee-evidence", "additional_evidence"), {}),
        (("init-data",), "text"),
        (("init-data",), {"format": "json", "body": "{}"}),
        (("init-data",), {"format": "toml"}),
    ],
)
def test_an_attestation_with_a_wrong_member_is_refused(path, value):
    with pytest.raises(KbsMessageError):
        Attestation.parse(changed(path, value))


@pytest.mark.parametrize("reason", ["../x", "A B", "", "A" * 65, "é"])
def test_a_reason_that_is_not_a_word_is_refused(reason):
    body = json.dumps({"type": f"https://github.com/confidential-containers/kbs/errors/{reason}"}).encode()
    with pytest.raises(KbsMessageError):
        ErrorInformation.parse(body)


def test_a_message_that_is_too_long_is_refused():
    with pytest.raises(KbsMessageError):
        Request.parse(b" " * (MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize("parse", PARSERS)
@given(
    data=st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_any_bytes_give_a_message_or_the_declared_error(parse, data):
    try:
        parse(data)
    except KbsMessageError:
        return


def test_resource_names_are_read_and_written():
    uri = ResourceUri.parse("kbs:///default/key/1")
    assert (uri.repository, uri.type, uri.tag, uri.path) == ("default", "key", "1", "default/key/1")
    assert ResourceUri.parse(str(uri)) == uri
    assert ResourceUri.parse("kbs+resource:///default/key/1") == uri


@pytest.mark.parametrize("path", ["default/1/2", "123--_default/1Abff-_/___-afds44BC", "1.ok/2ok./3..."])
def test_paths_that_other_brokers_accept_are_accepted(path):
    assert ResourceUri.parse_path(path).path == path


@pytest.mark.parametrize(
    "text",
    [
        "kbs://host/a/b/c",
        "kbs+other:///a/b/c",
        "https:///a/b/c",
        "kbs:////1/2",
        "kbs:///1/2",
        "kbs:///.1.ok/2ok./3...",
        "kbs:///a/b/c/d",
        "kbs:///a/../c",
        "kbs:///a/b/c?x=1",
        "kbs:///a/b/c\n",
        "kbs:///a/b/ü",
        "kbs:///a/b/" + "c" * 600,
        "",
    ],
)
def test_other_names_are_refused(text):
    with pytest.raises(InvalidInputError):
        ResourceUri.parse(text)


@given(st.text(max_size=60))
def test_any_name_is_a_resource_or_the_declared_error(text):
    try:
        assert str(ResourceUri.parse("kbs:///" + text)) == "kbs:///" + text
    except InvalidInputError:
        return
