import base64
import dataclasses
import json

import pytest
from tests.simulators.memory_registry import MemoryResources

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.oci.descriptor import Descriptor, Platform
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.manifest import Index, Manifest
from enclave_cc.formats.oci.media_types import OCI_INDEX
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.formats.sigstore.cosign import (
    PAYLOAD_MEDIA_TYPE,
    SIGNATURE_ANNOTATION,
    signature_tag,
)
from enclave_cc.image.limits import Limits
from enclave_cc.image.pull import load_policy
from enclave_cc.tenant.push import push_image
from enclave_cc.tenant.signing.sign import sign_image
from enclave_cc.tenant.signing.signing_key import SigningKey, generate_signing_key

ANYTHING = SignaturePolicy.insecure_accept_anything()


def _refused(world, code, rule, **options):
    """Require the refusal, one failed finding with both values, and no value in the summary."""
    with pytest.raises(RefusedError) as caught:
        world.verify(**options)
    error = caught.value
    assert error.code == code
    (failed,) = [finding for finding in error.findings if finding.outcome is Outcome.FAILED]
    assert failed.rule == rule
    assert failed.expected
    assert failed.actual
    assert failed.expected not in str(error)
    return failed


def _policy(document):
    return SignaturePolicy.parse(json.dumps(document).encode())


def test_an_image_that_was_encrypted_and_signed_is_accepted(world):
    digest = world.publish()
    image = world.verify()
    assert image.manifest_digest == digest
    assert image.config.entrypoint == ("/bin/app",)
    assert image.config.env == ("A=b",)
    assert len(image.layers) == 2
    assert all(finding.outcome is Outcome.PASSED for finding in image.findings)
    rules = {finding.rule for finding in image.findings}
    assert {"image.signature.key", "image.signature.identity", "image.encrypted"} <= rules


def test_no_policy_accepts_nothing(world):
    world.publish()
    _refused(world, "image-policy-missing", "image.signature.policy", policy=None)
    with pytest.raises(RefusedError) as caught:
        load_policy(world.resources, "")
    assert caught.value.code == "image-policy-missing"


def test_an_unsigned_image_is_refused(world):
    world.publish(signed_for="")
    _refused(world, "signature-missing", "image.signature.present")


def test_an_image_signed_by_another_key_is_refused(world):
    world.publish(key=generate_signing_key()[0])
    _refused(world, "signature-key-refused", "image.signature.key")


def test_an_image_signed_under_another_name_is_refused(world):
    world.publish(signed_for="registry.example/team/other")
    failed = _refused(world, "signature-identity-refused", "image.signature.identity")
    assert failed.actual == "registry.example/team/other"


def test_a_signature_of_another_image_is_refused(world):
    digest = world.publish()
    signature = world.registry.manifests[world.reference.name, signature_tag(digest)]
    world.replace_layer(0, annotations={})
    changed = Digest.of(world.registry.manifests[world.reference.name, "1"].body)
    world.registry.put_manifest(world.reference, signature_tag(changed), signature.body, "")
    _refused(world, "signature-digest-refused", "image.signature.digest")


def test_a_signature_of_another_kind_of_payload_is_refused(world):
    digest = world.publish()
    tag = signature_tag(digest)
    manifest = Manifest.parse(world.registry.manifests[world.reference.name, tag].body)
    layer = manifest.layers[0]
    payload = json.loads(world.registry.blobs[str(layer.digest)])
    payload["critical"]["type"] = "another kind"
    _sign_payload(world, tag, json.dumps(payload).encode())
    _refused(world, "signature-invalid", "image.signature.payload")


def test_rubbish_beside_a_good_signature_does_not_hide_it(world):
    digest = world.publish()
    tag = signature_tag(digest)
    manifest = Manifest.parse(world.registry.manifests[world.reference.name, tag].body)
    good = manifest.layers[0]
    rubbish = (
        dataclasses.replace(good, annotations={SIGNATURE_ANNOTATION: "AAAA"}),
        dataclasses.replace(good, annotations={SIGNATURE_ANNOTATION: "?"}),
    )
    changed = dataclasses.replace(manifest, layers=(*rubbish, good))
    world.registry.put_manifest(world.reference, tag, changed.to_bytes(), "")
    world.verify()


def test_a_second_signature_by_another_key_does_no_harm(world):
    for repository, key in (
        ("registry.example/x", generate_signing_key()[0]),
        ("registry.example/team/app", None),
    ):
        world.publish(signed_for=repository, key=key)
    world.verify()


def test_a_payload_that_is_not_what_its_descriptor_says_is_no_signature(world):
    digest = world.publish()
    manifest = Manifest.parse(world.registry.manifests[world.reference.name, signature_tag(digest)].body)
    world.registry.lies[str(manifest.layers[0].digest)] = b"{}"
    _refused(world, "signature-missing", "image.signature.present")


