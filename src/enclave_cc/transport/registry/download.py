"""
One blob in as many requests as it takes: resumed where a connection broke.

A range is a wish. What comes back says which part it is, and is used only if that fits; a registry
whose answers do not is asked for the whole, of which the known part is skipped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from urllib3.response import BaseHTTPResponse

    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.transport.patience.backoff import Backoff
    from enclave_cc.transport.patience.deadline import Patience
    from enclave_cc.transport.registry.authorization import RegistryAuth
    from enclave_cc.transport.registry.http import RegistryHttp

# Large enough that Python's overhead for a piece does not show, small enough to keep stages overlapping.
PIECE_BYTES: Final = 256 << 10
_CONTENT_RANGE: Final = re.compile(r"bytes (?:([0-9]{1,19})-[0-9]{1,19}|\*)/(?:([0-9]{1,19})|\*)")
_OK: Final = 200
_PARTIAL: Final = 206
_RANGE_NOT_SATISFIABLE: Final = 416


class BlobDownload:
    """A position in a blob that moves on, whatever happens to connections."""

    def __init__(
        self, http: RegistryHttp, auth: RegistryAuth, url: str, reference: Reference, *, offset: int
    ) -> None:
        self._http = http
        self._auth = auth
        self._url = url
        self._reference = reference
        self._position = offset
        self._ranges = True

    def chunks(self, patience: Patience, backoff: Backoff) -> Iterator[bytes]:
        """Stream to the end; raise the registry's errors when no attempt is left."""
        while True:
            try:
                for chunk in self._attempt(patience):
                    self._position += len(chunk)
                    backoff.progressed()
                    yield chunk
            except UnavailableError as error:
                backoff.failed(error)
            else:
                return

    def _attempt(self, patience: Patience) -> Iterator[bytes]:
        ranged = bool(self._position) and self._ranges
        headers = {"Range": f"bytes={self._position}-"} if ranged else {}
        with self._auth.request("GET", self._url, self._reference, headers=headers) as response:
            expected = {_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE} if ranged else {_OK}
            self._http.expect(response, expected, stage=Stage.FETCH)
            if response.status == _RANGE_NOT_SATISFIABLE and self._ends_here(response):
                return
            skip = self._position if response.status == _OK else self._require_fit(response)
            for chunk in self._http.pieces(response, PIECE_BYTES, patience):
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                yield chunk[skip:] if skip else chunk
                skip = 0

    def _ends_here(self, response: BaseHTTPResponse) -> bool:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return match is not None and match[1] is None and match[2] == str(self._position)

    def _require_fit(self, response: BaseHTTPResponse) -> int:
        """Return 0, the bytes to skip of a part that begins where we are; give ranges up otherwise."""
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == _PARTIAL and match is not None and match[1] == str(self._position):
            return 0
        self._ranges = False
        raise UnavailableError(
            "registry-unavailable",
            "the registry does not answer",
            stage=Stage.FETCH,
            detail=f"bytes from {self._position} were asked for; Content-Range: {match and match[0]}",
        )
