"""The real cosign verifies what we sign, and we verify what it signs: both forms, all kinds of keys."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
from contextlib import closing

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tests.interop.programs import program, running_debian_registry
from tests.simulators.sigstore import ISSUER, SIGNER, SigstoreSimulator

from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.media_types import OCI_MANIFEST
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.claim import SignedClaim
from enclave_cc.formats.signatures.identity import IdentityRule, SignedIdentity
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.formats.signatures.requirements import KeyTrust, Material, SigstoreSigned
from enclave_cc.formats.sigstore.bundle import BUNDLE_MEDIA_TYPE
from enclave_cc.formats.sigstore.statement import write_statement
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.keys.files import KeyFiles
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.opening import open_reader, open_writer
from enclave_cc.tenant.push import push_image
from enclave_cc.tenant.signing.sign import BOTH_FORMS, SignatureForm, Signer
from enclave_cc.tenant.signing.signing_key import SigningKey
from enclave_cc.tenant.signing.verify import ask
from enclave_cc.transport.registry.client import RegistryClient

PASSWORD = b"correct horse"
KEYS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
}
# What keeps cosign 3 off the network.
OFFLINE = ("--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry", "-y")
FORM_FLAGS = {SignatureForm.TAG: ("--new-bundle-format=false",), SignatureForm.BUNDLE: ()}
_numbers = itertools.count()


class World:
    def __init__(self, directory, host):
        self.directory = directory
        self.host = host
        self.client = RegistryClient(insecure_http=[host])
        self.reference = Reference.parse(f"{host}/team/app{next(_numbers)}:v1")
        layout = ImageLayout.create(directory / "image")
        build_image(layout, [LayerInput(os.urandom(10))], ProcessDescription())
        self.digest = push_image(layout, self.reference, self.client).digest

    @property
    def by_digest(self):
        return f"{self.reference.name}@{self.digest}"

    def cosign(self, *arguments):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "COSIGN_PASSWORD": PASSWORD.decode(),
        }
        return subprocess.run(
            [program("cosign"), *arguments],
            env=environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def cosign_signs(self, key_file, form, *extra):
        run = self.cosign("sign", "--key", key_file, *OFFLINE, *FORM_FLAGS[form], *extra, self.by_digest)
        assert run.returncode == 0, run.stderr

    def cosign_accepts(self, public, form):
        flags = ("--insecure-ignore-tlog=true", "--allow-http-registry", *FORM_FLAGS[form])
        run = self.cosign("verify", "--key", public, *flags, str(self.reference))
        return run.returncode == 0

    def we_sign(self, key, forms=BOTH_FORMS):
        text = str(self.reference)
        with (
            open_reader(text, lambda: self.client) as reader,
            open_writer(text, lambda: self.client) as writer,
        ):
            Signer(reader, writer, self.reference, key, forms).sign(reader.resolve())

    def our_answer(self, public_pem, rule=IdentityRule.MATCH_REPO_DIGEST_OR_EXACT):
        trust = KeyTrust((Material(data=public_pem),))
        policy = SignaturePolicy((SigstoreSigned(trust, SignedIdentity(rule)),), {})
        return ask(self.reference, registry=self.client, resources=KeyFiles(), policy=policy)


@pytest.fixture(scope="module")
def debian_registry(tmp_path_factory):
    with running_debian_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def world(tmp_path, debian_registry):
    program("cosign")
    world = World(tmp_path, debian_registry)
    with closing(world.client):
        yield world


def _public_file(world, key):
    (world.directory / "our.pub").write_bytes(key.public.to_pem())
    return "our.pub"


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("form", SignatureForm)
def test_cosign_accepts_what_we_sign(world, kind, form):
    key = SigningKey.of(KEYS[kind]())
    world.we_sign(key, {form})
    assert world.cosign_accepts(_public_file(world, key), form)
    assert world.our_answer(key.public.to_pem()).accepted


def test_cosign_refuses_a_key_that_did_not_sign(world):
    world.we_sign(SigningKey.generate())
    public = _public_file(world, SigningKey.generate())
    assert not any(world.cosign_accepts(public, form) for form in SignatureForm)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("form", SignatureForm)
def test_we_accept_what_cosign_signs(world, kind, form):
    key = KEYS[kind]()
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (world.directory / "plain.pem").write_bytes(plain)
    imported = world.cosign("import-key-pair", "--key", "plain.pem", "--output-key-prefix", "in", "-y")
    assert imported.returncode == 0, imported.stderr
    world.cosign_signs("in.key", form)
    public = SigningKey.of(key).public.to_pem()
    # Cosign 3 writes no name into bundles, so the owner has to say that any will do.
    rule = {SignatureForm.TAG: SignedIdentity().rule, SignatureForm.BUNDLE: IdentityRule.INSECURE_ANY_NAME}
    assert world.our_answer(public, rule[form]).accepted
    assert not world.our_answer(SigningKey.generate().public.to_pem(), rule[form]).accepted


def test_cosign_can_write_the_name_we_ask_for(world):
    key = SigningKey.generate()
    (world.directory / "our.key").write_bytes(key.to_pem(PASSWORD))
    world.cosign_signs("our.key", SignatureForm.BUNDLE)
    assert world.our_answer(key.public.to_pem()).code == "signature-identity-refused"
    name = f"docker-reference={world.reference.name}"
    world.cosign_signs("our.key", SignatureForm.BUNDLE, "-a", name)
    assert world.our_answer(key.public.to_pem()).accepted


def test_cosign_reads_our_encrypted_keys_and_we_read_its(world):
    ours = SigningKey.generate()
    (world.directory / "our.key").write_bytes(ours.to_pem(PASSWORD))
    world.cosign_signs("our.key", SignatureForm.TAG)
    assert world.our_answer(ours.public.to_pem()).accepted
    assert world.cosign("generate-key-pair").returncode == 0
    theirs = SigningKey.load((world.directory / "cosign.key").read_bytes(), lambda: PASSWORD)
    assert theirs.public.to_pem() == (world.directory / "cosign.pub").read_bytes()


def test_signatures_of_both_programs_lie_side_by_side(world):
    key, another = SigningKey.generate(), SigningKey.generate()
    (world.directory / "our.key").write_bytes(key.to_pem(PASSWORD))
    for form in SignatureForm:
        world.cosign_signs("our.key", form)
    world.we_sign(another)
    assert world.our_answer(key.public.to_pem()).accepted
    assert world.our_answer(another.public.to_pem()).accepted
    for signer in (key, another):
        public = _public_file(world, signer)
        assert all(world.cosign_accepts(public, form) for form in SignatureForm)


def test_cosign_accepts_what_our_simulated_sigstore_signs(world):
    """So the tests of keyless verification do not merely agree with themselves."""
    sigstore = SigstoreSimulator()
    bundle = sigstore.sign_statement(write_statement(SignedClaim(world.digest, world.reference.name)))
    (world.directory / "root.json").write_bytes(sigstore.trusted_root())
    with open_writer(str(world.reference), lambda: world.client) as writer:
        _attach(writer, world, json.dumps(bundle).encode())
    signer = ("--certificate-identity", SIGNER, "--certificate-oidc-issuer", ISSUER)
    flags = ("--trusted-root", "root.json", "--allow-http-registry", *signer)
    accepted = world.cosign("verify", *flags, str(world.reference))
    assert accepted.returncode == 0, accepted.stderr
    (world.directory / "root.json").write_bytes(SigstoreSimulator().trusted_root())
    assert world.cosign("verify", *flags, str(world.reference)).returncode != 0


def _attach(writer, world, bundle):
    empty, size = writer.add_blob([b"{}"], 2)
    blob = writer.add_blob([bundle], len(bundle))
    body = world.client.manifest(world.reference, digest_or_tag=str(world.digest)).body
    artifact = Manifest(
        Descriptor("application/vnd.oci.empty.v1+json", empty, size),
        (Descriptor(BUNDLE_MEDIA_TYPE, *blob),),
        subject=Descriptor(OCI_MANIFEST, world.digest, len(body)),
        artifact_type=BUNDLE_MEDIA_TYPE,
    )
    written = writer.add_manifest(artifact.to_bytes(), artifact.media_type)
    writer.add_referrer(world.digest, dataclasses.replace(written, artifact_type=BUNDLE_MEDIA_TYPE))