def test_an_image_that_was_accepted_before_is_judged_again_by_what_the_policy_says_now(world):
    world.publish()
    world.verify()
    other = base64.b64encode(generate_signing_key()[1]).decode()
    with pytest.raises(RefusedError) as caught:
        world.verify(policy=world.policy(keyPath=None, keyData=other))
    assert caught.value.code == "signature-key-refused"


def test_an_unsigned_manifest_with_the_configuration_of_an_accepted_image_is_refused(world):
    world.publish()
    world.verify()
    world.republish(lambda manifest: dataclasses.replace(manifest, annotations={"a": "b"}))
    with pytest.raises(RefusedError) as caught:
        world.verify()
    assert caught.value.code == "signature-missing"


def test_every_requirement_of_a_scope_has_to_hold(world):
    world.publish()
    _, another = generate_signing_key()
    first = {"type": "sigstoreSigned", "keyPath": "kbs:///default/cosign/1"}
    second = {"type": "sigstoreSigned", "keyData": another.decode()}
    _refused(
        world, "signature-key-refused", "image.signature.key", policy=_policy({"default": [first, second]})
    )


def test_a_rejecting_policy_refuses_before_anything_is_fetched(world):
    world.publish()
    _refused(
        world,
        "signature-policy-rejects",
        "image.signature.policy",
        policy=_policy({"default": [{"type": "insecureAcceptAnything"}, {"type": "reject"}]}),
    )
    assert world.registry.calls == []


def test_the_policy_is_chosen_by_the_name_that_was_asked_for(world):
    world.publish(signed_for="")
    scopes = {"mirror.example": [{"type": "insecureAcceptAnything"}]}
    policy = _policy({"default": [{"type": "reject"}], "transports": {"docker": scopes}})
    _refused(world, "signature-policy-rejects", "image.signature.policy", policy=policy)


def test_a_verification_key_that_is_none_is_bad_input(world):
    world.publish()
    resources = MemoryResources({"kbs:///default/cosign/1": b"no key"})
    with pytest.raises(InvalidInputError) as caught:
        world.verify(resources=resources)
    assert caught.value.code == "signature-key-invalid"


def test_a_plain_layer_is_refused_where_encryption_is_required(world):
    world.publish(encrypted=False)
    _refused(world, "layer-not-encrypted", "image.encrypted")
    world.verify(require_encrypted=False)


def test_one_plain_layer_among_encrypted_ones_is_refused(world):
    world.publish()
    world.replace_layer(1, media_type="application/vnd.oci.image.layer.v1.tar+gzip")
    _refused(world, "layer-not-encrypted", "image.encrypted", policy=ANYTHING)


def test_a_registry_that_serves_another_manifest_is_caught(world):
    digest = world.publish()
    world.replace_layer(0, annotations={})
    lie = world.registry.manifests[world.reference.name, "1"]
    world.registry.manifests[world.reference.name, str(digest)] = lie
    _refused(world, "manifest-digest-mismatch", "image.manifest.digest", manifest_digest=digest)


def test_a_node_that_resolves_to_another_manifest_is_caught(world):
    digest = world.publish()
    world.reference = world.reference.with_digest(digest)
    world.verify()
    world.verify(manifest_digest=digest)
    _refused(world, "manifest-digest-mismatch", "image.manifest.claim", manifest_digest=Digest.of(b"another"))


def test_a_registry_that_serves_another_configuration_is_caught(world):
    world.publish()
    world.registry.lies[str(_manifest(world).config.digest)] = b"{}"
    _refused(world, "config-digest-mismatch", "image.config.digest")


def test_a_configuration_of_another_platform_is_refused(world):
    world.publish()
    world.republish(lambda manifest: _with_config(world, manifest, architecture="arm64"))
    _refused(world, "image-config-mismatch", "image.config.platform", policy=ANYTHING)


def test_a_configuration_with_fewer_layers_is_refused(world):
    world.publish()
    config = ImageConfig.parse(world.registry.blobs[str(_manifest(world).config.digest)])
    world.republish(lambda manifest: _with_config(world, manifest, diff_ids=config.diff_ids[:1]))
    _refused(world, "image-config-mismatch", "image.config.diff-ids", policy=ANYTHING)


def test_a_configuration_of_another_kind_is_refused(world):
    world.publish()
    world.republish(
        lambda manifest: dataclasses.replace(
            manifest, config=dataclasses.replace(manifest.config, media_type="application/x")
        )
    )
    _refused(world, "image-config-mismatch", "image.config.media-type", policy=ANYTHING)


def test_a_layer_of_an_unknown_kind_is_bad_input(world):
    world.publish()
    world.replace_layer(0, media_type="application/x")
    with pytest.raises(InvalidInputError) as caught:
        world.verify(policy=ANYTHING)
    assert caught.value.code == "layer-media-type-unknown"


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (Limits(manifest_bytes=100), "image.limit.manifest-bytes"),
        (Limits(config_bytes=100), "image.limit.config-bytes"),
        (Limits(layers=1), "image.limit.layers"),
        (Limits(compressed_layer_bytes=1000), "image.limit.layer-bytes"),
        (Limits(compressed_image_bytes=300_100), "image.limit.image-bytes"),
        (Limits(document_depth=2), "image.limit.document-depth"),
    ],
)
def test_an_image_beyond_a_limit_is_refused(world, limits, rule):
    world.publish()
    _refused(world, "image-limit-exceeded", rule, limits=limits)


