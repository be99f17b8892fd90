"""Simple signatures by the real gpg: good ones, and each kind that has to be refused."""

from __future__ import annotations

import datetime as dt
import subprocess

import pytest
from tests.interop.programs import program

from enclave_cc.core.digest import Digest
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.openpgp.messages import Keyring, SignedMessage, verify_message
from enclave_cc.formats.signatures.claim import PayloadType, SignedClaim

CLAIM = SignedClaim(Digest.of(b"manifest"), "registry.example/team/app:v1")
KEY, HASH, STATUS, EXPIRY = (f"image.signature.{name}" for name in ("key", "hash", "key-status", "expiry"))


class Gpg:
    def __init__(self, home):
        home.mkdir(mode=0o700)
        self.home = home
        self.faked = ()
        (home / "payload").write_bytes(CLAIM.to_bytes(PayloadType.ATOMIC))

    def run(self, *arguments, stdin=b""):
        base = ["--homedir", str(self.home), "--batch", "--yes", "--no-autostart"]
        if arguments[0] != "--export":
            base.remove("--no-autostart")
        ran = subprocess.run(
            [
                program("gpg"),
                *base,
                *self.faked,
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
                *arguments,
            ],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout

    def make(self, user, algorithm="rsa2048", expires="never"):
        self.run("--quick-generate-key", user, algorithm, "sign", expires)
        return self.run("--with-colons", "--list-keys", user).decode().partition("\nfpr:")[2].split(":")[8]

    def sign(self, user, *options):
        return self.run(*options, "--local-user", user, "--output", "-", "--sign", str(self.home / "payload"))

    def at(self, when):
        """Let gpg believe in another time."""
        self.faked = ("--faked-system-time", when.strftime("%Y%m%dT%H%M%S!")) if when else ()

    def ring(self, *users, armor=False):
        return self.run("--export", *(["--armor"] if armor else []), *users)

    def close(self):
        subprocess.run(
            ["gpgconf", "--homedir", str(self.home), "--kill", "gpg-agent"], check=False, capture_output=True
        )


@pytest.fixture
def gpg(tmp_path_factory):
    program("gpg")
    # The agent's socket path has to be short.
    made = Gpg(tmp_path_factory.mktemp("g") / "h")
    yield made
    made.close()


def _failed(message, ring):
    now = dt.datetime.now(dt.UTC)
    findings = verify_message(SignedMessage.parse(message), Keyring.parse(ring, now=now), now=now)
    return [finding.rule for finding in findings if finding.outcome is Outcome.FAILED]


@pytest.mark.parametrize("algorithm", ["rsa2048", "ed25519", "nistp256"])
@pytest.mark.parametrize("armor", [False, True])
def test_what_gpg_signs_is_accepted(gpg, algorithm, armor):
    gpg.make("owner@team.example", algorithm)
    message = gpg.sign("owner@team.example")
    assert SignedClaim.parse(SignedMessage.parse(message).payload, PayloadType.ATOMIC) == CLAIM
    assert _failed(message, gpg.ring(armor=armor)) == []


@pytest.mark.parametrize("option", ["--compress-algo=none", "--compress-algo=zip", "--compress-algo=zlib"])
def test_whatever_compression_it_uses(gpg, option):
    gpg.make("owner@team.example")
    assert _failed(gpg.sign("owner@team.example", option), gpg.ring()) == []


def test_bzip2_is_not_unpacked(gpg):
    gpg.make("owner@team.example")
    with pytest.raises(ValueError, match="compression"):
        SignedMessage.parse(gpg.sign("owner@team.example", "--compress-algo=bzip2"))


def test_a_key_that_the_ring_does_not_have_is_refused(gpg):
    gpg.make("owner@team.example")
    gpg.make("other@team.example")
    message = gpg.sign("other@team.example")
    assert _failed(message, gpg.ring("owner@team.example")) == [KEY]
    assert _failed(message, gpg.ring()) == []


@pytest.mark.parametrize("algorithm", ["SHA1", "RIPEMD160"])
def test_weak_hashes_are_refused(gpg, algorithm):
    gpg.make("owner@team.example")
    assert HASH in _failed(gpg.sign("owner@team.example", f"--digest-algo={algorithm}"), gpg.ring())


def test_a_signature_that_ended_is_refused(gpg):
    gpg.at(dt.datetime.now(dt.UTC) - dt.timedelta(days=10))
    gpg.make("owner@team.example")
    message = gpg.sign("owner@team.example", "--default-sig-expire=1d")
    assert EXPIRY in _failed(message, gpg.ring())
    assert _failed(gpg.sign("owner@team.example", "--default-sig-expire=30d"), gpg.ring()) == []


def test_a_key_that_expired_since_is_refused(gpg):
    gpg.at(dt.datetime.now(dt.UTC) - dt.timedelta(days=10))
    gpg.make("owner@team.example", expires="5d")
    assert STATUS in _failed(gpg.sign("owner@team.example"), gpg.ring())


@pytest.mark.parametrize("reason", ["0", "1", "3"])
def test_a_key_that_was_revoked_since_is_refused_whatever_the_reason(gpg, reason):
    gpg.at(dt.datetime.now(dt.UTC) - dt.timedelta(days=10))
    fingerprint = gpg.make("owner@team.example")
    message = gpg.sign("owner@team.example")
    gpg.at(None)
    answers = f"y\n{reason}\n\ny\n".encode()
    revocation = gpg.run(
        "--command-fd",
        "0",
        "--no-batch",
        "--no-tty",
        "--output",
        "-",
        "--gen-revoke",
        fingerprint,
        stdin=answers,
    )
    gpg.run("--import", stdin=revocation)
    assert STATUS in _failed(message, gpg.ring())


def test_a_signing_subkey_counts_until_it_expires(gpg):
    gpg.at(dt.datetime.now(dt.UTC) - dt.timedelta(days=10))
    fingerprint = gpg.make("owner@team.example")
    gpg.run("--quick-add-key", fingerprint, "ed25519", "sign", "never")
    assert _failed(gpg.sign("owner@team.example"), gpg.ring()) == []
    gpg.at(dt.datetime.now(dt.UTC) - dt.timedelta(days=9))
    gpg.run("--quick-add-key", fingerprint, "ed25519", "sign", "5d")
    assert _failed(gpg.sign("owner@team.example"), gpg.ring()) == [STATUS]
    # An old subkey that ended does not spoil a new one.
    gpg.at(dt.datetime.now(dt.UTC) - dt.timedelta(days=2))
    gpg.run("--quick-add-key", fingerprint, "ed25519", "sign", "5d")
    assert _failed(gpg.sign("owner@team.example"), gpg.ring()) == []


def test_cleartext_and_detached_signatures_are_no_messages(gpg):
    gpg.make("owner@team.example")
    payload = str(gpg.home / "payload")
    for mode in ("--clear-sign", "--detach-sign"):
        with pytest.raises(ValueError, match="OpenPGP"):
            SignedMessage.parse(gpg.run("--local-user", "owner@team.example", "--output", "-", mode, payload))
