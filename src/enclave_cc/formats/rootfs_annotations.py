"""
What a pod asks for its root file systems, in annotations that reach each container's specification.

``enclave-cc.dev/rootfs-writable`` speaks of all containers of the pod, and with ``.NAME`` behind it of the
container of that name, which wins. Whoever writes pods, or the host, wrote these texts: they are wishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.quantity import parse_bytes
from enclave_cc.formats.rootfs_options import Writable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    Value = TypeVar("Value")

PREFIX: Final = "enclave-cc.dev/rootfs-"
WRITABLE: Final = PREFIX + "writable"
WRITABLE_SIZE: Final = PREFIX + "writable-size"
DECRYPT_TO_MEMORY: Final = PREFIX + "decrypt-to-memory"
# The CRI server names the container of a specification here.
CONTAINER_NAME: Final = "io.kubernetes.cri.container-name"

_TRUTH: Final = MappingProxyType({"true": True, "false": False})
_MEANINGS: Final = MappingProxyType(
    {
        WRITABLE: "memory or scratch",
        WRITABLE_SIZE: "a size such as 512Mi, 2Gi or a number of bytes",
        DECRYPT_TO_MEMORY: "true or false",
    }
)


@dataclass(frozen=True, slots=True)
class RootfsWish:
    """What was asked for one container; None where nothing was."""

    writable: Writable | None = None
    size_bytes: int | None = None
    decrypt_to_memory: bool | None = None

    @classmethod
    def read(cls, annotations: Mapping[str, str]) -> Self:
        """
        Read what concerns the container that ``annotations`` are of; ignore what is not ours.

        Raise ``InvalidInputError`` (``rootfs-annotation-invalid``) for a value that means nothing, and for
        a name of ours that does not exist: a typing error must not mean the default.
        """
        _refuse_unknown(annotations)
        return cls(
            writable=_value(annotations, WRITABLE, Writable),
            size_bytes=_value(annotations, WRITABLE_SIZE, parse_bytes),
            decrypt_to_memory=_value(annotations, DECRYPT_TO_MEMORY, _TRUTH.__getitem__),
        )


def _refuse_unknown(annotations: Mapping[str, str]) -> None:
    for key in annotations:
        if key.startswith(PREFIX) and PREFIX + key.removeprefix(PREFIX).partition(".")[0] not in _MEANINGS:
            raise _invalid(key, " or ".join(_MEANINGS), key)


def _value(annotations: Mapping[str, str], name: str, parse: Callable[[str], Value]) -> Value | None:
    own = f"{name}.{annotations.get(CONTAINER_NAME, '')}"
    key = own if own in annotations else name
    text = annotations.get(key)
    if text is None:
        return None
    try:
        return parse(text)
    except (ValueError, KeyError) as error:
        raise _invalid(key, _MEANINGS[name], text) from error


def _invalid(key: str, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "rootfs-annotation-invalid",
        "an annotation about the root file system cannot be understood",
        stage=Stage.LAUNCH,
        detail=key,
        findings=(Finding("rootfs.annotation", Outcome.FAILED, f"{key}: {expected}", actual),),
    )
