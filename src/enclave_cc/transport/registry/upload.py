"""
One blob on its way to a registry: in pieces that are kept until the registry has them.

After a failure the registry is asked how far it came, so that a body which can be read only once is
sent once all the same. What fits one piece takes two requests.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

from enclave_cc.core.errors import InvalidInputError, Stage, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from urllib3.response import BaseHTTPResponse

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.transport.patience.backoff import Backoff
    from enclave_cc.transport.registry.authorization import RegistryAuth
    from enclave_cc.transport.registry.http import RegistryHttp

# Above what any registry wants at least (5 MiB), and what is sent again after a failure.
PIECE_BYTES: Final = 8 << 20
_MAX_PIECE_BYTES: Final = 64 << 20
_BLOB_TYPE: Final = {"Content-Type": "application/octet-stream"}
_RANGE: Final = re.compile(r"(?:bytes=)?0-([0-9]{1,19})")
_OK: Final = 200
_CREATED: Final = 201
_ACCEPTED: Final = 202
_NO_CONTENT: Final = 204
_NOT_FOUND: Final = 404

_Answer = TypeVar("_Answer")


class BlobUpload:
    """An upload session; every step may be repeated."""

    def __init__(
        self, http: RegistryHttp, auth: RegistryAuth, reference: Reference, start: str, backoff: Backoff
    ) -> None:
        """Prepare; ``start`` is the address at which uploads are opened."""
        self._http = http
        self._auth = auth
        self._reference = reference
        self._start = start
        self._backoff = backoff
        self._location = ""
        self._sent = 0
        self._piece_bytes = PIECE_BYTES

    def send(self, chunks: Iterable[bytes], digest: Callable[[], str]) -> None:
        """Upload a body whose digest is asked for after its last byte; raises the registry's errors."""
        self._retried(self._open)
        for piece in pieces(chunks, lambda: self._piece_bytes):
            if len(piece) < self._piece_bytes and not self._sent:
                self._finish(piece, digest())
                return
            if piece:
                self._append(piece)
        self._finish(b"", digest())

    def _open(self) -> None:
        with self._auth.request("POST", self._start, self._reference, push=True) as response:
            self._http.expect(response, {_ACCEPTED}, stage=Stage.STORE)
            self._move(self._start, response)
            wanted = response.headers.get("OCI-Chunk-Min-Length", "")
            if wanted.isascii() and wanted.isdecimal():
                self._piece_bytes = min(max(PIECE_BYTES, int(wanted[:19])), _MAX_PIECE_BYTES)

    def _append(self, piece: bytes) -> None:
        begin, end = self._sent, self._sent + len(piece)
        while self._sent < end:
            try:
                self._patch(memoryview(piece)[self._sent - begin :])
            except UnavailableError as error:
                self._backoff.failed(error)
                self._retried(self._ask_how_far)
                if not begin <= self._sent <= end:
                    raise
        self._backoff.progressed()

    def _patch(self, rest: memoryview) -> None:
        last = self._sent + len(rest) - 1
        headers = {**_BLOB_TYPE, "Content-Range": f"{self._sent}-{last}"}
        with self._auth.request(
            "PATCH",
            self._location,
            self._reference,
            push=True,
            home=self._start,
            headers=headers,
            body=bytes(rest),
        ) as response:
            self._http.expect(response, {_ACCEPTED}, stage=Stage.STORE)
            self._move(self._location, response)
            self._sent = last + 1

    def _ask_how_far(self) -> None:
        with self._auth.request(
            "GET", self._location, self._reference, push=True, home=self._start
        ) as response:
            self._http.expect(response, {_NO_CONTENT}, stage=Stage.STORE)
            match = _RANGE.fullmatch(response.headers.get("Range", ""))
            # Registries write 0-0 for nothing and for one byte; nobody sends one byte.
            self._sent = int(match[1]) + 1 if match is not None and int(match[1]) else 0
            self._move(self._location, response)

    def _finish(self, body: bytes, digest: str) -> None:
        try:
            self._close(body, digest)
        except UnavailableError as error:
            # The registry may have stored it and only its answer was lost.
            self._backoff.failed(error)
            if not self._retried(lambda: self._is_stored(digest)):
                self._again(body, digest)

    def _again(self, body: bytes, digest: str) -> None:
        def afresh() -> None:
            # What an interrupted request left behind must not come before the body.
            self._open()
            self._close(body, digest)

        self._retried(afresh if not self._sent else lambda: self._close(body, digest))

    def _close(self, body: bytes, digest: str) -> None:
        separator = "&" if urlsplit(self._location).query else "?"
        url = f"{self._location}{separator}{urlencode({'digest': digest})}"
        with self._auth.request(
            "PUT", url, self._reference, push=True, home=self._start, headers=_BLOB_TYPE, body=body
        ) as response:
            self._http.expect(response, {_CREATED}, stage=Stage.STORE)

    def _is_stored(self, digest: str) -> bool:
        url = f"{self._start.removesuffix('uploads/')}{digest}"
        with self._auth.request("HEAD", url, self._reference, push=True) as response:
            self._http.expect(response, {_OK, _NOT_FOUND}, stage=Stage.STORE)
            return response.status == _OK

    def _move(self, base: str, response: BaseHTTPResponse) -> None:
        """Go on where the registry says: on another host by the same rules, and without authorization."""
        try:
            location = urljoin(base, response.headers.get("Location", ""))
        except ValueError as error:
            raise InvalidInputError(
                "registry-response-invalid",
                "the registry's answer makes no sense",
                stage=Stage.STORE,
                detail="a malformed location",
            ) from error
        self._http.require_allowed(location)
        self._location = location

    def _retried(self, step: Callable[[], _Answer]) -> _Answer:
        while True:
            try:
                return step()
            except UnavailableError as error:
                self._backoff.failed(error)


def pieces(chunks: Iterable[bytes], size: Callable[[], int]) -> Iterator[bytes]:
    """Join and cut a body into pieces of one size; the last one is shorter, perhaps empty."""
    piece = bytearray()
    for chunk in chunks:
        rest = memoryview(chunk)
        while len(piece) + len(rest) >= size():
            taken = size() - len(piece)
            piece += rest[:taken]
            yield bytes(piece)
            rest, piece = rest[taken:], bytearray()
        piece += rest
    yield bytes(piece)
