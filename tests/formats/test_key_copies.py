"""What is left of keys in a process's memory after the primitives that used them are gone: nothing."""

from __future__ import annotations

from tests.core.memory_scan import patient

SEALING = """
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, STRIDE_BYTES, ChunkOpener, ChunkSealer
from enclave_cc.formats.sealed.manifest import Binding, Manifest, SealedBlob, open_manifest, seal_manifest
fdk, keys = Secret.random(), [Secret.random() for _ in range(20)]
for key in (fdk, *keys):
    tell(key)
for key in keys:
    sealer = ChunkSealer(key)
    sealed = b"".join(bytes(piece) for piece in sealer.feed(bytes(CHUNK_BYTES))) + bytes(sealer.finish())
    opener = ChunkOpener(key)
    opener.open_into(0, sealed, bytearray(CHUNK_BYTES))
del sealer, opener
binding = Binding("pod", "container", "image")
blobs = tuple(SealedBlob("%032x.blob" % number, 1, key) for number, key in enumerate(keys))
data = seal_manifest(Manifest(blobs), fdk=fdk, binding=binding, nonce=bytes(12))
opened = open_manifest(data, fdk=fdk, binding=binding)
for key in (fdk, *keys):
    key.wipe()
opened.wipe()
step()
"""

RELEASING = """
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from enclave_cc.formats.local_attestation import keys
from enclave_cc.formats.local_attestation.release import Release
private, peer = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key()
agreed, fdk = keys.agree(private, peer.public_bytes_raw(), bytes(32)), Secret.random()
tell(agreed)
tell(fdk)
agent, app = (keys.boxes(agreed, b"session", bytes(32)) for _ in range(2))
buffer = Release(fdk, bytes(32), b"{}" * 5000).pack()
message = agent.from_agent.seal(buffer)
buffer[:] = bytes(len(buffer))
received = Release.take(app.from_agent.open(message))
for secret in (agreed, fdk, received.fdk):
    secret.wipe()
step()
"""


def test_sealing_and_opening_an_image_leaves_no_key():
    with patient(SEALING) as process:
        assert process.look() == 0
        assert len(process.keys) == 21


def test_handing_over_a_key_leaves_none():
    with patient(RELEASING) as process:
        assert process.look() == 0
        assert len(process.keys) == 2
