"""The image commands as a person calls them: results on stdout, talk on stderr, nothing left by a failure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from tests.simulators.programs import elf
from tests.simulators.registry import running_registry
from tests.tenant.conftest import TARS, image_in

from enclave_cc.cli.main import main
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.trustee import admin_access

KID = "kbs:///team/keys/app"
PROGRAM = Path(sys.executable).parent / "enclave-cc"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with an image and two keys, in which commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    image_in(ImageLayout.create(tmp_path / "app"))
    (tmp_path / "image.key").write_bytes(bytes(range(32)))
    (tmp_path / "next.key").write_bytes(bytes(32))
    return tmp_path


@pytest.fixture
def run(place, capsys):
    def call(*arguments, status=0):
        with pytest.raises(SystemExit) as ended:
            main(["image", *arguments])
        captured = capsys.readouterr()
        assert ended.value.code == status, captured.err
        return captured

    return call


def digest(directory):
    layout = ImageLayout.open(Path(directory))
    return str(layout.find().digest)


TO = ("--key", "image.key", "--key-id", KID)


def test_an_image_goes_around_and_comes_back(run):
    with running_registry() as simulator:
        remote = f"{simulator.host}/team/app:v1"
        plain_http = ("--insecure-http", simulator.host)
        encrypted = run("encrypt", "app", remote, *TO, *plain_http).out
        assert encrypted.startswith(f"{remote}@sha256:")
        copied = run("copy", remote, "oci-archive:app.tar", *plain_http).out
        assert copied.rpartition("@")[2] == encrypted.rpartition("@")[2]
        run("decrypt", "oci-archive:app.tar", "oci:back", "--key", "image.key")
        assert digest("back") == digest("app")


def test_the_result_is_one_line_or_one_document(run):
    text = run("encrypt", "app", "oci:one", *TO, "--deterministic").out
    assert text == f"oci:one@{digest('one')}\n"
    document = json.loads(run("encrypt", "app", "oci:two", *TO, "--deterministic", "--output", "json").out)
    assert document["digest"] == digest("one")
    assert (document["target"], document["images"], document["layers"]) == ("oci:two", 1, 2)


def test_an_image_is_rewrapped_in_place(run):
    with running_registry() as simulator:
        remote = f"{simulator.host}/team/app:v1"
        plain_http = ("--insecure-http", simulator.host)
        run("encrypt", "app", remote, *TO, *plain_http)
        simulator.requests.clear()
        add = ("--add-recipient", "kbs:///team/keys/next=next.key")
        told = run(
            "rewrap", remote, remote, "--key", "image.key", *add, "--remove-recipient", KID, *plain_http
        )
        assert "encrypt the image anew" in told.err
        assert simulator.paths("PATCH") == simulator.paths("POST") == []
        run("decrypt", remote, "oci:no", "--key", "image.key", *plain_http, status=77)
        run("decrypt", remote, "oci:back", "--key", "next.key", *plain_http)
        assert digest("back") == digest("app")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("encrypt", "app", "oci:x"), 65, "recipient-missing"),
        (("encrypt", "app", "oci:x", "--key", "image.key"), 65, "recipient-missing"),
        (("encrypt", "app", "oci:x", "--key-id", KID), 65, "recipient-missing"),
        (("encrypt", "app", "oci:x", "--key", "none", "--key-id", KID), 65, "file-unusable"),
        (("encrypt", "app", "oci:x", *TO, "--platform", "linux"), 65, "platform-invalid"),
        (("encrypt", "none.example/a:b", "oci:x", *TO), 69, "registry-proxy-failed"),
        (("encrypt", "app", "oci-archive:", *TO), 65, "image-place-invalid"),
        (("encrypt", "app", "docker-archive:x.tar", *TO), 65, "image-place-unfit"),
        (("copy", "app", "docker-archive:x:NO NAME"), 65, "reference-invalid"),
        (("decrypt", "app", "oci:x", "--key", "image.key"), 65, "image-not-encrypted"),
    ],
)
def test_what_cannot_be_done_says_why_and_leaves_nothing(run, place, arguments, status, code):
    before = sorted(place.iterdir())
    assert f"[{code}," in run(*arguments, status=status).err
    assert sorted(place.iterdir()) == before


def test_progress_can_be_read_by_a_program(run):
    told = run("copy", "app", "oci:x", "--progress", "json").err
    events = [json.loads(line) for line in told.splitlines()]
    assert [event["event"] for event in events].count("end") == 3
    assert run("copy", "app", "oci:y", "--quiet").err == ""


def test_an_interrupted_command_leaves_nothing(place):
    """A registry that never ends a blob; the command is interrupted while it waits."""
    with running_registry() as simulator:
        remote = f"{simulator.host}/team/app:v1"
        environment = {**os.environ, "NO_COLOR": "1"}
        base = [PROGRAM, "image", "copy"]
        plain_http = ["--insecure-http", simulator.host]
        subprocess.run([*base, "app", remote, *plain_http], env=environment, check=True, capture_output=True)
        before = sorted(place.iterdir())
        simulator.trickle_s = 0.05
        process = subprocess.Popen(
            [*base, remote, "oci:x", *plain_http], env=environment, stderr=subprocess.PIPE, cwd=place
        )
        deadline = time.monotonic() + 30
        while sorted(place.iterdir()) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 130, told
        assert sorted(place.iterdir()) == before


@pytest.fixture
def broker(monkeypatch):
    """What a broker holds that takes everything."""
    held = {}

    class Client:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def list_resources(self):
            return tuple(held)

        def put_resource(self, uri, value):
            held[uri.path] = value

    class Access:
        @staticmethod
        def read(path):
            return Access

        @staticmethod
        def client():
            return Client()

    monkeypatch.setattr(admin_access, "AdminAccess", Access)
    return held


def test_a_key_is_made_once_and_given_to_the_broker(run, place, broker):
    made = ("--create-key", "--key", "made.key", "--key-id", KID)
    run("encrypt", "app", "oci:x", *made)
    assert broker == {"team/keys/app": (place / "made.key").read_bytes()}
    assert (place / "made.key").stat().st_mode & 0o777 == 0o600
    run("decrypt", "oci:x", "oci:back", "--key", "made.key")
    assert digest("back") == digest("app")
    again = ("--create-key", "--key-id", KID)
    assert "[key-exists," in run("encrypt", "app", "oci:y", *again, status=65).err
    assert not (place / "y").exists()


def test_a_failed_encryption_takes_no_name_in_the_broker(run, place, broker):
    made = ("--create-key", "--key", "made.key", "--key-id", KID)
    for source, status in (("oci:nowhere", 65), ("none.example/a:b", 69)):
        run("encrypt", source, "oci:x", *made, status=status)
        assert broker == {}
        assert not (place / "made.key").exists()
    run("encrypt", "app", "oci:x", *made)
    assert broker == {"team/keys/app": (place / "made.key").read_bytes()}


def test_an_image_is_encrypted_for_a_key_pair(run, place):
    private = rsa.generate_private_key(65537, 2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (place / "private.pem").write_bytes(pem)
    (place / "public.pem").write_bytes(
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    run("encrypt", "app", "oci:x", *TO, "--recipient", "jwe:public.pem")
    run("decrypt", "oci:x", "oci:back", "--key", "private.pem")
    assert digest("back") == digest("app")


def test_a_saved_image_is_encrypted(run, place):
    image_in(ImageLayout.create(place / "three"), tars=(*TARS, LayerBuilder().file("c", b"c").tar()))
    run("copy", "three", "docker-archive:saved.tar:app:v1")
    run("encrypt", "docker-archive:saved.tar", "oci:x", *TO)
    run("decrypt", "oci:x", "docker-archive:back.tar:app:v1", "--key", "image.key")
    assert (place / "back.tar").read_bytes() == (place / "saved.tar").read_bytes()


@pytest.fixture
def keys(run):
    run("keygen", "keys")
    return ("--sign", "keys/cosign.key", "--repository", "registry.example/team/app")


NAMED = ("--as", "registry.example/team/app:v1")


def test_an_image_is_encrypted_and_signed_in_one_step(run, keys):
    run("encrypt", "app", "oci:x", *TO, *keys)
    told = run("inspect", "oci:x", "--key", "keys/cosign.pub", *NAMED, "--require", "encrypted,signed").out
    assert told.count("yes") == 2
    assert "policy: accepted" in told
    assert "tag, by SHA256:" in told or "tag, by sha256:" in told
    assert "bundle, by" in told


def test_signing_again_keeps_the_signatures_that_are_there(run, keys):
    for _ in range(2):
        run("encrypt", "app", "oci:x", *TO, "--deterministic", *keys)
    document = json.loads(run("inspect", "oci:x", "--output", "json").out)
    forms = [signature["form"] for signature in document["images"][0]["signatures"]]
    assert (forms.count("tag"), len(document["images"])) == (2, 1)


def test_what_is_required_and_missing_is_an_answer(run, keys):
    told = run("inspect", "app", "--require", "encrypted,signed", status=1).out
    assert "NOT encrypted" in told
    assert "NOT signed" in told
    assert told.count("signatures: 0") == 1
    run("encrypt", "app", "oci:x", *TO)
    assert "NOT signed" in run("inspect", "oci:x", "--require", "signed,encrypted", status=1).out
    run("inspect", "oci:x", "--require", "encrypted")
    assert "[requirement-unknown," in run("inspect", "oci:x", "--require", "nice", status=65).err


def test_a_policy_that_refuses_is_an_answer(run, keys):
    run("encrypt", "app", "oci:x", *TO, *keys)
    run("keygen", "others")
    told = run("inspect", "oci:x", "--key", "others/cosign.pub", *NAMED, status=1).out
    assert "policy: REFUSED" in told
    assert "not verified" in told
    elsewhere = ("--as", "registry.example/team/other:v1")
    assert "REFUSED" in run("inspect", "oci:x", "--key", "keys/cosign.pub", *elsewhere, status=1).out


def test_an_inspection_is_a_documented_document(run, keys):
    run("encrypt", "app", "oci:x", *TO, *keys)
    document = json.loads(run("inspect", "oci:x", "--key", "keys/cosign.pub", *NAMED, "--output", "json").out)
    assert document.keys() == {
        "image",
        "digest",
        "media_type",
        "encrypted",
        "signed",
        "signatures",
        "images",
        "missing",
        "answers",
    }
    (image,) = document["images"]
    assert image["platform"] == "linux/amd64"
    assert image["layers"][0].keys() == {
        "digest",
        "size",
        "media_type",
        "encrypted",
        "schemes",
        "key_ids",
    }
    assert image["layers"][0]["key_ids"] == [KID]
    assert {signature["names"][0] for signature in image["signatures"]} == {"registry.example/team/app"}
    assert document["answers"][0]["accepted"] is True


def test_a_signed_image_is_pushed_with_its_signatures(run, keys):
    run("encrypt", "app", "oci:x", *TO, *keys)
    with running_registry() as simulator:
        plain_http = ("--insecure-http", simulator.host)
        remote = f"{simulator.host}/team/app:v1"
        run("push", "x", remote, *plain_http)
        run("verify", remote, "--key", "keys/cosign.pub", *NAMED, *plain_http)
        run("encrypt", "app", remote, *TO, "--sign", "keys/cosign.key", *plain_http)
        run("verify", remote, "--key", "keys/cosign.pub", "--require-encrypted", *plain_http)


def test_an_archive_comes_through_a_pipe(run, place):
    """As in ``docker save app | enclave-cc image encrypt docker-archive:/dev/stdin …``."""
    run("copy", "app", "docker-archive:saved.tar")
    command = [PROGRAM, "image", "encrypt", "docker-archive:/dev/stdin", "oci:x", *TO, "--compress", "zstd"]
    saved = (place / "saved.tar").read_bytes()
    subprocess.run(command, input=saved, check=True, capture_output=True, cwd=place)
    layout = ImageLayout.open(place / "x")
    kinds = {layer.media_type for layer in layout.read_manifest(layout.find()).layers}
    assert kinds == {"application/vnd.oci.image.layer.v1.tar+zstd+encrypted"}


def test_an_image_that_will_not_run_is_an_answer(run, place):
    told = run("check", "app", status=1).out
    assert "WILL NOT RUN" in told
    assert "command.not-found" in told
    document = json.loads(run("check", "app", "--output", "json", "--quiet", status=1).out)
    assert document.keys() == {"image", "images"}
    assert document["images"][0].keys() == {"platform", "digest", "runs", "complete", "problems"}
    layer = LayerBuilder().file("bin/app", elf(), mode=0o755).file("etc/passwd", b"app:x:1:1::/:\n").tar()
    image_in(ImageLayout.create(place / "sound"), tars=(layer,))
    assert "will run" in run("check", "sound").out
    run("encrypt", "sound", "oci:x", *TO)
    assert "nothing is wrong so far" in run("check", "oci:x").out
    assert "will run" in run("check", "oci:x", "--key", "image.key").out
