import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.identity import IdentityRule, SignedIdentity
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.formats.signatures.requirements import (
    FulcioTrust,
    InsecureAcceptAnything,
    KeyTrust,
    Material,
    Reject,
    SignedBy,
    SigstoreSigned,
    TrustedRootTrust,
)
from enclave_cc.formats.signatures.signer import SignerIdentity

HEX = "a" * 64
ACCEPT = {"type": "insecureAcceptAnything"}
REJECT = {"type": "reject"}
KEY = "kbs:///default/cosign/1"
SIGNED = {"type": "sigstoreSigned", "keyPath": KEY}
FULCIO = {
    "type": "sigstoreSigned",
    "fulcio": {"caPath": KEY, "oidcIssuer": "https://issuer.example", "subjectEmail": "a@b.example"},
    "rekorPublicKeyPath": KEY,
}
ROOT = {
    "type": "sigstoreSigned",
    "trustedRootPath": KEY,
    "certificateIdentity": "a@b.example",
    "certificateOidcIssuer": "https://issuer.example",
}
SIGNER = SignerIdentity("a@b.example", "https://issuer.example")


def _parse(document):
    return SignaturePolicy.parse(json.dumps(document).encode())


def _requirement(**members):
    return _parse({"default": [_without(SIGNED, **members)]}).default[0]


def _without(requirement, **members):
    """Change members of a requirement; None takes one away."""
    return {name: value for name, value in {**requirement, **members}.items() if value is not None}


def _refused(document):
    with pytest.raises(InvalidInputError) as caught:
        SignaturePolicy.parse(document if isinstance(document, bytes) else json.dumps(document).encode())
    assert caught.value.code == "signature-policy-invalid"


