"""
A sigstore of one's own: authority, log of certificates and log of signatures; each lies where a test says so.

It follows the public documents, not the verifier: cosign itself accepts what comes out of it
(tests/interop/test_cosign.py).
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = dt.datetime(2026, 1, 1, 12, 0, 0, tzinfo=dt.UTC)
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
ROOT_TYPE = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
IN_TOTO = "application/vnd.in-toto+json"
ISSUER = "https://issuer.example"
SIGNER = "builder@team.example"
ORIGIN = "rekor.example - 1234567890"


def b64(data):
    return base64.b64encode(data).decode()


def spki(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_id(key):
    return hashlib.sha256(spki(key)).digest()


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def sign(key, message):
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def utf8_string(text):
    data = text.encode()
    assert len(data) < 128
    return bytes((0x0C, len(data))) + data


@dataclass
class Leaf:
    """What the next signing certificate says; tests bend it."""

    names: list = field(default_factory=lambda: [x509.RFC822Name(SIGNER)])
    issuer_v1: str | None = ISSUER
    issuer_v2: str | None = ISSUER
    not_before: dt.datetime = NOW - dt.timedelta(minutes=5)
    not_after: dt.datetime = NOW + dt.timedelta(minutes=5)
    is_authority: bool = False
    purposes: list = field(default_factory=lambda: [ExtendedKeyUsageOID.CODE_SIGNING])
    digital_signature: bool = True
    has_sct: bool = True
    extra: list = field(default_factory=list)

    def extensions(self):
        yield x509.SubjectAlternativeName(self.names), True
        yield x509.ExtendedKeyUsage(self.purposes), False
        yield key_usage(digital_signature=self.digital_signature, certificates=self.is_authority), True
        if self.is_authority:
            yield x509.BasicConstraints(ca=True, path_length=0), True
        if self.issuer_v1 is not None:
            yield unrecognized("1.3.6.1.4.1.57264.1.1", self.issuer_v1.encode()), False
        if self.issuer_v2 is not None:
            yield unrecognized("1.3.6.1.4.1.57264.1.8", utf8_string(self.issuer_v2)), False
        yield from self.extra


def unrecognized(oid, value):
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def key_usage(*, digital_signature, certificates):
    others = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
        **others,
    )


class Authority:
    """A root and an intermediate, as Fulcio has them."""

    def __init__(self):
        self.root_key, self.key = new_key(), new_key()
        self.root = self.issue_authority("root.example", self.root_key, "root.example", self.root_key, 1)
        self.certificate = self.issue_authority("ca.example", self.key, "root.example", self.root_key, 0)

    def issue_authority(self, subject, key, issuer, issuer_key, path_length, **options):
        usage = key_usage(digital_signature=False, certificates=options.get("may_sign", True))
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(options.get("start", NOW - dt.timedelta(days=300)))
            .not_valid_after(options.get("end", NOW + dt.timedelta(days=300)))
            .add_extension(
                x509.BasicConstraints(ca=options.get("ca", True), path_length=path_length), critical=True
            )
            .add_extension(usage, critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([options.get("purpose", ExtendedKeyUsageOID.CODE_SIGNING)]),
                critical=False,
            )
        )
        if options.get("constraints"):
            builder = builder.add_extension(
                x509.NameConstraints([x509.DNSName("example")], None), critical=False
            )
        return builder.sign(issuer_key, options.get("hash", hashes.SHA256()))

    def issue(self, public_key, leaf, ct_key, *, sct_time=NOW):
        """Issue a signing certificate; its timestamp is over the certificate without the timestamp."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(leaf.not_before)
            .not_valid_after(leaf.not_after)
        )
        for extension, critical in leaf.extensions():
            builder = builder.add_extension(extension, critical=critical)
        if not leaf.has_sct:
            return builder.sign(self.key, hashes.SHA256())
        bare = builder.sign(self.key, hashes.SHA256())
        listed = sct_list(ct_key, bare.tbs_certificate_bytes, key_id(self.key), sct_time)
        builder = builder.add_extension(unrecognized("1.3.6.1.4.1.11129.2.4.2", listed), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def sct_list(ct_key, tbs, issuer_key_hash, when):
    """Encode one signed certificate timestamp (RFC 6962, 3.2, 3.3)."""
    milliseconds = int(when.timestamp() * 1000).to_bytes(8, "big")
    entry = b"\x00\x01" + issuer_key_hash + len(tbs).to_bytes(3, "big") + tbs
    signature = sign(ct_key, b"\x00\x00" + milliseconds + entry + b"\x00\x00")
    body = b"\x00" + key_id(ct_key) + milliseconds + b"\x00\x00"
    body += b"\x04\x03" + len(signature).to_bytes(2, "big") + signature
    one = len(body).to_bytes(2, "big") + body
    return der_octets(len(one).to_bytes(2, "big") + one)


def der_octets(data):
    size = len(data)
    length = (
        bytes((size,))
        if size < 128
        else bytes((0x81, size))
        if size < 256
        else b"\x82" + size.to_bytes(2, "big")
    )
    return b"\x04" + length + data


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_root(hashes_):
    if len(hashes_) == 1:
        return hashes_[0]
    split = 1 << (len(hashes_) - 1).bit_length() - 1
    return node(tree_root(hashes_[:split]), tree_root(hashes_[split:]))


def tree_path(hashes_, index):
    if len(hashes_) == 1:
        return []
    split = 1 << (len(hashes_) - 1).bit_length() - 1
    if index < split:
        return [*tree_path(hashes_[:split], index), tree_root(hashes_[split:])]
    return [*tree_path(hashes_[split:], index - split), tree_root(hashes_[:split])]


class Log:
    """A Rekor with other people's entries around ours; of version 2 it states no time and has a name."""

    def __init__(self):
        self.key = new_key()
        self.offset = 5000
        self.version = 1
        self.kind = "dsse"
        self.named = b""

    @property
    def log_id(self):
        return self.named or key_id(self.key)

    def add(self, body, when, *, before=5, after=3):
        index = before
        leaves = [hashlib.sha256(b"\x00other%d" % number).digest() for number in range(before + after)]
        leaves.insert(index, hashlib.sha256(b"\x00" + body).digest())
        root, size = tree_root(leaves), len(leaves)
        entry = {
            "body": b64(body),
            "integratedTime": int(when.timestamp()),
            "logID": key_id(self.key).hex(),
            "logIndex": self.offset + index,
        }
        promise = sign(self.key, json.dumps(entry, sort_keys=True, separators=(",", ":")).encode())
        kind = json.loads(body)
        stated = {
            "integratedTime": str(entry["integratedTime"]),
            "inclusionPromise": {"signedEntryTimestamp": b64(promise)},
        }
        return {
            "logIndex": str(self.offset + index),
            "logId": {"keyId": b64(self.log_id)},
            "kindVersion": {"kind": kind["kind"], "version": kind["apiVersion"]},
            **(stated if self.version == 1 else {}),
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": b64(root),
                "treeSize": str(size),
                "hashes": [b64(step) for step in tree_path(leaves, index)],
                "checkpoint": {"envelope": self.checkpoint(size, root)},
            },
            "canonicalizedBody": b64(body),
        }

    def checkpoint(self, size, root, *, key=None, text=None):
        signer = key or self.key
        text = text or f"{ORIGIN}\n{size}\n{b64(root)}\n"
        hint = key_id(signer) if key else self.log_id
        signature = b64(hint[:4] + sign(signer, text.encode()))
        return f"{text}\n\N{EM DASH} {ORIGIN.split(maxsplit=1)[0]} {signature}\n"


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class SigstoreSimulator:
    """All services; ``sign_*`` are what a client does with them."""

    def __init__(self):
        self.authority, self.log, self.ct_key = Authority(), Log(), new_key()
        self.leaf = Leaf()
        self.signed_at = NOW
        self.sct_time = NOW

    def trusted_root(self, **changes):
        """Write what an owner pins."""
        log = {"baseUrl": "https://rekor.example", "hashAlgorithm": "SHA2_256"}
        ctlog = {"baseUrl": "https://ct.example", "hashAlgorithm": "SHA2_256"}
        chain = [self.authority.certificate, self.authority.root]
        root = {
            "mediaType": ROOT_TYPE,
            "tlogs": [log | log_key(self.log.key)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "example", "commonName": "root"},
                    "uri": "https://fulcio.example",
                    "certChain": {
                        "certificates": [{"rawBytes": b64(one.public_bytes(Encoding.DER))} for one in chain]
                    },
                    "validFor": {"start": "2025-01-01T00:00:00Z"},
                }
            ],
            "ctlogs": [ctlog | log_key(self.ct_key)],
            "timestampAuthorities": [],
        }
        return json.dumps({**root, **changes}).encode()

    def certificate(self, key):
        return self.authority.issue(key.public_key(), self.leaf, self.ct_key, sct_time=self.sct_time)

    def sign_statement(self, statement, **bends):
        """Return a bundle as JSON members, with the log's entry of kind dsse."""
        key = new_key()
        certificate = self.certificate(key)
        kind = IN_TOTO.encode()
        pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(statement), statement)
        signature = sign(bends.get("signing_key", key), pae)
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": "00" * 32},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(statement).hexdigest()},
                "signatures": [
                    {"signature": b64(signature), "verifier": b64(certificate.public_bytes(Encoding.PEM))}
                ],
            },
        }
        body["spec"].update(bends.get("spec", {}))
        if self.log.version == 2:
            body = self._second_version(statement, pae, signature, certificate)
        return {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {
                "certificate": {"rawBytes": b64(certificate.public_bytes(Encoding.DER))},
                "tlogEntries": [self.log.add(canonical(body), self.signed_at)],
            },
            "dsseEnvelope": {
                "payload": b64(statement),
                "payloadType": IN_TOTO,
                "signatures": [{"sig": b64(signature)}],
            },
        }

    def _second_version(self, statement, pae, signature, certificate):
        """Write the entry as Rekor 2 does: DER in place of PEM, hashes in base64."""
        raw = {"rawBytes": b64(certificate.public_bytes(Encoding.DER))}
        signed = {"content": b64(signature), "verifier": {"keyDetails": "x", "x509Certificate": raw}}

        def hashed(data):
            return {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(data).digest())}

        specs = {
            "dsse": {"dsseV002": {"payloadHash": hashed(statement), "signatures": [signed]}},
            "hashedrekord": {"hashedRekordV002": {"data": hashed(pae), "signature": signed}},
        }
        return {"apiVersion": "0.0.2", "kind": self.log.kind, "spec": specs[self.log.kind]}

    def sign_message(self, message, key=None):
        """Sign bytes; return signature, certificate and the log's entry of kind hashedrekord."""
        signer = key or new_key()
        certificate = None if key else self.certificate(signer)
        verifier = public_pem(signer) if key else certificate.public_bytes(Encoding.PEM)
        signature = sign(signer, message)
        body = {
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(message).hexdigest()}},
                "signature": {"content": b64(signature), "publicKey": {"content": b64(verifier)}},
            },
        }
        return signature, certificate, self.log.add(canonical(body), self.signed_at)

    def annotations(self, payload, key=None):
        """Sign a payload as cosign 2 does; return the annotations of its layer."""
        signature, certificate, entry = self.sign_message(payload, key)
        promised = {
            "body": entry["canonicalizedBody"],
            "integratedTime": int(entry["integratedTime"]),
            "logIndex": int(entry["logIndex"]),
            "logID": key_id(self.log.key).hex(),
        }
        log = {
            "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            "Payload": promised,
        }
        annotations = {
            "dev.cosignproject.cosign/signature": b64(signature),
            "dev.sigstore.cosign/bundle": json.dumps(log),
        }
        if certificate is not None:
            annotations["dev.sigstore.cosign/certificate"] = certificate.public_bytes(Encoding.PEM).decode()
            chain = (self.authority.certificate, self.authority.root)
            annotations["dev.sigstore.cosign/chain"] = "".join(
                one.public_bytes(Encoding.PEM).decode() for one in chain
            )
        return annotations


def log_key(key, **valid_for):
    public = {
        "rawBytes": b64(spki(key)),
        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
        "validFor": {"start": "2025-01-01T00:00:00Z", **valid_for},
    }
    return {"publicKey": public, "logId": {"keyId": b64(key_id(key))}}
