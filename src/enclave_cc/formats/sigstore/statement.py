"""
DSSE envelopes and the in-toto statement that cosign 3 puts into them.

DSSE v1: the signature covers the pre-authentication encoding (PAE) of payload type and payload. In-toto
Statement v1: subjects with digests, and a predicate whose type says what is claimed about them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.core.digest import HEX_CHARS, Digest
from enclave_cc.core.errors import Stage
from enclave_cc.core.fields import Fields
from enclave_cc.formats.oci.edge import foreign, read_object
from enclave_cc.formats.signatures.claim import MAX_PAYLOAD_BYTES, SUMMARY, SignedClaim

if TYPE_CHECKING:
    from collections.abc import Iterator

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
SIGN_PREDICATE: Final = "https://sigstore.dev/cosign/sign/v1"
# What `cosign sign -a docker-reference=NAME` adds: cosign 3 writes no name by itself.
NAME_ANNOTATION: Final = "docker-reference"
_MAX_SUBJECTS: Final = 64


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: ``DSSEv1 SP LEN(type) SP type SP LEN(body) SP body``."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def read_statement(payload: bytes) -> tuple[SignedClaim, ...]:
    """
    Read what an authentic statement claims; raise ``InvalidInputError`` (signature-invalid).

    Only cosign's *sign* predicate is a signature; an attestation about an image is none.
    """
    with foreign("signature-invalid", SUMMARY, stage=Stage.VERIFY):
        fields = read_object(payload, "statement", max_bytes=MAX_PAYLOAD_BYTES)
        fields.only("_type", "subject", "predicateType", "predicate")
        if fields.text("_type") != STATEMENT_TYPE:
            raise fields.error("_type", "is not an in-toto statement of version 1")
        if fields.text("predicateType") != SIGN_PREDICATE:
            raise fields.error("predicateType", "is another kind of statement")
        subjects = fields.array("subject")
        if not 0 < len(subjects) <= _MAX_SUBJECTS:
            raise fields.error("subject", "lists no subject or too many")
        return tuple(claim for entry in subjects for claim in _claims(Fields(entry, "statement.subject")))


def write_statement(claim: SignedClaim) -> bytes:
    """Write the statement that cosign writes, with the name that the image is signed for."""
    subject = {
        "annotations": {NAME_ANNOTATION: claim.docker_reference},
        "digest": {claim.manifest_digest.algorithm: claim.manifest_digest.hex},
        "name": claim.docker_reference,
    }
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [subject],
        "predicateType": SIGN_PREDICATE,
        "predicate": {},
    }
    return strict_json.canonical(statement)


def _claims(subject: Fields) -> Iterator[SignedClaim]:
    digests = subject.text_map("digest")
    names = {subject.text("name", default=""), subject.text_map("annotations").get(NAME_ANNOTATION, "")}
    names.discard("")
    if len(names) > 1:
        raise subject.error("name", "contradicts the annotation")
    # A digest of a kind that manifests are not named by says nothing about one.
    known = {algorithm: value for algorithm, value in digests.items() if algorithm in HEX_CHARS}
    if not known:
        raise subject.error("digest", "names no digest that an image can have")
    for algorithm, value in known.items():
        yield SignedClaim(Digest.parse(f"{algorithm}:{value}"), next(iter(names), ""))
