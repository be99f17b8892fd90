"""
The label that names an encryption in an image's configuration, put there and taken away again.

Hosts know images by their configuration's digest, and would take the plain image and every encryption of
it for one and the same. The label is a digest over the encrypted layers' digests: equal for one
encryption, different for two of the same image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.tenant.styled_json import StyledJson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENCRYPTION_LABEL: Final = "dev.enclave-cc.encryption"
_MAX_CONFIG_BYTES: Final = 4 << 20
_SUMMARY: Final = "the image's configuration is malformed"


def add_label(document: bytes, layers: Iterable[Digest]) -> bytes:
    """Add the label and nothing else; raise ``InvalidInputError`` (image-config-invalid)."""
    styled = _parse(document)
    config = _object(styled.members, "config")
    labels = _object(config, "Labels")
    labels[ENCRYPTION_LABEL] = str(Digest.of("\n".join(map(str, layers)).encode()))
    config["Labels"] = labels
    styled.members["config"] = config
    return styled.to_bytes()


def remove_label(document: bytes, original: Digest | None) -> bytes:
    """
    Take the label away; raise ``InvalidInputError`` (image-config-invalid) if the document is none.

    What was there before the first label is not known (nothing, null or an empty object), so ``original``
    chooses; without it, or if nothing fits, there was nothing.
    """
    candidates = list(_without_label(document))
    for candidate in candidates:
        if original is not None and Digest.of(candidate, original.algorithm) == original:
            return candidate
    return candidates[0]


def _without_label(document: bytes) -> Iterator[bytes]:
    styled = _parse(document)
    config = _object(styled.members, "config")
    labels = _object(config, "Labels")
    if labels.pop(ENCRYPTION_LABEL, None) is None:
        yield document
        return
    if labels:
        yield styled.to_bytes()
        return
    del config["Labels"]
    yield styled.to_bytes()
    empty: dict[str, object] = {}
    for labels_before in (None, empty):
        again = _parse(document)
        _object(again.members, "config")["Labels"] = labels_before
        yield again.to_bytes()
    if not config:
        again = _parse(document)
        again.members["config"] = None
        yield again.to_bytes()
        del again.members["config"]
        yield again.to_bytes()


def _parse(document: bytes) -> StyledJson:
    return StyledJson.parse(
        document, max_bytes=_MAX_CONFIG_BYTES, code="image-config-invalid", summary=_SUMMARY
    )


def _object(members: dict[str, object], name: str) -> dict[str, object]:
    """Return a member that is an object; an absent one, and null, is an empty one."""
    value = members.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInputError(
            "image-config-invalid", _SUMMARY, stage=Stage.CONFIG, detail=f"{name}: is not an object"
        )
    return value
