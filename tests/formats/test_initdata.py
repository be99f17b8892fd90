"""initdata: what it must look like, what it means, and that no bytes do anything else."""

from __future__ import annotations

import base64
import gzip
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.initdata import InitData, decode_annotation, encode_annotation, initdata_digest
from enclave_cc.formats.owner import bounded_toml

TOKEN_KEY = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"


def text_of(settings, algorithm="sha256", version="0.1.0"):
    head = f'version = "{version}"\nalgorithm = "{algorithm}"\n\n[data]\n'
    return f"{head}\"enclave-cc.toml\" = '''\n{settings}'''\n"


def settings_of(settings):
    return InitData.parse(text_of(settings)).settings


FULL = f'''
[broker]
url = "https://broker.example:8443"
tls_ca = "pem"
token_key = """{TOKEN_KEY}"""
[image]
signature_policy = "kbs:///default/policy/image"
require_encrypted = true
insecure_http_registries = ["registry.example:5000"]
registry_credentials = "kbs:///default/credentials/registry"
[workload]
exec = true
args = [["/bin/sh", "-c", "id"], ["/bin/true"]]
env = ["LOG_*"]
mounts = ["/data", "/data/*"]
'''


def test_all_settings_are_read():
    settings = settings_of(FULL)
    assert settings.broker_url == "https://broker.example:8443"
    assert settings.broker_tls_ca == "pem"
    assert settings.broker_token_key == TOKEN_KEY
    assert settings.signature_policy == "kbs:///default/policy/image"
    assert settings.require_encrypted
    assert settings.insecure_http_registries == ("registry.example:5000",)
    assert settings.workload.args == (("/bin/sh", "-c", "id"), ("/bin/true",))
    assert settings.workload.exec
    assert settings.workload.env == ("LOG_*",)
    assert settings.workload.mounts == ("/data", "/data/*")


def test_an_owner_who_says_nothing_allows_nothing_beyond_the_image():
    settings = settings_of("")
    assert settings.broker_url is None
    assert not settings.insecure_accept_unsigned
    workload = settings.workload
    assert (workload.exec, workload.args, workload.env, workload.mounts) == (False, "image", (), ())
    assert not workload.insecure_unrestricted
    assert settings.weaknesses() == ()


def test_a_pod_without_initdata_has_no_broker_no_policy_and_an_unrestricted_workload():
    empty = InitData.parse(b"")
    assert empty == InitData.empty()
    assert empty.digest == b""
    assert empty.settings.broker_url is None
    assert empty.settings.signature_policy == ""
    assert not empty.settings.insecure_accept_unsigned
    assert empty.settings.workload.insecure_unrestricted
    assert "insecure_unrestricted_workload" in empty.settings.weaknesses()


def test_initdata_of_others_without_our_settings_has_the_strict_defaults():
    text = 'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n"aa.toml" = "x"\n'
    assert InitData.parse(text).settings == settings_of("")


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_the_digest_is_over_the_raw_text_with_the_named_algorithm(algorithm):
    text = text_of("", algorithm=algorithm).encode()
    assert initdata_digest(text) == hashlib.new(algorithm, text).digest()
    assert InitData.parse(text).digest == initdata_digest(text)


