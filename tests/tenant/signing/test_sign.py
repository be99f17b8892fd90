"""Signing and asking, in every kind of place that keeps signatures."""

import base64
import json
from pathlib import Path

import pytest
from pysequoia import Tsk, sign
from tests.simulators.registry import running_registry

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.claim import PayloadType, SignedClaim
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.image.pull import LINUX_AMD64
from enclave_cc.tenant.copy import copy_image
from enclave_cc.tenant.keys.files import KeyFiles
from enclave_cc.tenant.places.as_registry import PlaceAsRegistry
from enclave_cc.tenant.places.lookaside_directory import open_lookaside
from enclave_cc.tenant.places.opening import open_reader, open_writer
from enclave_cc.tenant.signing.sign import BOTH_FORMS, SignatureForm, Signer
from enclave_cc.tenant.signing.signing_key import SigningKey
from enclave_cc.tenant.signing.verify import ask
from enclave_cc.transport.registry.client import RegistryClient
from enclave_cc.transport.registry.lookaside import LookasideClient, signature_path

NAME = Reference.parse("registry.example/team/app:v1")
KINDS = ("oci", "registry", "registry-without-referrers")


class Place:
    """One place with an image in it, and a key."""

    def __init__(self, directory, kind, simulator):
        self.directory = directory
        self.key = SigningKey.generate()
        simulator.has_referrers = kind == "registry"
        self.client = RegistryClient(insecure_http=[simulator.host])
        self.text = f"oci:{directory}/here" if kind == "oci" else f"{simulator.host}/team/app:v1"

    def reader(self):
        return open_reader(self.text, lambda: self.client)

    def fill(self, layout):
        with open_reader(f"oci:{layout.directory}") as reader, self.writer() as writer:
            copy_image(reader, writer)

    def writer(self):
        return open_writer(self.text, lambda: self.client)

    def sign(self, *, forms=BOTH_FORMS, recursive=False, key=None, name=NAME):
        with self.reader() as reader, self.writer() as writer:
            signer = Signer(reader, writer, name, key or self.key, forms)
            return signer.sign(reader.resolve(), recursive=recursive)

    def ask(self, policy=None, *, reference=NAME, platform=LINUX_AMD64, store=None):
        options = {} if store is None else {"signature_store": store}
        with self.reader() as reader:
            return ask(
                reference,
                registry=PlaceAsRegistry(reader),
                resources=KeyFiles(),
                policy=policy or self.policy(),
                platform=platform,
                **options,
            )

    def policy(self, key=None):
        data = (key or self.key).public.to_pem().decode()
        return _policy({"type": "sigstoreSigned", "keyData": data})


def _policy(requirement):
    return SignaturePolicy.parse(json.dumps({"default": [requirement]}).encode(), allow_files=True)


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    with running_registry() as simulator:
        made = Place(tmp_path, request.param, simulator)
        yield made
        made.client.close()


@pytest.mark.parametrize("form", SignatureForm)
def test_a_signature_of_either_form_is_found_where_the_image_lies(place, plain, form):
    place.fill(plain)
    assert place.ask().code == "signature-missing"
    place.sign(forms=[form])
    answer = place.ask()
    assert answer.accepted
    assert answer.manifest_digest == plain.find().digest
    assert place.ask(place.policy(SigningKey.generate())).code == "signature-key-refused"


def test_signing_again_keeps_what_is_there(place, plain):
    place.fill(plain)
    another = SigningKey.generate()
    for key in (place.key, another, place.key):
        place.sign(key=key)
    for key in (place.key, another):
        assert place.ask(place.policy(key)).accepted


def test_the_image_is_signed_for_one_name(place, plain):
    place.fill(plain)
    place.sign(name=Reference.parse("registry.example/team/other"))
    answer = place.ask()
    assert answer.code == "signature-identity-refused"
    (failed,) = [finding for finding in answer.findings if finding.outcome is Outcome.FAILED]
    assert failed.actual == "registry.example/team/other"
    assert answer.to_json()["accepted"] is False
    assert answer.to_json()["findings"][-1]["outcome"] == "failed"


@pytest.mark.parametrize("recursive", [False, True])
def test_the_signature_of_an_index_covers_its_images(place, multi, recursive):
    place.fill(multi)
    signed = place.sign(recursive=recursive)
    assert len(signed) == (3 if recursive else 1)
    assert place.ask().accepted


