"""`image keygen`, `image sign` and `image verify` as a person calls them."""

import io
import json
import os
import pty
import sys
from pathlib import Path

import pytest
from pysequoia import Tsk
from pysequoia import sign as openpgp_sign
from tests.simulators.registry import running_registry
from tests.simulators.sigstore import ISSUER, SIGNER, SigstoreSimulator
from tests.tenant.conftest import image_in

from enclave_cc.cli.image import passwords
from enclave_cc.cli.main import main
from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.claim import PayloadType, SignedClaim
from enclave_cc.formats.sigstore.bundle import BUNDLE_MEDIA_TYPE
from enclave_cc.formats.sigstore.statement import write_statement
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.opening import open_writer
from enclave_cc.transport.registry.lookaside import signature_path

NAME = "registry.example/team/app"
AS = ("--as", f"{NAME}:v1")
KEYS = ("--key", "keys/cosign.key")
PUBLIC = ("--key", "keys/cosign.pub")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call a command in a directory with an image and keys; return what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(passwords.VARIABLE, raising=False)

    def call(*arguments, status=0):
        with pytest.raises(SystemExit) as ended:
            main(["image", *arguments])
        captured = capsys.readouterr()
        assert ended.value.code == status, captured.out + captured.err
        return captured

    image_in(ImageLayout.create(tmp_path / "app"))
    call("keygen", "keys")
    return call


def _digest():
    return ImageLayout.open(Path("app")).find().digest


def test_what_was_signed_is_accepted_and_says_why(run):
    run("sign", "app", "--repository", NAME, *KEYS)
    shown = run("verify", "app", *AS, *PUBLIC).out
    assert f"{NAME}:v1: accepted" in shown
    assert "image.signature.identity" in shown
    answer = json.loads(run("verify", "app", *AS, *PUBLIC, "--output", "json").out)
    assert answer["accepted"] is True
    assert answer["manifest_digest"] == str(_digest())


def test_a_no_is_exit_status_one_with_a_table_and_a_remedy(run):
    shown = run("verify", "app", *AS, *PUBLIC, status=1).out
    assert "REFUSED: the image is not signed [signature-missing]" in shown
    assert "at least 1 signature" in shown
    assert "what to do: sign the image" in shown
    answer = json.loads(run("verify", "app", *AS, *PUBLIC, "--output", "json", status=1).out)
    assert (answer["accepted"], answer["code"]) == (False, "signature-missing")


def test_another_name_or_key_is_a_no(run):
    run("sign", "app", "--repository", NAME, *KEYS)
    run("verify", "app", "--as", "registry.example/team/other:v1", *PUBLIC, status=1)
    run("verify", "app", "--as", "registry.example/x:v1", *PUBLIC, "--insecure-any-name")
    run("keygen", "others")
    run("verify", "app", *AS, "--key", "others/cosign.pub", status=1)
    run("verify", "app", *AS, "--key", "others/cosign.pub", *PUBLIC)


def test_the_brokers_policy_is_evaluated_with_files_in_place_of_resources(run, tmp_path):
    requirement = {"type": "sigstoreSigned", "keyPath": "kbs:///team/keys/cosign.pub"}
    (tmp_path / "policy.json").write_text(json.dumps({"default": [requirement]}))
    run("sign", "app", "--repository", NAME, *KEYS, "--form", "bundle")
    stand_in = ("--resource", "kbs:///team/keys/cosign.pub=keys/cosign.pub")
    run("verify", "app", *AS, "--policy", "policy.json", *stand_in)
    assert "file-unusable" in run("verify", "app", *AS, "--policy", "policy.json", status=65).err


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "app", *AS),
        ("verify", "app", *AS, *PUBLIC, "--policy", "policy.json"),
        ("verify", "app", *PUBLIC),
        ("verify", "app", *AS, "--trusted-root", "root.json"),
        ("verify", "app", *AS, "--key", "missing.pub"),
        ("verify", "app", *AS, *KEYS),
        ("sign", "app", *KEYS),
        ("sign", "app", "--repository", "NO NAME", *KEYS),
        ("sign", "app", "--repository", NAME, *PUBLIC),
        ("sign", "missing", "--repository", NAME, "--key", "missing.key"),
    ],
)
def test_what_makes_no_sense_is_bad_input(run, arguments):
    assert "what to do" in run(*arguments, status=65).err