def test_the_three_kinds_of_requirements_are_read():
    policy = _parse({"default": [ACCEPT, REJECT, SIGNED]})
    assert policy.default == (
        InsecureAcceptAnything(),
        Reject(),
        SigstoreSigned(KeyTrust((Material("kbs:///default/cosign/1"),))),
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
        {"default": [{"type": "signedBy", "keyPath": KEY}]},
        {"default": [{"type": "signedBy", "keyType": "X509Certificates", "keyPath": KEY}]},
        {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": KEY, "keyPaths": [KEY]}]},
        {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": []}]},
        {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyDatas": ["eA=="]}]},
        {"default": [{"type": "signedBy", "keyType": "GPGKeys"}]},
        {"default": [{**SIGNED, "pki": {}}]},
        {"default": [{**SIGNED, "keyPaths": ["kbs:///a/b/c"]}]},
        {"default": [_without(SIGNED, keyPath=None, keyPaths=[])]},
        {"default": [_without(SIGNED, keyPath=None, keyPaths=["kbs:///a/b/c"] * 33)]},
        {"default": [_without(SIGNED, keyPath=None, keyDatas=["eA==", 1])]},
        {"default": [{**SIGNED, "keyPath": "kbs:///a/b"}]},
        {"default": [{**SIGNED, "keyPath": "kbs://host/a/b/c"}]},
        {"default": [{**SIGNED, "certificateIdentity": "a@b.example"}]},
        {"default": [{**SIGNED, "trustedRootPath": KEY}]},
        {"default": [{**SIGNED, "rekorPublicKeyPath": KEY, "rekorPublicKeyData": "eA=="}]},
        {"default": [_without(FULCIO, rekorPublicKeyPath=None)]},
        {"default": [{**FULCIO, "keyPath": KEY}]},
        {"default": [{**FULCIO, "fulcio": {**FULCIO["fulcio"], "caData": "eA=="}}]},
        {"default": [{**FULCIO, "fulcio": _without(FULCIO["fulcio"], caPath=None)}]},
        {"default": [{**FULCIO, "fulcio": {**FULCIO["fulcio"], "oidcIssuer": ""}}]},
        {"default": [{**FULCIO, "fulcio": _without(FULCIO["fulcio"], subjectEmail=None)}]},
        {"default": [{**FULCIO, "fulcio": {**FULCIO["fulcio"], "subject": "x"}}]},
        {"default": [{**FULCIO, "certificateIdentity": "a@b.example"}]},
        {"default": [{**ROOT, "certificateIdentity": ""}]},
        {"default": [_without(ROOT, certificateOidcIssuer=None)]},
        {"default": [{**ROOT, "rekorPublicKeyPath": KEY}]},
        {"default": [{**ROOT, "trustedRootData": "eA=="}]},
        {"default": [{"type": "sigstoreSigned"}]},
        {"default": [{**ACCEPT, "note": "x"}]},
        {"default": [{**REJECT, "keyPath": "x"}]},
        {"default": [{**SIGNED, "keyData": "eA=="}]},
        {"default": [{**SIGNED, "fulcio": {}}]},
        {"default": [{**SIGNED, "keyPath": "/etc/key.pem"}]},
        {"default": [_without(SIGNED, keyPath=None, keyData="not base64!")]},
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


@pytest.mark.parametrize(
    "document",
    [
        {"default": [ACCEPT], "transports": None},
        {"default": [ACCEPT], "transports": {"docker": None}},
        {"default": [{**SIGNED, "rekorPublicKeyPath": None}]},
        {"default": [{**SIGNED, "signedIdentity": None}]},
        {"default": [{**SIGNED, "fulcio": None}]},
    ],
)
def test_a_member_that_a_template_left_empty_is_not_one_that_is_absent(document):
    _refused(document)


@given(st.binary())
def test_any_bytes_parse_or_are_refused(data):
    _refused(data)


def test_keys_may_stand_in_the_policy_as_pem_or_base64():
    pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    for text in (pem, base64.b64encode(pem.encode()).decode()):
        assert _requirement(keyPath=None, keyData=text).trust.keys == (Material(data=pem.encode()),)


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
    assert scope.requirements[0].trust.keys[0].uri == f"kbs:///default/key/{names.index(chosen)}"


@pytest.mark.parametrize("suffix", [":1", f"@sha256:{HEX}"])
def test_what_a_policy_says_of_a_tag_or_digest_holds_where_both_are_named(suffix):
    scopes = {"registry.example": [ACCEPT], f"registry.example/app{suffix}": [REJECT]}
    policy = _parse({"default": [ACCEPT], "transports": {"docker": scopes}})
    asked = Reference.parse(f"registry.example/app:1@sha256:{HEX}")
    assert policy.scope_for(asked).requirements == (Reject(),)


@pytest.mark.parametrize(
    "scope",
    [
        "nginx",
        "docker.io/nginx:1",
        "Registry.example",
        "registry.example/team/",
        "registry.example/Team",
        "https://registry.example",
        "index.docker.io",
        "*",
        "*.registry.example/team",
        "*.registry.example:5000",
        "registry.example/team/*",
        "registry.example/app:",
        "registry.example/app@sha256:ab",
    ],
)
def test_a_scope_that_no_image_belongs_to_is_refused(scope):
    _refused({"default": [ACCEPT], "transports": {"docker": {scope: [REJECT]}}})


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "docker.io",
        "docker.io/library",
        "docker.io/library/nginx",
        "docker.io/library/nginx:1",
        "localhost",
        "localhost:5000/a",
        "registry.example:5000",
        "*.example",
        f"registry.example/app@sha256:{HEX}",
    ],
)
def test_a_scope_that_images_belong_to_is_read(scope):
    assert scope in _parse({"default": [REJECT], "transports": {"docker": {scope: [REJECT]}}}).scopes


def test_a_reference_that_no_scope_names_gets_the_default():
    policy = _parse({"default": [REJECT], "transports": {"docker": {"registry.example": [ACCEPT]}}})
    assert policy.scope_for(Reference.parse("registry.example.evil/a")).requirements == (Reject(),)


@pytest.mark.parametrize(
    ("requirement", "trust"),
    [
        (FULCIO, FulcioTrust(Material(KEY), (Material(KEY),), SIGNER)),
        (ROOT, TrustedRootTrust(Material(KEY), SIGNER)),
        ({**SIGNED, "rekorPublicKeyDatas": ["eA=="]}, KeyTrust((Material(KEY),), (Material(data=b"x"),))),
        (
            {"type": "sigstoreSigned", "keyDatas": ["eA==", "eQ=="]},
            KeyTrust((Material(data=b"x"), Material(data=b"y"))),
        ),
    ],
)
def test_every_way_to_trust_a_sigstore_signature_is_read(requirement, trust):
    assert _parse({"default": [requirement]}).default == (SigstoreSigned(trust),)


def test_openpgp_keyrings_are_read():
    signed_by = {"type": "signedBy", "keyType": "GPGKeys", "keyPaths": [KEY, "kbs:///a/b/c"]}
    assert _parse({"default": [signed_by]}).default == (SignedBy((Material(KEY), Material("kbs:///a/b/c"))),)


def test_files_count_only_where_the_caller_says_so():
    document = json.dumps({"default": [{**SIGNED, "keyPath": "keys/cosign.pub"}]}).encode()
    _refused(document)
    (requirement,) = SignaturePolicy.parse(document, allow_files=True).default
    assert requirement.trust.keys == (Material("keys/cosign.pub"),)
    for path in ("https://keys.example/a", "", "kbs:///a"):
        with pytest.raises(InvalidInputError):
            SignaturePolicy.parse(
                json.dumps({"default": [{**SIGNED, "keyPath": path}]}).encode(), allow_files=True
            )


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
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, f"r.example/a:1@sha256:{HEX}", "r.example/a", True),
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, f"r.example/a:1@sha256:{HEX}", "r.example/a:1", True),
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, f"r.example/a:1@sha256:{HEX}", "r.example/a:2", False),
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, "r.example/a:1", f"r.example/a:1@sha256:{HEX}", False),
        (
            IdentityRule.MATCH_REPO_DIGEST_OR_EXACT,
            f"r.example/a@sha256:{HEX}",
            f"r.example/a@sha256:{'b' * 64}",
            False,
        ),
        (IdentityRule.EXACT_REFERENCE, "mirror.example/a:1", "r.example/x:1", True),
        (IdentityRule.EXACT_REFERENCE, "mirror.example/a:1", "r.example/x:2", False),
        (IdentityRule.REMAP_IDENTITY, "mirror.example/of/app:1", "r.example/team/app:1", True),
        (IdentityRule.REMAP_IDENTITY, "mirror.example/of:1", "r.example/team:1", True),
        (IdentityRule.REMAP_IDENTITY, "mirror.example/offer:1", "r.example/teamfer:1", False),
        (IdentityRule.REMAP_IDENTITY, "mirror.example/of/app:1", "mirror.example/of/app:1", False),
        (IdentityRule.REMAP_IDENTITY, "r.example/b:1", "r.example/b:1", True),
        (IdentityRule.INSECURE_ANY_NAME, "r.example/a:1", "", True),
        (IdentityRule.INSECURE_ANY_NAME, "r.example/a:1", "s.example/b", True),
        (IdentityRule.MATCH_REPO_DIGEST_OR_EXACT, "r.example/a:1", "", False),
        (IdentityRule.MATCH_REPOSITORY, "r.example/a:1", "NOT A NAME", False),
        (IdentityRule.MATCH_REPOSITORY, "r.example/a:1", "", False),
    ],
)
def test_a_signed_name_covers_what_its_rule_says(rule, asked, signed, accepted):
    named = {
        IdentityRule.EXACT_REPOSITORY: ("r.example/x", ""),
        IdentityRule.EXACT_REFERENCE: ("r.example/x:1", ""),
        IdentityRule.REMAP_IDENTITY: ("mirror.example/of", "r.example/team"),
    }
    identity = SignedIdentity(rule, *named.get(rule, ("", "")))
    finding = identity.check(Reference.parse(asked), signed, untagged_covers_tags=True)
    assert finding.outcome is (Outcome.PASSED if accepted else Outcome.FAILED)


