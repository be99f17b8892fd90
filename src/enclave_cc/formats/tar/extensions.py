"""What extended headers and long names say about the next entry, collected until it comes."""

from __future__ import annotations

from typing import Final

from enclave_cc.formats.tar import pax, sparse_map
from enclave_cc.formats.tar.entry import NO_XATTRS, TarError
from enclave_cc.formats.tar.header import text

_NONE: Final[dict[bytes, bytes]] = {}


class Extensions:
    """At most one extended header, one long name and one long target."""

    __slots__ = ("_link", "_name", "is_sparse", "records", "xattrs")

    def __init__(self) -> None:
        self.records = _NONE
        self.xattrs = NO_XATTRS
        self.is_sparse = False
        self._name: bytes | None = None
        self._link: bytes | None = None

    @property
    def pending(self) -> bool:
        """Tell whether an entry must follow."""
        return bool(self.records) or self._name is not None or self._link is not None

    def add(self, typeflag: bytes, payload: bytes) -> None:
        """Take the data of a header whose type is one of ``METADATA``."""
        match typeflag:
            case b"x":
                if self.records:
                    raise TarError("an entry has two extended headers")
                self.records = pax.parse_records(payload)
                # Most have neither, and looking for a string is faster than looking at each record.
                if pax.XATTR_PREFIX in payload:
                    self.xattrs = pax.xattrs(self.records)
                if sparse_map.PREFIX in payload:
                    self.is_sparse = sparse_map.is_sparse(self.records)
            case b"g":
                pax.refuse_effective(pax.parse_records(payload))
            case b"L":
                self._name = text(payload)
            case _:
                self._link = text(payload)

    def path(self, header: bytes) -> bytes:
        """Return the entry's path; a sparse file's own record of it is the strongest."""
        sparse = self.records.get(pax.SPARSE_NAME)
        if sparse and self._name is not None:
            raise TarError("an entry has two long names")
        return sparse or _one_of(self._name, self.records.get(b"path"), header)

    def target(self, header: bytes) -> bytes:
        """Return what a link points to."""
        return _one_of(self._link, self.records.get(b"linkpath"), header)


def _one_of(gnu: bytes | None, posix: bytes | None, header: bytes) -> bytes:
    """Choose between the long forms; with both, readers of tar disagree about what is meant."""
    if gnu is not None and posix:
        raise TarError("an entry has two long names")
    return gnu or posix or header
