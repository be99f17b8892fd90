"""Recipients and keys as people write them."""

import json
import stat
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.ocicrypt.layer_cipher import PUBLIC_OPTIONS_ANNOTATION, PrivateOptions, PublicOptions
from enclave_cc.formats.ocicrypt.wrapping import wrapped_annotations
from enclave_cc.image.checks import Checks
from enclave_cc.tenant.keys.decryption_keys import open_key_ring
from enclave_cc.tenant.keys.recipients import RecipientOptions, parse_recipients

KID, OTHER = "kbs:///team/keys/app", "kbs:///team/keys/other"
OPTIONS = PrivateOptions.fresh(Digest.of(b"x"))
EC = ec.generate_private_key(ec.SECP256R1())
# Wraps by putting the document into brackets, which is no secret and easy to check.
PROVIDER = """
import base64, json, sys
request = json.load(sys.stdin)
if request["op"] == "keywrap":
    data = b"[" + base64.b64decode(request["keywrapparams"]["optsdata"]) + b"]"
    print(json.dumps({"keywrapresults": {"annotation": list(data)}}))
else:
    data = base64.b64decode(request["keyunwrapparams"]["annotation"])[1:-1]
    print(json.dumps({"keyunwrapresults": {"optsdata": base64.b64encode(data).decode()}}))
"""


class Store:
    """A broker that keeps what is new."""

    def __init__(self, *names):
        self.keys = dict.fromkeys(names, b"")
        self.broken = False

    def require_new(self, uri):
        if str(uri) in self.keys:
            raise InvalidInputError("key-exists", "no", stage=Stage.CONFIG)

    def create(self, uri, key):
        self.require_new(uri)
        if self.broken:
            raise UnavailableError("broker-unavailable", "no", stage=Stage.BROKER)
        self.keys[str(uri)] = bytes(key.reveal())


@pytest.fixture
def files(tmp_path):
    (tmp_path / "kek").write_bytes(bytes(32))
    (tmp_path / "short").write_bytes(bytes(31))
    (tmp_path / "ec.key").write_bytes(EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    locked = EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    (tmp_path / "locked.key").write_bytes(locked)
    public = EC.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "ec.pub").write_bytes(public)
    program = {"cmd": {"path": sys.executable, "args": ["-c", PROVIDER]}}
    (tmp_path / "providers.json").write_text(json.dumps({"key-providers": {"brackets": program}}))
    return tmp_path


def layer_for(recipients):
    annotations = wrapped_annotations(OPTIONS, recipients)
    public = PublicOptions(bytes(32)).encode()
    return Descriptor("t", Digest.of(b"y"), 1, {PUBLIC_OPTIONS_ANNOTATION: public, **annotations})


def failure(function, *arguments, **options):
    with pytest.raises(EnclaveCcError) as caught:
        function(*arguments, **options)
    return caught.value.code


@pytest.mark.parametrize(
    ("recipient", "key"),
    [
        (f"{KID}={{}}/kek", f"{KID}={{}}/kek"),
        (f"{KID}={{}}/kek", "{}/kek"),
        ("jwe:{}/ec.pub", "{}/ec.key"),
        ("provider:brackets", "provider:brackets"),
        ("provider:brackets:a=b::c:d", "provider:brackets"),
    ],
)
def test_whoever_was_named_as_recipient_opens_the_layer(files, recipient, key):
    config = files / "providers.json"
    recipients = parse_recipients([recipient.format(files)], RecipientOptions(keyprovider_config=config))
    ring = open_key_ring([key.format(files)], keyprovider_config=config)
    assert ring.unwrap(layer_for(recipients), Checks()).private == OPTIONS


def test_one_key_file_goes_with_one_unnamed_key(files):
    options = RecipientOptions(key_file=files / "kek")
    assert [recipient.kid for recipient in parse_recipients([KID], options)] == [KID]
    assert failure(parse_recipients, [KID, OTHER], options) == "recipient-invalid"
    assert failure(parse_recipients, [f"jwe:{files}/ec.pub"], options) == "recipient-invalid"


def test_new_keys_are_stored_and_their_recipients_keep_their_place(files):
    store = Store()
    texts = [KID, f"jwe:{files}/ec.pub", OTHER]
    recipients = parse_recipients(texts, RecipientOptions(new_keys=store))
    assert [getattr(recipient, "kid", None) for recipient in recipients] == [KID, None, OTHER]
    assert {kid: len(key) for kid, key in store.keys.items()} == {KID: 32, OTHER: 32}
    assert store.keys[KID] != store.keys[OTHER]