def test_a_changed_space_changes_the_digest():
    text = text_of("")
    assert initdata_digest(text) != initdata_digest(text + "\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("version", text_of("", version="0.2.0")),
        ("algorithm", text_of("", algorithm="sm3")),
        ("unknown member", 'version="0.1.0"\nalgorithm="sha256"\nextra=1\n'),
        ("data that is no text", 'version="0.1.0"\nalgorithm="sha256"\n[data]\na=1\n'),
        ("not TOML", "{"),
        ("not UTF-8", b"\xff"),
        ("a surrogate", "\ud800"),
        ("unknown table", text_of("[other]\n")),
        ("unknown broker member", text_of('[broker]\nurls = "x"\n')),
        ("unknown image member", text_of("[image]\nrequire_signed = true\n")),
        ("unknown workload member", text_of("[workload]\nexecs = true\n")),
        ("token key missing", text_of('[broker]\nurl = "https://b.example"\n')),
        ("token key without broker", text_of('[broker]\ntoken_key = "x"\n')),
        ("token key that is none", text_of('[broker]\nurl = "https://b.example"\ntoken_key = "x"\n')),
        ("http broker", text_of(f'[broker]\nurl = "http://b.example"\ntoken_key = """{TOKEN_KEY}"""\n')),
        ("broker of another scheme", text_of(f'[broker]\nurl = "ftp://b"\ntoken_key = """{TOKEN_KEY}"""\n')),
        ("policy that is no resource", text_of('[image]\nsignature_policy = "https://x.example"\n')),
        ("args of another word", text_of('[workload]\nargs = "all"\n')),
        ("args without a command", text_of("[workload]\nargs = []\n")),
        ("an empty command", text_of("[workload]\nargs = [[]]\n")),
        ("a command that is no list", text_of('[workload]\nargs = ["x"]\n')),
        ("a word that is no text", text_of("[workload]\nargs = [[1]]\n")),
        ("env that is no list", text_of('[workload]\nenv = "X"\n')),
        ("too many names", text_of(f"[workload]\nenv = {['X'] * 257}\n".replace("'", '"'))),
        ("nested too deeply", "a = " + "[" * 100_000),
        ("a key of many parts", ".".join("a" * 100_000) + " = 1"),
        ("too long", b"#" * (bounded_toml.MAX_TOML_BYTES + 1)),
    ],
)
def test_doubtful_initdata_is_refused(name, text):
    with pytest.raises(InvalidInputError) as caught:
        InitData.parse(text)
    assert caught.value.code == "initdata-invalid"
    assert caught.value.detail
    assert caught.value.detail not in str(caught.value)


def test_a_http_broker_needs_the_owners_word_and_shows_as_a_weakness():
    settings = settings_of(
        f'[broker]\nurl = "http://b.example"\ninsecure_http = true\ntoken_key = """{TOKEN_KEY}"""\n'
    )
    assert settings.broker_url == "http://b.example"
    assert settings.weaknesses() == ("insecure_broker_http",)


def test_annotations_round_trip_and_are_reproducible():
    text = text_of(FULL)
    assert decode_annotation(encode_annotation(text)) == text.encode()
    assert encode_annotation(text) == encode_annotation(text)


def test_annotations_may_be_plain_base64_or_plain_text():
    text = text_of(FULL)
    assert decode_annotation(base64.b64encode(text.encode()).decode()) == text.encode()
    assert decode_annotation(text) == text.encode()


@pytest.mark.parametrize(
    "value",
    [
        base64.b64encode(gzip.compress(b"x" * (bounded_toml.MAX_TOML_BYTES + 1))).decode(),
        base64.b64encode(gzip.compress(b"x")[:-3]).decode(),
        base64.b64encode(gzip.compress(b"x") + b"y").decode(),
        base64.b64encode(b"\x1f\x8b nonsense").decode(),
        "x" * (2 << 20),
    ],
    ids=["bomb", "truncated", "trailing", "damaged", "long"],
)
def test_doubtful_annotations_are_refused(value):
    with pytest.raises(InvalidInputError):
        decode_annotation(value)


@given(st.binary(max_size=512) | st.text(max_size=512))
def test_no_text_raises_anything_but_the_declared_error(text):
    for function in (InitData.parse, initdata_digest):
        try:
            function(text)
        except InvalidInputError as error:
            assert error.code == "initdata-invalid"  # noqa: PT017


@given(st.text(max_size=256))
def test_no_settings_raise_anything_but_the_declared_error(settings):
    try:
        InitData.parse(text_of(settings.replace("'''", "")))
    except InvalidInputError as error:
        assert error.code == "initdata-invalid"  # noqa: PT017


@given(st.text(max_size=256))
def test_no_annotation_raises_anything_but_the_declared_error(value):
    try:
        decode_annotation(value)
    except InvalidInputError as error:
        assert error.code == "initdata-invalid"  # noqa: PT017
