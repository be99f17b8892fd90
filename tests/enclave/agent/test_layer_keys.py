"""Which keys the owner's settings put into the ring that opens layers."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import RefusedError
from enclave_cc.enclave.agent.pipeline import _key_ring
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.ocicrypt.annotation_packet import (
    KEYS_ANNOTATION,
    AnnotationPacket,
    WrapType,
    encode_packets,
)
from enclave_cc.formats.ocicrypt.jwe_item import JweRecipient
from enclave_cc.formats.ocicrypt.layer_cipher import PUBLIC_OPTIONS_ANNOTATION, PrivateOptions, PublicOptions
from enclave_cc.formats.ocicrypt.wrapping import wrapped_annotations
from enclave_cc.formats.owner.settings import OwnerSettings
from enclave_cc.image.checks import Checks


class Broker:
    def __init__(self, **resources):
        self.resources = resources

    def get(self, uri):
        return self.resources[uri.rpartition("/")[2]]


def unwrapped(settings, broker, recipient_or_annotations):
    """Unwrap a layer's key as the pipeline does with the owner's settings."""
    options = PrivateOptions.fresh(Digest.of(b"x"))
    annotations = recipient_or_annotations(options)
    annotations[PUBLIC_OPTIONS_ANNOTATION] = PublicOptions(bytes(32)).encode()
    layer = Descriptor("t", Digest.of(b"y"), 1, annotations)
    ring = _key_ring(OwnerSettings.parse({"image": settings}), broker)
    return ring.unwrap(layer, Checks()).private == options


def test_private_keys_of_the_owner_come_from_the_broker_that_initdata_names_them_in():
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    recipient = JweRecipient.parse(public)

    def wrapped(options):
        return wrapped_annotations(options, [recipient])

    settings = {"decryption_keys": ["kbs:///owner/keys/private"]}
    assert unwrapped(settings, Broker(private=private), wrapped)
    with pytest.raises(RefusedError) as caught:
        unwrapped({}, Broker(private=private), wrapped)
    assert caught.value.code == "layer-key-refused"


def test_unauthenticated_wrapping_is_accepted_only_where_initdata_says_so():
    kek, iv = bytes(32), bytes(16)

    def wrapped(options):
        sealed = Cipher(algorithms.AES(kek), modes.CTR(iv)).encryptor().update(options.encode())
        packet = AnnotationPacket("kbs:///owner/keys/kek", sealed, iv, WrapType.A256CTR)
        return {KEYS_ANNOTATION: encode_packets((packet,))}

    assert unwrapped({"insecure_allow_a256ctr": True}, Broker(kek=kek), wrapped)
    with pytest.raises(RefusedError) as caught:
        unwrapped({}, Broker(kek=kek), wrapped)
    assert caught.value.code == "layer-key-refused"
