"""What the demo's owner writes is understood by the parts that read it, and says what it must."""

from __future__ import annotations

import json

from enclave_cc.demo.owner.policies import (
    MEMORY_BYTES,
    SCRATCH_BYTES,
    BrokerAddress,
    initdata,
    signature_policy,
)
from enclave_cc.formats.initdata import InitData
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.formats.signatures.requirements import KeyTrust, Material, Reject, SigstoreSigned

_KEY = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"


def test_the_initdata_names_broker_policy_and_registry_and_demands_encryption():
    text = initdata(BrokerAddress("https://127.0.0.1:1", "pem", _KEY), registry="127.0.0.1:2")
    settings = InitData.parse(text).settings
    assert settings.broker_url == "https://127.0.0.1:1"
    assert settings.broker_token_key == _KEY
    assert settings.signature_policy == "kbs:///demo/policy/signatures"
    assert settings.require_encrypted
    assert not settings.insecure_accept_unsigned
    assert settings.insecure_http_registries == ("127.0.0.1:2",)
    assert settings.workload.exec
    assert settings.workload.args == "image"
    assert (settings.rootfs.memory_bytes, settings.rootfs.scratch_bytes) == (MEMORY_BYTES, SCRATCH_BYTES)


def test_images_of_the_namespace_need_the_owners_signature_and_others_are_rejected():
    policy = SignaturePolicy.parse(signature_policy("127.0.0.1:2"))
    ours = policy.scope_for(Reference.parse("127.0.0.1:2/demo/hello:v1")).requirements
    others = policy.scope_for(Reference.parse("127.0.0.1:2/pause:v1")).requirements
    assert isinstance(ours[0], SigstoreSigned)
    assert ours[0].trust == KeyTrust((Material("kbs:///demo/keys/cosign.pub"),))
    assert isinstance(others[0], Reject)


def test_the_signature_policy_is_one_json_document():
    assert json.loads(signature_policy("127.0.0.1:2"))["default"] == [{"type": "reject"}]
