import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError
from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.manifest import Index, Manifest
from enclave_cc.formats.ocicrypt.annotation_packet import (
    KEYS_ANNOTATION,
    MAX_PACKETS,
    AnnotationPacket,
    WrapType,
    encode_packets,
    parse_packets,
)
from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions

KID = "kbs:///default/key/1"
SAMPLE_KEY = Secret(bytes.fromhex("d99b7705b0ba7a168295b3a3367270b0dd9b371bf514ca8b9ba7f0a33711daea"))


@pytest.fixture
def options():
    return PrivateOptions.fresh(Digest.of(b"x"))


@pytest.fixture
def kek():
    return Secret.random(32)


def _document(packet, **change):
    return json.dumps({**json.loads(packet.encode()), **change}).encode()


def test_a_packet_opens_under_its_key(options, kek):
    packet = AnnotationPacket.wrap(options, kek=kek, kid=KID)
    (read,) = parse_packets(encode_packets((packet,)))
    assert read == packet
    assert read.unwrap(kek) == options


def test_a_packet_does_not_open_under_another_key(options, kek):
    with pytest.raises(RefusedError) as caught:
        AnnotationPacket.wrap(options, kek=kek, kid=KID).unwrap(Secret.random(32))
    assert caught.value.code == "layer-key-refused"
    assert KID not in caught.value.summary


def test_a_changed_packet_does_not_open(options, kek):
    packet = AnnotationPacket.wrap(options, kek=kek, kid=KID)
    changed = bytes([packet.wrapped_data[0] ^ 1]) + packet.wrapped_data[1:]
    with pytest.raises(RefusedError):
        AnnotationPacket(KID, changed, packet.iv).unwrap(kek)


def test_no_nonce_is_used_twice(options, kek):
    packets = [AnnotationPacket.wrap(options, kek=kek, kid=KID) for _ in range(2)]
    assert packets[0].iv != packets[1].iv


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(options, kek, size):
    packet = AnnotationPacket.wrap(options, kek=kek, kid=KID)
    with pytest.raises(RefusedError):
        packet.unwrap(Secret(bytes(size)))
    with pytest.raises(InvalidInputError):
        AnnotationPacket.wrap(options, kek=Secret(bytes(size)), kid=KID)


def test_a_key_id_that_is_no_broker_resource_is_not_written(options, kek):
    with pytest.raises(InvalidInputError) as caught:
        AnnotationPacket.wrap(options, kek=kek, kid="file:///key")
    assert caught.value.code == "image-key-invalid"


def test_version_two_reads_like_version_one(options, kek):
    packet = AnnotationPacket.wrap(options, kek=kek, kid=KID)
    extra = {"version": "0.1.0", "provider": "kbs", "provider_settings": {}, "annotations": {}}
    assert AnnotationPacket.parse(_document(packet, **extra)) == packet


@pytest.mark.parametrize(
    "change",
    [
        {"version": "0.2.0"},
        {"provider": "aliyun"},
        {"kid": "file:///etc/key"},
        {"kid": None},
        {"iv": "?"},
        {"iv": None},
        {"wrap_type": "none"},
        {"wrapped_data": None},
    ],
)
def test_one_wrong_member_makes_a_packet_malformed(options, kek, change):
    with pytest.raises(InvalidInputError) as caught:
        AnnotationPacket.parse(_document(AnnotationPacket.wrap(options, kek=kek, kid=KID), **change))
    assert caught.value.code == "layer-key-invalid"


def test_a_packet_that_does_not_parse_does_not_hide_the_next(options, kek):
    good = encode_packets((AnnotationPacket.wrap(options, kek=kek, kid=KID),))
    assert len(parse_packets(f"???,{good}")) == 1


def test_no_more_packets_are_read_than_anybody_writes(options, kek):
    good = encode_packets((AnnotationPacket.wrap(options, kek=kek, kid=KID),))
    assert len(parse_packets(",".join([good] * 1000))) == MAX_PACKETS


@given(st.text() | st.binary().map(lambda data: base64.b64encode(data).decode()))
def test_any_annotation_parses_or_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_packets(text)


@given(st.binary(max_size=64), st.binary(max_size=20), st.sampled_from(WrapType))
def test_any_wrapped_bytes_open_or_are_refused(data, iv, wrap_type):
    with pytest.raises(EnclaveCcError):
        AnnotationPacket(KID, data, iv, wrap_type).unwrap(SAMPLE_KEY, insecure_allow_a256ctr=True)


def test_the_sample_annotation_opens_under_the_published_key(vectors):
    packet = AnnotationPacket.parse((vectors / "oci" / "sample_kbc_annotation.json").read_bytes())
    expected = json.loads((vectors / "oci" / "sample_kbc_annotation.expected.json").read_bytes())
    assert packet.unwrap(SAMPLE_KEY) == PrivateOptions.parse(expected["plaintext"].encode())


def test_packets_of_all_kinds_made_by_others_open(vectors):
    layout = vectors / "oci" / "oci-encrypted"
    kek = Secret((vectors / "oci" / "kek.bin").read_bytes())
    index = Index.parse((layout / "index.json").read_bytes())
    manifest = Manifest.parse((layout / "blobs" / "sha256" / index.manifests[0].digest.hex).read_bytes())
    packets = [parse_packets(layer.annotations[KEYS_ANNOTATION])[0] for layer in manifest.layers]
    assert [packet.wrap_type for packet in packets] == ["A256GCM", "A256CTR", "A256GCM"]
    for packet in packets:
        packet.unwrap(kek, insecure_allow_a256ctr=True)
    with pytest.raises(RefusedError) as caught:
        packets[1].unwrap(kek)
    assert caught.value.code == "layer-key-refused"
