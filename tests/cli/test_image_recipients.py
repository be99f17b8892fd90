"""Recipients and keys at the command line: private keys, key providers, several at once."""

import json
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from tests.tenant.conftest import image_in

from enclave_cc.cli.main import main
from enclave_cc.tenant.places.image_layout import ImageLayout

KID = "kbs:///team/keys/app"
PROVIDER = """
import base64, json, sys
request = json.load(sys.stdin)
if request["op"] == "keywrap":
    print(json.dumps({"keywrapresults": {"annotation": request["keywrapparams"]["optsdata"]}}))
else:
    print(json.dumps({"keyunwrapresults": {"optsdata": request["keyunwrapparams"]["annotation"]}}))
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    image_in(ImageLayout.create(tmp_path / "app"))
    (tmp_path / "image.key").write_bytes(bytes(range(32)))
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    (tmp_path / "owner.key").write_bytes(locked)
    (tmp_path / "word").write_text("word\n")
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "owner.pub").write_bytes(public)
    program = {"cmd": {"path": sys.executable, "args": ["-c", PROVIDER]}}
    (tmp_path / "providers.json").write_text(json.dumps({"key-providers": {"open": program}}))
    monkeypatch.setenv("OCICRYPT_KEYPROVIDER_CONFIG", "providers.json")

    def call(*arguments, status=0):
        with pytest.raises(SystemExit) as ended:
            main(["image", *arguments])
        captured = capsys.readouterr()
        assert ended.value.code == status, captured.err
        return captured

    return call


def digest(directory):
    return str(ImageLayout.open(Path(directory)).find().digest)


OPENERS = [
    ("--key", "owner.key", "--key-password-file", "word"),
    ("--key", "image.key"),
    ("--key", f"{KID}=image.key"),
    ("--key", "provider:open"),
]


def test_each_of_several_recipients_gives_the_plain_image_back(run):
    recipients = ("--recipient", "jwe:owner.pub", "--recipient", f"{KID}=image.key")
    run("encrypt", "app", "oci:x", *recipients, "--recipient", "provider:open:a=b")
    for number, opener in enumerate(OPENERS):
        run("decrypt", "oci:x", f"oci:back{number}", *opener)
        assert digest(f"back{number}") == digest("app")


def test_a_recipient_is_added_with_the_key_of_another(run):
    run("encrypt", "app", "oci:x", "--recipient", "provider:open")
    assert "[layer-key-refused," in run("decrypt", "oci:x", "oci:no", "--key", "image.key", status=77).err
    run("rewrap", "oci:x", "oci:y", "--key", "provider:open", "--add-recipient", f"{KID}=image.key")
    run("decrypt", "oci:y", "oci:back", "--key", "image.key")
    assert digest("back") == digest("app")


def test_a_password_is_never_guessed(run):
    run("encrypt", "app", "oci:x", "--recipient", "jwe:owner.pub")
    assert "[password-missing," in run("decrypt", "oci:x", "oci:no", "--key", "owner.key", status=65).err


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--key", "image.key"), "recipient-missing"),
        (("--key-id", KID), "recipient-missing"),
        (("--create-key", "--recipient", "jwe:owner.pub"), "recipient-missing"),
        ((), "recipient-missing"),
        (("--recipient", KID), "recipient-invalid"),
        (("--recipient", "provider:other"), "keyprovider-config-invalid"),
        (("--recipient", "jwe:nowhere"), "file-unusable"),
    ],
)
def test_it_must_be_said_who_shall_open_the_image(run, options, code):
    assert f"[{code}," in run("encrypt", "app", "oci:x", *options, status=65).err
    assert not Path("x").exists()


def test_a_key_provider_needs_a_key(run):
    assert "[keyprovider-config-invalid," in run("keyprovider", "serve", status=65).err


def test_a_key_provider_listens_on_this_machine_only(run):
    options = ("--key", f"{KID}=image.key", "--listen", "0.0.0.0:0")
    assert "[keyprovider-config-invalid," in run("keyprovider", "serve", *options, status=65).err


def test_images_of_others_open_with_the_switch_that_their_wrapping_needs(run, vectors):
    encrypted, kek = f"oci:{vectors}/oci/oci-encrypted", str(vectors / "oci" / "kek.bin")
    assert "A256CTR" in run("decrypt", encrypted, "oci:no", "--key", kek, status=77).err
    run("decrypt", encrypted, "oci:back", "--key", kek, "--insecure-allow-a256ctr")
    back = ImageLayout.open(Path("back"))
    types = [layer.media_type for layer in back.read_manifest(back.find()).layers]
    assert types == ["application/vnd.oci.image.layer.v1.tar+gzip"] * 3
