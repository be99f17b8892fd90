"""
Parse the two lists of EROFS: the entries of one directory block, and the extended attributes of an inode.

Strict: what our writer does not produce is refused, so that a list has one meaning.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from enclave_cc.formats.sealed.erofs_format import (
    DIRENT,
    FILE_TYPES,
    XATTR_ALIGNMENT,
    XATTR_ENTRY,
    XATTR_HEADER,
    XATTR_PREFIXES,
)

_MAX_NAME_BYTES: Final = 255
_NAME_OFFSET: Final = slice(8, 10)
_NOT_IN_NAMES: Final = re.compile(rb"[/\0]")
_FORMATS: Final = {number: kind for kind, number in FILE_TYPES.items()}
_PREFIXES: Final = {index: prefix for prefix, index in XATTR_PREFIXES}


class MetadataError(ValueError):
    """These are not metadata that our writer writes."""


class Entry(NamedTuple):
    """A name in a directory; ``kind`` is the type of what it names, as in a mode (``S_IFMT``)."""

    name: bytes
    inode: int
    kind: int


def parse_directory_block(block: bytes, *, is_last: bool) -> list[Entry]:
    """Return the entries of a block, sorted by name; the last block ends where its last name does."""
    if len(block) < DIRENT.size:
        raise MetadataError("a directory block is cut off")
    names_start = int.from_bytes(block[_NAME_OFFSET], "little")
    if not names_start or names_start % DIRENT.size or names_start > len(block):
        raise MetadataError("the names of a directory begin at an impossible place")
    contents = block if is_last else block.rstrip(b"\0")
    if _NOT_IN_NAMES.search(contents, names_start):
        raise MetadataError("a name in a directory is malformed")
    records = list(DIRENT.iter_unpack(block[:names_start]))
    ends = [record[1] for record in records[1:]]
    ends.append(len(contents))
    entries = []
    for (inode, start, kind, reserved), end in zip(records, ends, strict=True):
        if not 0 < end - start <= _MAX_NAME_BYTES:
            raise MetadataError("a name in a directory is malformed")
        if reserved or kind not in _FORMATS:
            raise MetadataError("a directory entry has an unknown type")
        entries.append(Entry(contents[start:end], inode, _FORMATS[kind]))
    names = [entry.name for entry in entries]
    if names != sorted(set(names)):
        raise MetadataError("a directory is not sorted")
    return entries


def first_name(block: bytes) -> bytes:
    """Return the first name of a block that has not been parsed, or something else if it is malformed."""
    start = int.from_bytes(block[_NAME_OFFSET], "little")
    is_alone = start == DIRENT.size
    end = len(block) if is_alone else int.from_bytes(block[DIRENT.size :][_NAME_OFFSET], "little")
    return block[start:end].rstrip(b"\0")


def parse_xattrs(body: bytes) -> dict[bytes, bytes]:
    """Return the attributes that follow an inode."""
    if not body.startswith(XATTR_HEADER):
        raise MetadataError("attributes are shared with other inodes")
    found: dict[bytes, bytes] = {}
    position = len(XATTR_HEADER)
    while position < len(body):
        if len(body) - position < XATTR_ENTRY.size:
            raise MetadataError("an attribute is cut off")
        name_bytes, index, value_bytes = XATTR_ENTRY.unpack_from(body, position)
        middle = position + XATTR_ENTRY.size + name_bytes
        end = middle + value_bytes
        position = end + -end % XATTR_ALIGNMENT
        if position > len(body) or any(body[end:position]):
            raise MetadataError("an attribute is cut off")
        name = _xattr_name(index, body[middle - name_bytes : middle])
        if name in found:
            raise MetadataError("an attribute occurs twice")
        found[name] = body[middle:end]
    return found


def _xattr_name(index: int, rest: bytes) -> bytes:
    prefix = _PREFIXES.get(index)
    # A name that is a prefix by itself has no rest, and any other has one.
    if prefix is None or prefix.endswith(b".") != bool(rest) or b"\0" in rest:
        raise MetadataError("an attribute has a malformed name")
    return prefix + rest