def test_an_image_of_an_index_is_signed_on_its_own_too(place, multi):
    place.fill(multi)
    _, amd64, _ = place.sign(recursive=True)
    reference = NAME.with_digest(amd64)
    assert place.ask(reference=reference).accepted


def test_an_answer_without_a_signature_says_what_to_do(place, plain):
    place.fill(plain)
    answer = place.ask()
    assert not answer.accepted
    assert "image sign" in answer.remedy
    assert answer.to_json()["code"] == "signature-missing"


@pytest.fixture
def signed_by(tmp_path, plain):
    """A layout, and a directory with a simple signature of its image."""
    place = Place(tmp_path, "oci", _NoRegistry())
    place.fill(plain)
    key, digest = Tsk.generate("owner@team.example"), plain.find().digest
    payload = SignedClaim(digest, str(NAME)).to_bytes(PayloadType.ATOMIC)
    path = tmp_path / "signatures" / signature_path(NAME, digest, 1)
    path.parent.mkdir(parents=True)
    path.write_bytes(sign(key.signer(), payload, armor=False))
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(bytes(key.extract_certificate()))
    policy = _policy({"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(ring)})
    return place, policy, tmp_path / "signatures"


class _NoRegistry:
    host = "registry.example"
    has_referrers = False


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_simple_signatures_may_lie_in_a_directory_of_the_owner(signed_by, scheme):
    place, policy, directory = signed_by
    assert place.ask(policy, store=open_lookaside(f"{scheme}{directory}")).accepted
    assert place.ask(policy).code == "signature-missing"


def test_a_directory_that_cannot_be_read_is_bad_input(signed_by):
    place, policy, directory = signed_by
    path = next(directory.rglob("signature-1"))
    path.unlink()
    path.mkdir()
    with pytest.raises(InvalidInputError) as caught:
        place.ask(policy, store=open_lookaside(str(directory)))
    assert caught.value.code == "file-unusable"


@pytest.mark.parametrize("text", ["http://sig.example", "ftp://sig.example", "file://host/x", "https://["])
def test_a_store_that_is_no_safe_address_is_bad_input(text):
    with pytest.raises(InvalidInputError):
        open_lookaside(text)


def test_a_store_may_be_a_server():
    assert isinstance(open_lookaside("https://sig.example/x"), LookasideClient)
    assert isinstance(open_lookaside("http://sig.example", insecure_http=["sig.example"]), LookasideClient)


def test_files_stand_in_for_resources_of_the_broker(tmp_path):
    (tmp_path / "key").write_bytes(b"key")
    files = KeyFiles({"kbs:///a/b/c": tmp_path / "key"})
    assert files.get("kbs:///a/b/c") == files.get(str(tmp_path / "key")) == b"key"
    (tmp_path / "large").write_bytes(bytes(5 << 20))
    for uri in ("kbs:///a/b/d", str(tmp_path / "missing"), str(tmp_path / "large"), str(tmp_path)):
        with pytest.raises(InvalidInputError) as caught:
            files.get(uri)
        assert caught.value.code == "file-unusable"


def test_a_signature_made_by_others_in_a_layout_is_accepted(vectors):
    public = Path(vectors / "oci" / "cosign2.pub")
    if not public.exists():
        pytest.skip("the public key of the signed layout is not among the vectors")
    with open_reader(f"oci:{vectors / 'oci' / 'oci-encrypted'}") as reader:
        answer = ask(
            Reference.parse("example.com/test/enc:latest"),
            registry=PlaceAsRegistry(reader),
            resources=KeyFiles(),
            policy=_policy(
                {"type": "sigstoreSigned", "keyData": base64.b64encode(public.read_bytes()).decode()}
            ),
        )
    assert answer.accepted


def test_a_bundle_is_an_artifact_that_refers_to_its_image(place, plain):
    place.fill(plain)
    place.sign(forms=[SignatureForm.BUNDLE])
    digest = plain.find().digest
    with place.reader() as reader:
        (entry,) = reader.referrers(digest).manifests
        artifact = Manifest.parse(reader.document(entry.digest))
    assert entry.artifact_type == artifact.artifact_type == artifact.layers[0].media_type
    assert artifact.subject.digest == digest
    assert artifact.config.digest == Digest.of(b"{}")