def test_an_archive_is_not_signed_in_place(run, tmp_path):
    run("copy", "app", "oci-archive:app.tar")
    before = (tmp_path / "app.tar").read_bytes()
    shown = run("sign", "oci-archive:app.tar", "--repository", NAME, *KEYS, status=65).err
    assert "image-place-invalid" in shown
    assert (tmp_path / "app.tar").read_bytes() == before


def test_signing_in_a_registry_needs_no_name(run):
    with running_registry() as registry:
        remote, plain = f"{registry.host}/team/app:v1", ("--insecure-http", registry.host)
        run("push", "app", remote, *plain)
        run("sign", remote, *KEYS, *plain)
        run("verify", remote, *PUBLIC, *plain)
        signed = json.loads(run("sign", remote, *KEYS, *plain, "--output", "json").out)
    assert signed["signed"] == [str(_digest())]


def test_keyless_signatures_are_verified_against_a_pinned_root(run, tmp_path):
    sigstore = SigstoreSimulator()
    bundle = json.dumps(sigstore.sign_statement(write_statement(SignedClaim(_digest(), NAME)))).encode()
    with open_writer("oci:app") as writer:
        blob = Descriptor(BUNDLE_MEDIA_TYPE, *writer.add_blob([bundle]))
        empty = Descriptor("application/vnd.oci.empty.v1+json", *writer.add_blob([b"{}"]))
        artifact = Manifest(empty, (blob,), artifact_type=BUNDLE_MEDIA_TYPE)
        writer.add_referrer(_digest(), writer.add_manifest(artifact.to_bytes(), artifact.media_type))
    (tmp_path / "root.json").write_bytes(sigstore.trusted_root())
    root = ("--trusted-root", "root.json", "--certificate-oidc-issuer", ISSUER, "--certificate-identity")
    run("verify", "app", *AS, *root, SIGNER)
    assert "signature-signer-refused" in run("verify", "app", *AS, *root, "x@y.example", status=1).out


def test_openpgp_signatures_are_read_from_a_directory(run, tmp_path):
    key = Tsk.generate("owner@team.example")
    payload = SignedClaim(_digest(), AS[1]).to_bytes(PayloadType.ATOMIC)
    path = tmp_path / "store" / signature_path(Reference.parse(AS[1]), _digest(), 1)
    path.parent.mkdir(parents=True)
    path.write_bytes(openpgp_sign(key.signer(), payload, armor=False))
    (tmp_path / "ring.gpg").write_bytes(bytes(key.extract_certificate()))
    signed_by = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "ring.gpg"}
    (tmp_path / "policy.json").write_text(json.dumps({"default": [signed_by]}))
    run("verify", "app", *AS, "--policy", "policy.json", "--lookaside", "store")
    run("verify", "app", *AS, "--policy", "policy.json", status=1)


def test_a_key_may_be_encrypted_with_a_password_from_a_file_or_the_environment(run, tmp_path, monkeypatch):
    (tmp_path / "word").write_text("correct horse\n")
    run("keygen", "safe", "--password-file", "word")
    sign = ("sign", "app", "--repository", NAME, "--key", "safe/cosign.key")
    assert b"ENCRYPTED SIGSTORE" in (tmp_path / "safe" / "cosign.key").read_bytes()
    run(*sign, "--password-file", "word")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert "password-missing" in run(*sign, status=65).err
    monkeypatch.setenv(passwords.VARIABLE, "correct horse")
    run(*sign)
    run("keygen", "also", "--encrypted")
    monkeypatch.setenv(passwords.VARIABLE, "wrong")
    assert "signing-key-invalid" in run(*sign, status=65).err
    run("verify", "app", *AS, "--key", "safe/cosign.pub")


def test_a_person_is_asked_for_a_password(monkeypatch):
    monkeypatch.delenv(passwords.VARIABLE, raising=False)
    main_end, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin, os.fdopen(main_end):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(passwords.getpass, "getpass", lambda _: "typed")
        assert passwords.password_from(None)() == b"typed"


def test_nobody_is_asked_where_nobody_is(monkeypatch):
    monkeypatch.delenv(passwords.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(InvalidInputError):
        passwords.password_from(None)()


def test_keys_are_made_all_or_none(run, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "cosign.key").write_text("mine")
    assert "is there already" in run("keygen", "old", status=65).err
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["cosign.key"]
    run("keygen", "new")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "new").iterdir()}
    assert modes == {"image.key": "0o600", "cosign.key": "0o600", "cosign.pub": "0o644"}