def test_only_cosigns_names_cover_tags_they_do_not_carry():
    asked, identity = Reference.parse("r.example/a:1"), SignedIdentity()
    assert identity.check(asked, "r.example/a", untagged_covers_tags=True).outcome is Outcome.PASSED
    assert identity.check(asked, "r.example/a", untagged_covers_tags=False).outcome is Outcome.FAILED
    assert identity.check(asked, "r.example/a:1", untagged_covers_tags=False).outcome is Outcome.PASSED
    digest = Reference.parse(f"r.example/a@sha256:{HEX}")
    assert identity.check(digest, "r.example/a", untagged_covers_tags=False).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("member", "identity"),
    [
        (
            {"type": "exactRepository", "dockerRepository": "r.example/a"},
            SignedIdentity(IdentityRule.EXACT_REPOSITORY, "r.example/a"),
        ),
        (
            {"type": "exactReference", "dockerReference": "busybox:1"},
            SignedIdentity(IdentityRule.EXACT_REFERENCE, "docker.io/library/busybox:1"),
        ),
        (
            {"type": "remapIdentity", "prefix": "mirror.example", "signedPrefix": "r.example/team"},
            SignedIdentity(IdentityRule.REMAP_IDENTITY, "mirror.example", "r.example/team"),
        ),
        ({"type": "insecureAnyName"}, SignedIdentity(IdentityRule.INSECURE_ANY_NAME)),
    ],
)
def test_identities_are_read_from_the_policy(member, identity):
    assert _requirement(signedIdentity=member).identity == identity
    assert _requirement().identity.rule is IdentityRule.MATCH_REPO_DIGEST_OR_EXACT


@pytest.mark.parametrize(
    "member",
    [
        {"type": "exactReference", "dockerReference": "r.example/a"},
        {"type": "exactReference"},
        {"type": "remapIdentity", "prefix": "r.example/a:1", "signedPrefix": "r.example"},
        {"type": "remapIdentity", "prefix": "busybox", "signedPrefix": "r.example"},
        {"type": "remapIdentity", "prefix": "r.example/", "signedPrefix": "r.example"},
        {"type": "remapIdentity", "prefix": "r.example"},
        {"type": "insecureAnyName", "dockerRepository": "r.example/a"},
        {},
    ],
)
def test_identities_that_make_no_sense_are_refused(member):
    _refused({"default": [{**SIGNED, "signedIdentity": member}]})
