"""
How a container's root file system is served: the pod's wish, inside the bounds of the owner.

The owner says which kinds of writable layer there may be and how large each; the pod chooses among them in
its annotations; what neither says has a default that fits the container's memory. This module decides and
does nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage
from enclave_cc.core.findings import Finding, Outcome, member
from enclave_cc.core.verdict import Verdict
from enclave_cc.formats.rootfs_annotations import RootfsWish
from enclave_cc.formats.rootfs_options import LEAST_BYTES, RootfsOptions, Writable

if TYPE_CHECKING:
    from enclave_cc.formats.oci.runtime_spec import RuntimeSpec
    from enclave_cc.formats.owner.rootfs import RootfsPolicy

# Memory that the workload fills with files is taken from the same limit as its own.
_PART_OF_MEMORY_LIMIT: Final = 2


def approve_rootfs(spec: RuntimeSpec, policy: RootfsPolicy) -> tuple[RootfsOptions, tuple[Finding, ...]]:
    """
    Return the options and all findings; raise ``RefusedError`` (``rootfs-policy-refused``).

    Raise ``InvalidInputError`` (``rootfs-annotation-invalid``) for a wish that cannot be understood.
    """
    wish = RootfsWish.read(spec.annotations)
    writable = policy.writable[0] if wish.writable is None else wish.writable
    size_bytes = _default_bytes(writable, policy, spec.memory_limit_bytes)
    if wish.size_bytes is not None:
        size_bytes = wish.size_bytes
    decrypt = bool(wish.decrypt_to_memory)
    findings = (
        _writable_finding(writable, policy),
        _size_finding(size_bytes, writable, policy),
        _decrypt_finding(policy, asked=decrypt),
    )
    Verdict(findings).require(
        "rootfs-policy-refused",
        "the owner's policy refuses the root file system that the pod asks for",
        stage=Stage.LAUNCH,
    )
    return RootfsOptions(writable, size_bytes, decrypt, policy.decrypt_to_memory_bytes), findings


def rootfs_as_built(policy: RootfsPolicy) -> RootfsOptions:
    """Return the options of an image that is pulled before anybody specified a container."""
    writable = policy.writable[0]
    return RootfsOptions(
        writable,
        policy.greatest_bytes(writable),
        decrypt_bytes_limit=policy.decrypt_to_memory_bytes,
    )


def _default_bytes(writable: Writable, policy: RootfsPolicy, memory_limit_bytes: int | None) -> int:
    greatest = policy.greatest_bytes(writable)
    if writable is not Writable.MEMORY or memory_limit_bytes is None:
        return greatest
    return min(greatest, max(memory_limit_bytes // _PART_OF_MEMORY_LIMIT, LEAST_BYTES[writable]))


def _writable_finding(writable: Writable, policy: RootfsPolicy) -> Finding:
    remedy = f'allow "{writable}" in [rootfs] writable, or change the pod\'s annotation'
    return member("rootfs.writable", allowed=policy.writable, actual=writable, remedy=remedy)


def _size_finding(size_bytes: int, writable: Writable, policy: RootfsPolicy) -> Finding:
    least, greatest = LEAST_BYTES[writable], policy.greatest_bytes(writable)
    outcome = Outcome.PASSED if least <= size_bytes <= greatest else Outcome.FAILED
    remedy = f"raise {writable}_bytes in [rootfs], or change the size in the pod's annotation"
    return Finding("rootfs.size", outcome, f"{least} to {greatest} bytes", f"{size_bytes} bytes", remedy)


def _decrypt_finding(policy: RootfsPolicy, *, asked: bool) -> Finding:
    """Judge whether it may be at all; the app enclave judges the image's size, when it knows it."""
    outcome = Outcome.FAILED if asked and not policy.decrypt_to_memory_bytes else Outcome.PASSED
    expected = f"images of at most {policy.decrypt_to_memory_bytes} bytes"
    remedy = "set decrypt_to_memory_bytes in [rootfs], or remove the pod's annotation"
    return Finding("rootfs.decrypt-to-memory", outcome, expected, str(asked).lower(), remedy)