def test_a_configuration_longer_than_announced_is_not_read_to_its_end(world):
    world.publish()
    config = _manifest(world).config
    served = []

    def endless():
        while True:
            served.append(1)
            yield bytes(1000)

    blob = world.registry.blob
    world.registry.blob = lambda reference, digest, **options: (
        endless() if digest == str(config.digest) else blob(reference, digest, **options)
    )
    _refused(world, "config-digest-mismatch", "image.config.digest")
    assert len(served) == 1


def test_an_image_is_found_through_the_index_that_names_it(world):
    index_digest = _publish_index(world, sign_index=True)
    image = world.verify()
    assert image.manifest_digest == world.encrypted.find().digest
    world.verify(manifest_digest=index_digest)
    world.reference = world.reference.with_digest(index_digest)
    world.verify(manifest_digest=image.manifest_digest)


def test_the_signature_of_the_platform_manifest_is_enough(world):
    _publish_index(world, sign_index=False)
    world.verify()


def test_an_index_cannot_smuggle_a_manifest_that_it_does_not_name(world):
    _publish_index(world, sign_index=True)
    child = world.encrypted.find().digest
    world.registry.put_manifest(world.reference, str(child), b'{"schemaVersion":2}', "")
    _refused(world, "manifest-digest-mismatch", "image.manifest.digest")


def _wrap_index(world, digest):
    """Put the image behind one index more; return that index's digest."""
    entry = Descriptor(OCI_INDEX, digest, 1, {}, Platform("linux", "amd64"))
    body = Index((entry,)).to_bytes()
    for tag in ("1", str(Digest.of(body))):
        world.registry.put_manifest(world.reference, tag, body, "")
    return Digest.of(body)


def test_an_index_in_an_index_is_followed(world):
    _wrap_index(world, _publish_index(world, sign_index=True))
    assert len(world.verify().layers) == 2


def test_indexes_in_indexes_are_followed_only_so_far(world):
    _wrap_index(world, _wrap_index(world, _publish_index(world, sign_index=True)))
    _refused(world, "image-limit-exceeded", "image.limit.index-depth")
    assert world.verify(limits=Limits(index_depth=3)).layers
    _refused(world, "image-limit-exceeded", "image.limit.index-depth", limits=Limits(index_depth=2))


def test_an_image_encrypted_and_signed_by_others_is_verified(world, vectors):
    layout = vectors / "oci" / "oci-encrypted"
    for entry in Index.parse((layout / "index.json").read_bytes()).manifests:
        body = (layout / "blobs" / "sha256" / entry.digest.hex).read_bytes()
        name = entry.annotations["org.opencontainers.image.ref.name"]
        world.registry.manifests["example.com/test/enc", name] = type("M", (), {"body": body})
    for blob in (layout / "blobs" / "sha256").iterdir():
        world.registry.blobs[f"sha256:{blob.name}"] = blob.read_bytes()
    world.reference = Reference.parse("example.com/test/enc")
    assert len(world.verify(policy=ANYTHING).layers) == 3
    _refused(world, "signature-key-refused", "image.signature.key")


def _manifest(world):
    return Manifest.parse(world.registry.manifests[world.reference.name, "1"].body)


def _with_config(world, manifest, **members):
    config = ImageConfig.parse(world.registry.blobs[str(manifest.config.digest)])
    data = dataclasses.replace(config, **members).to_bytes()
    world.registry.blobs[str(Digest.of(data))] = data
    descriptor = dataclasses.replace(manifest.config, digest=Digest.of(data), size=len(data))
    return dataclasses.replace(manifest, config=descriptor)


def _sign_payload(world, tag, payload):
    digest = Digest.of(payload)
    world.registry.blobs[str(digest)] = payload
    signature = SigningKey.load(world.private_key).sign(payload)
    annotations = {SIGNATURE_ANNOTATION: base64.b64encode(signature).decode()}
    layer = Descriptor(PAYLOAD_MEDIA_TYPE, digest, len(payload), annotations)
    manifest = Manifest(Descriptor("application/x", Digest.of(b""), 0), (layer,))
    world.registry.put_manifest(world.reference, tag, manifest.to_bytes(), "")


def _publish_index(world, *, sign_index):
    layout = world.encrypted
    child = dataclasses.replace(layout.find(), annotations={}, platform=Platform("linux", "amd64"))
    other = dataclasses.replace(child, platform=Platform("linux", "arm64"))
    index = layout.add_manifest(Index((other, child)), name="multi")
    sign_image(
        layout,
        index if sign_index else child,
        repository="registry.example/team/app",
        private_key_pem=world.private_key,
    )
    push_image(layout, world.reference, world.registry, name="multi")
    return index.digest
