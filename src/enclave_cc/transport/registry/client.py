"""
An OCI distribution client: it moves bytes and maps failures, and checks nothing about content.

Whoever calls it compares digests and verifies signatures; a registry is an untrusted party. What
this module does promise: every answer is bounded in size and time, credentials go to the registry
and to the token service it names over TLS only (plain HTTP only where the caller listed the host),
and never along a redirect to another origin. Transient failures are tried again with growing
pauses, until the caller's patience ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode

from enclave_cc.core.errors import InvalidInputError, Stage, UnavailableError
from enclave_cc.formats.oci.media_types import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX
from enclave_cc.formats.registries.credentials import anonymous
from enclave_cc.formats.registries.proxies import Proxies
from enclave_cc.transport.patience.backoff import ATTEMPTS, Backoff
from enclave_cc.transport.patience.deadline import Patience
from enclave_cc.transport.registry.authorization import RegistryAuth
from enclave_cc.transport.registry.download import BlobDownload
from enclave_cc.transport.registry.http import RegistryHttp
from enclave_cc.transport.registry.upload import BlobUpload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.formats.registries.credentials import Credentials

# The distribution specification lets registries refuse larger manifests.
MAX_MANIFEST_BYTES: Final = 4 << 20
# One answer, from first byte sent to last byte received; blobs have a deadline of their own.
DEFAULT_DEADLINE_S: Final = 30.0
DEFAULT_BLOB_DEADLINE_S: Final = 3600.0

_DEFAULT_HOSTS: Final = {"docker.io": "registry-1.docker.io"}
_ACCEPTED_MANIFESTS: Final = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
_NO_REFERRERS: Final = f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}'.encode()
_OK: Final = 200
_CREATED: Final = 201
_NOT_FOUND: Final = 404

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A body as a registry sent it, and what the registry calls it. Both are claims."""

    body: bytes
    media_type: str


