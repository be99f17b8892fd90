"""An authority for time stamps (RFC 3161) that stamps what it is told, bent where a test says so."""

from __future__ import annotations

import datetime as dt
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from enclave_cc.formats import der

SHA256 = "2.16.840.1.101.3.4.2.1"
TST_INFO = "1.2.840.113549.1.9.16.1.4"


def _seq(*parts):
    return der.write_sequence(*parts)


def _set(*parts):
    return der.write(der.SET, b"".join(parts))


def _name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


class TimestampAuthority:
    """A root and a certificate for time stamps."""

    def __init__(self, now, *, purposes=(ExtendedKeyUsageOID.TIME_STAMPING,), days=300):
        self.root_key, self.key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        span = dt.timedelta(days=days)

        def issue(subject, key, issuer, extensions):
            builder = (
                x509.CertificateBuilder()
                .subject_name(_name(subject))
                .issuer_name(_name(issuer))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - span)
                .not_valid_after(now + span)
            )
            for extension in extensions:
                builder = builder.add_extension(extension, critical=True)
            return builder.sign(self.root_key, hashes.SHA256())

        basic = x509.BasicConstraints(ca=True, path_length=0)
        self.root = issue("tsa-root.example", self.root_key, "tsa-root.example", [basic])
        usage = x509.ExtendedKeyUsage(list(purposes))
        self.certificate = issue("tsa.example", self.key, "tsa-root.example", [usage])

    def chain(self):
        return [self.certificate, self.root]

    def stamp(self, signature, when, **bends):
        """Answer for a signature; ``bends`` replaces parts."""
        imprint = hashlib.sha256(bends.get("imprinted", signature)).digest()
        algorithm = _seq(der.write_oid(bends.get("hash_oid", SHA256)))
        info = _seq(
            der.write_unsigned(bends.get("version", 1)),
            der.write_oid("1.3.6.1.4.1.57264.2"),
            _seq(algorithm, der.write(der.OCTET_STRING, imprint)),
            der.write_unsigned(7),
            der.write(0x18, when.strftime("%Y%m%d%H%M%SZ").encode()),
        )
        signer = self._signer(bends.get("digested", info), bends)
        certificates = bends.get("certificates", [])
        embedded = b"".join(one.public_bytes(Encoding.DER) for one in certificates)
        signed = _seq(
            der.write_unsigned(3),
            _set(_seq(der.write_oid(SHA256))),
            _seq(der.write_oid(TST_INFO), der.write(0xA0, der.write(der.OCTET_STRING, info))),
            *([der.write(0xA0, embedded)] if embedded else []),
            _set(signer),
        )
        token = _seq(der.write_oid(bends.get("kind", "1.2.840.113549.1.7.2")), der.write(0xA0, signed))
        return _seq(_seq(der.write_unsigned(bends.get("status", 0))), token)

    def _signer(self, info, bends):
        digest = der.write(der.OCTET_STRING, hashlib.sha256(info).digest())
        attributes = _seq(
            der.write_oid("1.2.840.113549.1.9.3"), _set(der.write_oid(bends.get("content_type", TST_INFO)))
        ) + _seq(der.write_oid("1.2.840.113549.1.9.4"), _set(digest))
        key = bends.get("key", self.key)
        signature = key.sign(der.write(der.SET, attributes), ec.ECDSA(hashes.SHA256()))
        serial = self.certificate.serial_number
        return _seq(
            der.write_unsigned(1),
            _seq(
                self.certificate.issuer.public_bytes(),
                der.write(der.INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1, "big")),
            ),
            _seq(der.write_oid(SHA256)),
            der.write(0xA0, attributes),
            _seq(der.write_oid(bends.get("signature_oid", "1.2.840.10045.4.3.2"))),
            der.write(der.OCTET_STRING, signature),
        )
