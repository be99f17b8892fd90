"""A directory of simple signatures on the owner's machine, laid out as a lookaside server serves them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.owner.lookaside import DEFAULT, LookasideSettings
from enclave_cc.transport.registry.lookaside import (
    MAX_SIGNATURE_BYTES,
    MAX_SIGNATURES,
    LookasideClient,
    signature_path,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.image.ports import SignatureStore

_FILE: Final = "file"


class LookasideDirectory:
    """Reads ``<directory>/<repository>@<algorithm>=<hex>/signature-<n>``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def signatures(self, reference: Reference, digest: Digest) -> Iterator[bytes]:
        """Yield the signatures in the order of their numbers; raise ``InvalidInputError`` (file-unusable)."""
        for number in range(1, MAX_SIGNATURES + 1):
            path = self._directory / signature_path(reference, digest, number)
            try:
                with path.open("rb") as file:
                    yield file.read(MAX_SIGNATURE_BYTES)
            except FileNotFoundError:
                return
            except OSError as error:
                raise _unusable(f"{path}: {error.strerror}") from error


def open_lookaside(text: str, *, insecure_http: Collection[str] = ()) -> SignatureStore:
    """Open what a person named: a directory, a ``file://`` URL, or a server; raise ``InvalidInputError``."""
    if "://" not in text:
        return LookasideDirectory(Path(text))
    try:
        parts = urlsplit(text)
        if parts.scheme == _FILE and not parts.netloc:
            return LookasideDirectory(Path(unquote(parts.path)))
        table = Fields({DEFAULT: text}, "lookaside")
        settings = LookasideSettings.parse(table, plain_http_hosts=insecure_http)
    except (ValueError, FieldError) as error:
        raise _unusable(f"{text[:200]}: {error}") from error
    return LookasideClient(settings, insecure_http=insecure_http)


def _unusable(detail: str) -> InvalidInputError:
    return InvalidInputError("file-unusable", "a file cannot be used", stage=Stage.CONFIG, detail=detail)