def test_a_new_key_is_kept_in_a_private_file_too_if_asked_for(files):
    store, copy = Store(), files / "new"
    parse_recipients([KID], RecipientOptions(key_file=copy, new_keys=store))
    assert copy.read_bytes() == store.keys[KID]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert failure(parse_recipients, [OTHER], RecipientOptions(copy, store)) == "file-unusable"
    assert OTHER not in store.keys


def test_no_key_is_made_when_another_recipient_cannot_be_used(files):
    store = Store()
    assert (
        failure(parse_recipients, [KID, "jwe:/nowhere"], RecipientOptions(new_keys=store)) == "file-unusable"
    )
    assert store.keys == {}


def test_a_key_that_is_there_is_not_replaced(files):
    options = RecipientOptions(files / "new", Store(KID))
    assert failure(parse_recipients, [KID], options) == "key-exists"
    assert not (files / "new").exists()


def test_no_file_is_left_for_a_key_that_no_broker_has(files):
    store = Store()
    store.broken = True
    assert failure(parse_recipients, [KID], RecipientOptions(files / "new", store)) == "broker-unavailable"
    assert not (files / "new").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (KID, "recipient-invalid"),
        (f"{KID}={{}}/short", "image-key-invalid"),
        (f"{KID}=/nowhere", "file-unusable"),
        ("kbs:///a/b=/nowhere", "resource-uri-invalid"),
        ("kbs://broker.example/a/b/c=/nowhere", "resource-uri-invalid"),
        ("jwe:{}/ec.key", "recipient-invalid"),
        ("jwe:", "file-unusable"),
        ("pkcs7:{}/ec.pub", "recipient-invalid"),
        ("pgp:a@b.example", "recipient-invalid"),
        ("", "recipient-invalid"),
        ("provider:", "recipient-invalid"),
        ("provider:../x", "recipient-invalid"),
        ("provider:unknown", "keyprovider-config-invalid"),
    ],
)
def test_what_is_no_recipient_is_refused(files, text, code):
    options = RecipientOptions(keyprovider_config=files / "providers.json")
    assert failure(parse_recipients, [text.format(files)], options) == code


def test_a_password_is_asked_for_only_where_one_is_needed(files):
    asked = []

    def password(path):
        asked.append(path.name)
        return b"word"

    layer = layer_for(parse_recipients([f"jwe:{files}/ec.pub"], RecipientOptions()))
    for name in ("ec.key", "locked.key"):
        assert open_key_ring([f"{files}/{name}"], password=password).unwrap(layer, Checks())
    assert asked == ["locked.key"]
    assert failure(open_key_ring, [f"{files}/locked.key"]) == "decryption-key-invalid"
    assert (
        failure(open_key_ring, [f"{files}/locked.key"], password=lambda _: b"x") == "decryption-key-invalid"
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (KID, "recipient-invalid"),
        ("/nowhere", "file-unusable"),
        ("{}/ec.pub", "decryption-key-invalid"),
        ("{}/short", "decryption-key-invalid"),
        ("provider:unknown", "keyprovider-config-invalid"),
    ],
)
def test_what_is_no_key_is_refused(files, text, code):
    assert failure(open_key_ring, [text.format(files)], keyprovider_config=files / "providers.json") == code


def test_a_key_that_was_not_given_is_named(files):
    layer = layer_for(parse_recipients([f"{OTHER}={files}/kek"], RecipientOptions()))
    checks = Checks()
    with pytest.raises(RefusedError) as caught:
        open_key_ring([f"{KID}={files}/kek"]).unwrap(layer, checks)
    assert f"--key {OTHER}=FILE" in caught.value.detail


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        '{"key-providers": {"x": 7}}',
        '{"key-providers": {"x": {}}}',
        '{"key-providers": {"x": {"ttrpc": "unix:///x"}}}',
        '{"key-providers": {"x": {"cmd": {"args": []}}}}',
        '{"key-providers": {"x": {"grpc": "127.0.0.1:1", "grpc-tls": {"insecure-skip-verify": true}}}}',
        '{"key-providers": {"x": {"grpc": "127.0.0.1:1", "grpc-tls": {"other": 1}}}}',
    ],
)
def test_a_configuration_that_names_no_usable_provider_is_refused(tmp_path, config):
    (tmp_path / "providers.json").write_text(config)
    options = RecipientOptions(keyprovider_config=tmp_path / "providers.json")
    assert failure(parse_recipients, ["provider:x"], options) == "keyprovider-config-invalid"


def test_without_a_configuration_there_are_no_providers():
    assert failure(parse_recipients, ["provider:x"], RecipientOptions()) == "keyprovider-config-invalid"