class RegistryClient:
    """Talks to any number of registries, with one connection pool and one token cache."""

    def __init__(
        self,
        *,
        insecure_http: Collection[str] = (),
        ca_pem: str = "",
        proxies: Proxies | None = None,
        credentials: Callable[[Reference], Credentials | None] = anonymous,
        deadline_s: float = DEFAULT_DEADLINE_S,
        blob_deadline_s: float = DEFAULT_BLOB_DEADLINE_S,
        attempts: int = ATTEMPTS,
        patience: Patience | None = None,
    ) -> None:
        """
        Prepare a client; nothing is sent yet.

        ``deadline_s`` bounds one request, ``blob_deadline_s`` one blob with all its requests, ``patience``
        everything that is done with this client. ``ca_pem`` is trusted beside the system's roots.
        """
        self._patience = patience or Patience()
        http = RegistryHttp(
            insecure_http=frozenset(insecure_http),
            ca_pem=ca_pem,
            proxies=proxies or Proxies(),
            request_s=deadline_s,
            patience=self._patience,
        )
        self._http = http
        self._auth = RegistryAuth(http, credentials, clock=self._patience.deadline.clock)
        self._blob_deadline_s = blob_deadline_s
        self._attempts = attempts

    def close(self) -> None:
        """Drop the pooled connections."""
        self._http.close()

    def interrupt(self) -> None:
        """End every request that waits for a peer, from another thread; it fails as if the peer had gone."""
        self._http.interrupt()

    def manifest(self, reference: Reference, *, digest_or_tag: str) -> FetchedManifest:
        """
        Fetch a manifest or an index.

        Raises ``InvalidInputError`` (image-not-found, registry-access-denied, registry-response-invalid)
        and ``UnavailableError`` (registry-unavailable).
        """
        return self._get_manifest(self._url(reference, "manifests", digest_or_tag), reference)

    def blob(self, reference: Reference, descriptor_digest: str, *, offset: int = 0) -> Iterator[bytes]:
        """
        Stream a blob from ``offset``; a connection that breaks is resumed where it stopped.

        The caller counts bytes: a registry that sends too many is not noticed here. Raises as
        ``manifest`` does, on the first step of the iteration.
        """
        url = self._url(reference, "blobs", descriptor_digest)
        patience = self._patience.at_most(self._blob_deadline_s)
        download = BlobDownload(self._http, self._auth, url, reference, offset=offset)
        return download.chunks(patience, Backoff(patience, attempts=self._attempts))

    def has_blob(self, reference: Reference, digest: str) -> bool:
        """Tell whether the repository holds a blob already."""

        def ask() -> bool:
            with self._auth.request("HEAD", url, reference, push=True) as response:
                self._http.expect(response, {_OK, _NOT_FOUND}, stage=Stage.STORE)
                return response.status == _OK

        url = self._url(reference, "blobs", digest)
        return self._retried(ask)

    def upload_blob(
        self, reference: Reference, digest: str, data: bytes | Iterable[bytes], *, size: int
    ) -> None:
        """Upload a blob of ``size`` bytes; transient failures are made good, though it is read only once."""
        chunks = [data] if isinstance(data, bytes) else data
        self.upload_stream(reference, chunks, digest=lambda: digest, size=size)

    def upload_stream(
        self,
        reference: Reference,
        chunks: Iterable[bytes],
        *,
        digest: Callable[[], str],
        size: int | None = None,
    ) -> None:
        """Upload a blob whose digest is asked for after its last byte; ``size`` is not needed for that."""
        del size
        start = self._url(reference, "blobs", "uploads/")
        backoff = Backoff(self._patience, attempts=self._attempts)
        BlobUpload(self._http, self._auth, reference, start, backoff).send(chunks, digest)

    def mount_blob(self, reference: Reference, digest: str, *, source: str) -> bool:
        """Take a blob over from another repository of the registry; tell whether that was possible."""

        def ask() -> bool:
            with self._auth.request("POST", url, reference, push=True, also_pull=source) as response:
                # Whoever may not read the source, or cannot mount, gets an open upload, which expires unused.
                return response.status == _CREATED

        url = self._url(reference, "blobs", "uploads/") + f"?{urlencode({'mount': digest, 'from': source})}"
        return self._retried(ask)

    def referrers(self, reference: Reference, *, digest: str) -> FetchedManifest:
        """
        Return the index of what refers to a manifest, unchecked; an empty one if nothing does.

        A registry without the referrers API keeps the index under a tag that is made of the digest
        (distribution specification 1.1, "referrers tag schema").
        """
        try:
            found = self._get_manifest(self._url(reference, "referrers", digest), reference)
        except InvalidInputError as error:
            if error.code == "registry-access-denied":
                raise
        else:
            # A front page for every address that a registry does not know is no list of referrers.
            if found.media_type == OCI_INDEX:
                return found
        try:
            return self.manifest(reference, digest_or_tag=digest.replace(":", "-", 1))
        except InvalidInputError as error:
            if error.code != "image-not-found":
                raise
        return FetchedManifest(_NO_REFERRERS, OCI_INDEX)

    def put_manifest(self, reference: Reference, tag: str, body: bytes, media_type: str) -> bool:
        """Store a manifest or an index under a tag or a digest; tell whether the registry lists referrers."""

        def put() -> bool:
            with self._auth.request("PUT", url, reference, push=True, headers=headers, body=body) as response:
                self._http.expect(response, {_CREATED}, stage=Stage.STORE)
                return "OCI-Subject" in response.headers

        url = self._url(reference, "manifests", tag)
        headers = {"Content-Type": media_type}
        return self._retried(put)

    def _get_manifest(self, url: str, reference: Reference) -> FetchedManifest:
        return self._retried(lambda: self._fetch_manifest(url, reference))

    def _retried(self, step: Callable[[], _Answer]) -> _Answer:
        backoff = Backoff(self._patience, attempts=self._attempts)
        while True:
            try:
                return step()
            except UnavailableError as error:
                backoff.failed(error)

    def _fetch_manifest(self, url: str, reference: Reference) -> FetchedManifest:
        headers = {"Accept": _ACCEPTED_MANIFESTS}
        with self._auth.request("GET", url, reference, headers=headers) as response:
            self._http.expect(response, {_OK}, stage=Stage.FETCH)
            body = self._http.read_bounded(response, MAX_MANIFEST_BYTES)
            content_type = response.headers.get("Content-Type", "")
        return FetchedManifest(body, content_type.partition(";")[0].strip())

    def _url(self, reference: Reference, kind: str, name: str) -> str:
        host = _DEFAULT_HOSTS.get(reference.registry, reference.registry)
        return f"{self._http.scheme(reference.registry)}://{host}/v2/{reference.repository}/{kind}/{name}"
