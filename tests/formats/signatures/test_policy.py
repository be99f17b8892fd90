import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.identity import IdentityRule, SignedIdentity
from enclave_cc.formats.signatures.policy import (
    InsecureAcceptAnything,
    Reject,
    SignaturePolicy,
    SigstoreSigned,
)

HEX = "a" * 64
ACCEPT = {"type": "insecureAcceptAnything"}
REJECT = {"type": "reject"}
SIGNED = {"type": "sigstoreSigned", "keyPath": "kbs:///default/cosign/1"}


def _parse(document):
    return SignaturePolicy.parse(json.dumps(document).encode())


def _requirement(**members):
    return _parse({"default": [{**SIGNED, **members}]}).default[0]


def _refused(document):
    with pytest.raises(InvalidInputError) as caught:
        SignaturePolicy.parse(document if isinstance(document, bytes) else json.dumps(document).encode())
    assert caught.value.code == "signature-policy-invalid"


def test_the_three_kinds_of_requirements_are_read():
    policy = _parse({"default": [ACCEPT, REJECT, SIGNED]})
    assert policy.default == (
        InsecureAcceptAnything(),
        Reject(),
        SigstoreSigned(key_uri="kbs:///default/cosign/1"),
    )


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"default": []},
        {"default": None},
        {"default": [REJECT], "transports": {"docker": {"registry.example": []}}},
        {"default": [REJECT], "transports": {"dockr": {"": [ACCEPT]}}},
        {"default": [REJECT], "extra": 1},
        {"default": ["reject"]},
        {"default": [{}]},
        {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]},
        {"default": [{"type": "sigstoreSigned"}]},
        {"default": [{**ACCEPT, "note": "x"}]},
        {"default": [{**REJECT, "keyPath": "x"}]},
        {"default": [{**SIGNED, "keyData": "eA=="}]},
        {"default": [{**SIGNED, "rekorPublicKeyPath": "kbs:///a/b/c"}]},
        {"default": [{**SIGNED, "fulcio": {}}]},
        {"default": [{**SIGNED, "keyPath": "/etc/key.pem"}]},
        {"default": [{**SIGNED, "keyPath": None, "keyData": "not base64!"}]},
        {"default": [{**SIGNED, "signedIdentity": {"type": "matchAnything"}}]},
        {"default": [{**SIGNED, "signedIdentity": {"type": "matchRepository", "prefix": "x"}}]},
        {"default": [{**SIGNED, "signedIdentity": {"type": "exactRepository"}}]},
        {
            "default": [
                {**SIGNED, "signedIdentity": {"type": "exactRepository", "dockerRepository": "r.example/a:1"}}
            ]
        },
        b'{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}',
        b"",
    ],
)
def test_a_policy_that_is_not_understood_whole_is_refused(document):
    _refused(document)


@given(st.binary())
def test_any_bytes_parse_or_are_refused(data):
    _refused(data)


def test_keys_may_stand_in_the_policy_as_pem_or_base64():
    pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    for text in (pem, base64.b64encode(pem.encode()).decode()):
        assert _requirement(keyPath=None, keyData=text).key_pem == pem.encode()


def test_policies_of_whole_machines_may_name_other_transports():
    policy = _parse({"default": [REJECT], "transports": {"docker-daemon": {"": [ACCEPT]}}})
    assert policy.scope_for(Reference.parse("registry.example/a")).requirements == (Reject(),)


@pytest.mark.parametrize(
    ("reference", "chosen"),
    [
        ("registry.example/team/app:1", "registry.example/team/app:1"),
        ("registry.example/team/app:2", "registry.example/team/app"),
        (f"registry.example/team/app@sha256:{HEX}", "registry.example/team/app"),
        ("registry.example/team/other", "registry.example/team"),
        ("registry.example/teamwork", "registry.example"),
        ("registry.example:5000/team/app", "*.example"),
        ("eu.registry.example:5000/team", "*.registry.example"),
        ("elsewhere.test/registry.example/team/app", ""),
    ],
)
def test_the_most_specific_scope_is_chosen(reference, chosen):
    names = [
        "registry.example/team/app:1",
        "registry.example/team/app",
        "registry.example/team",
        "registry.example",
        "*.registry.example",
        "*.example",
        "",
    ]
    scopes = {
        name: [{**SIGNED, "keyPath": f"kbs:///default/key/{number}"}] for number, name in enumerate(names)
    }
    policy = _parse({"default": [REJECT], "transports": {"docker": scopes}})
    scope = policy.scope_for(Reference.parse(reference))
    assert scope.requirements[0].key_uri == f"kbs:///default/key/{names.index(chosen)}"


def test_a_reference_that_no_scope_names_gets_the_default():
    policy = _parse({"default": [REJECT], "transports": {"docker": {"registry.example": [ACCEPT]}}})
    assert policy.scope_for(Reference.parse("registry.example.evil/a")).requirements == (Reject(),)


@pytest.mark.parametrize(
    ("rule", "asked", "signed", "accepted"),
    [
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, "r.example/a:1", "r.example/a", True),
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, "r.example/a:1", "r.example/a:1", True),
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, "r.example/a:1", "r.example/a:2", False),
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, f"r.example/a@sha256:{HEX}", "r.example/a:2", True),
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, "r.example/a:1", "r.example/b", False),
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, "r.example/a:1", "s.example/a", False),
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, "busybox:1", "docker.io/library/busybox", True),
        (IdentityRule.MATCH_REPOSITORY, "r.example/a:1", "r.example/a:2", True),
        (IdentityRule.MATCH_REPOSITORY, "r.example/a:1", "r.example/a/b", False),
        (IdentityRule.MATCH_EXACT, "r.example/a:1", "r.example/a:1", True),
        (IdentityRule.MATCH_EXACT, "r.example/a:1", "r.example/a", False),
        (IdentityRule.MATCH_EXACT, f"r.example/a:1@sha256:{HEX}", f"r.example/a:1@sha256:{HEX}", False),
        (IdentityRule.EXACT_REPOSITORY, "mirror.example/a:1", "r.example/x", True),
        (IdentityRule.EXACT_REPOSITORY, "r.example/a:1", "r.example/a", False),
        (IdentityRule.MATCH_REPOSITORY, "r.example/a:1", "NOT A NAME", False),
        (IdentityRule.MATCH_REPOSITORY, "r.example/a:1", "", False),
    ],
)
def test_a_signed_name_covers_what_its_rule_says(rule, asked, signed, accepted):
    identity = SignedIdentity(rule, "r.example/x" if rule is IdentityRule.EXACT_REPOSITORY else "")
    finding = identity.check(Reference.parse(asked), signed)
    assert finding.outcome is (Outcome.PASSED if accepted else Outcome.FAILED)


def test_identities_are_read_from_the_policy():
    member = {"type": "exactRepository", "dockerRepository": "r.example/a"}
    assert _requirement(signedIdentity=member).identity == SignedIdentity(
        IdentityRule.EXACT_REPOSITORY, "r.example/a"
    )
    assert _requirement().identity.rule is IdentityRule.MATCH_REPO_DIGEST_OR_EXACT
