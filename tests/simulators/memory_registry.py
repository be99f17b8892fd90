"""The registry port in memory: takes what is pushed, serves it, and lies where a test says so."""

from __future__ import annotations

import hashlib

from enclave_cc.core.errors import InvalidInputError, Stage, UnavailableError
from enclave_cc.formats.oci.manifest import Index
from enclave_cc.formats.oci.media_types import OCI_INDEX
from enclave_cc.transport.registry.client import FetchedManifest


class MemoryRegistry:
    """Any repository; ``calls`` records what was asked for."""

    def __init__(self):
        self.blobs = {}
        self.manifests = {}
        self.lies = {}
        self.calls = []
        self.chunk_bytes = 1000

    def has_blob(self, reference, digest):
        return digest in self.blobs

    def upload_blob(self, reference, digest, data, *, size):
        body = data if isinstance(data, bytes) else b"".join(data)
        assert len(body) == size
        assert digest == f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.blobs[digest] = body

    def put_manifest(self, reference, tag, body, media_type):
        self.manifests[reference.name, tag] = FetchedManifest(body, media_type)
        return False

    def manifest(self, reference, *, digest_or_tag):
        self.calls.append(("manifest", digest_or_tag))
        found = self.manifests.get((reference.name, digest_or_tag))
        if found is None:
            raise InvalidInputError("image-not-found", "not here", stage=Stage.FETCH)
        return found

    def referrers(self, reference, *, digest):
        """Answer as a registry without the API does: the index under the tag that stands in."""
        self.calls.append(("referrers", digest))
        found = self.manifests.get((reference.name, digest.replace(":", "-")))
        return found or FetchedManifest(Index(()).to_bytes(), OCI_INDEX)

    def blob(self, reference, descriptor_digest, *, offset=0):
        self.calls.append(("blob", descriptor_digest))
        data = self.lies.get(descriptor_digest, self.blobs.get(descriptor_digest))
        if data is None:
            raise InvalidInputError("image-not-found", "not here", stage=Stage.FETCH)
        return self._chunks(data[offset:])

    def open(self, reference, descriptor):
        return self.blob(reference, str(descriptor.digest))

    def _chunks(self, data):
        for start in range(0, len(data), self.chunk_bytes):
            yield data[start : start + self.chunk_bytes]


class MemoryResources:
    """The broker's resources; ``missing`` ones are refused as a broker refuses them."""

    def __init__(self, resources):
        self.resources = dict(resources)
        self.asked = []

    def get(self, uri):
        self.asked.append(uri)
        if uri not in self.resources:
            raise UnavailableError("unavailable", "no such resource", stage=Stage.BROKER)
        return bytes(self.resources[uri])
