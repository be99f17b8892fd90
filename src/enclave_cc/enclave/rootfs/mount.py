"""
Mount a sealed image: check the manifest, serve the blobs as a read-only tree, overlay on top.

The process that opens it keeps serving it: its threads must run as long as the workload does. That
process may start others, but only programs that lie elsewhere, with a working directory elsewhere:
while a program is started the interpreter stands still, and could not serve it. What the workload
writes lies in memory and is gone with it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.rootfs.backend import Backend, BackendSelector
from enclave_cc.enclave.rootfs.device import VirtualDevice
from enclave_cc.enclave.rootfs.mounts import MountFlag, mount, unmount
from enclave_cc.formats.sealed.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Binding,
    Manifest,
    ManifestRefusedError,
    UnknownFormatError,
    open_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from enclave_cc.core.secret import Secret

__all__ = ["Binding", "MountedRootfs"]

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class MountedRootfs:
    """A root file system in use; ``close()`` takes everything down again, in order."""

    def __init__(self, mountpoint: Path, backend: Backend, cleanup: ExitStack) -> None:
        self.mountpoint = mountpoint
        self.backend = backend
        self._cleanup = cleanup
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        fdk: Secret,
        manifest_sha256: bytes,
        binding: Binding,
        mountpoint: Path,
        work: Path,
        on_poison: Callable[[Finding], None],
        selector: BackendSelector | None = None,
    ) -> Self:
        """
        Mount the image in ``directory`` at ``mountpoint``, which exists; ``work`` is a private directory.

        ``on_poison`` is called at most once, from a thread of its own, when the first chunk is refused:
        no read succeeds any more then, apart from what the kernel still has in its cache. Raise
        ``RefusedError`` if the image is not the one that was released, ``UnavailableError`` if the
        kernel does not let us mount. The caller's mount namespace must be private.
        """
        manifest = _read_manifest(directory, fdk, manifest_sha256, binding)
        with ExitStack() as cleanup:
            try:
                device = VirtualDevice.of_directory(directory, manifest, on_poison=on_poison)
            finally:
                manifest.wipe()
            cleanup.callback(device.close)
            with _explained(device):
                backend = (selector or BackendSelector()).choose(work)
                _mount_all(device, backend, mountpoint, work, cleanup)
            return cls(mountpoint, backend, cleanup.pop_all())

    def close(self) -> None:
        """Unmount overlay, memory and tree; what is still in use fails for its user from now on."""
        with self._lock:
            self._cleanup.close()


def _mount_all(
    device: VirtualDevice, backend: Backend, mountpoint: Path, work: Path, cleanup: ExitStack
) -> None:
    lower, scratch = work / "lower", work / "scratch"
    _make_directory(lower, cleanup)
    backend.mount(device, lower, work / "image", cleanup)
    _make_directory(scratch, cleanup)
    mount("sealed-scratch", scratch, "tmpfs", MountFlag.NONE, "mode=0700")
    cleanup.callback(unmount, scratch)
    upper, overlay_work = scratch / "upper", scratch / "work"
    _make_upper(lower, upper)
    overlay_work.mkdir()
    options = f"lowerdir={_escape(lower)},upperdir={_escape(upper)},workdir={_escape(overlay_work)}"
    mount("sealed-root", mountpoint, "overlay", MountFlag.NONE, options)
    cleanup.callback(unmount, mountpoint)


def _make_directory(path: Path, cleanup: ExitStack) -> None:
    path.mkdir(mode=0o700)

    def remove() -> None:
        # A mount that is still in use elsewhere keeps its directory.
        with suppress(OSError):
            path.rmdir()

    cleanup.callback(remove)


def _make_upper(lower: Path, upper: Path) -> None:
    """Make the upper directory; the root of an overlay has the attributes of its upper side."""
    status = lower.stat()
    upper.mkdir()
    os.chown(upper, status.st_uid, status.st_gid)
    upper.chmod(status.st_mode & 0o7777)
    for name in os.listxattr(lower):
        # The scratch file system may not know this kind.
        with suppress(OSError):
            os.setxattr(upper, name, os.getxattr(lower, name))
    os.utime(upper, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _escape(path: Path) -> str:
    r"""Protect what separates the options of overlay: ``\``, ``,`` and ``:``."""
    return os.fspath(path).replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _read_manifest(directory: Path, fdk: Secret, manifest_sha256: bytes, binding: Binding) -> Manifest:
    """
    Open the manifest that was released to us, and no other.

    (1) It is small and a plain file. (2) It has the digest that came with the key: no older image takes
    its place. (3) It opens under the key, for this pod, container and image.
    """
    data = _read_bounded(directory)
    actual = hashlib.sha256(data).digest()
    if not hmac.compare_digest(actual, manifest_sha256):
        finding = Finding("rootfs.manifest", Outcome.FAILED, manifest_sha256.hex(), actual.hex())
        raise _manifest_refused("it has another digest than the one released with the key", finding)
    try:
        return open_manifest(data, fdk=fdk, binding=binding)
    except UnknownFormatError as error:
        raise RefusedError(
            "sealed-format-unknown",
            "the sealed image has a format that this version does not know",
            stage=Stage.MOUNT,
            detail=str(error),
        ) from error
    except ManifestRefusedError as error:
        raise _manifest_refused(str(error)) from error


def _read_bounded(directory: Path) -> bytes:
    try:
        fd = os.open(directory / MANIFEST_NAME, _OPEN)
    except OSError as error:
        raise _manifest_refused(f"it cannot be opened: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        return file.read(MAX_MANIFEST_BYTES + 1) or b""


def _manifest_refused(detail: str, *findings: Finding) -> RefusedError:
    return RefusedError(
        "sealed-manifest-refused",
        "the manifest of the sealed image is not the one that belongs to this container",
        stage=Stage.MOUNT,
        detail=detail,
        findings=findings,
    )


@contextmanager
def _explained(device: VirtualDevice) -> Iterator[None]:
    """Tell a refused chunk from a kernel that does not let us mount."""
    try:
        yield
    except OSError as error:
        if device.poisoned:
            raise RefusedError(
                "sealed-chunk-refused",
                "a part of the sealed image is not what was sealed",
                stage=Stage.MOUNT,
                detail=str(error),
            ) from error
        raise UnavailableError(
            "rootfs-mount-failed",
            "the sealed root file system could not be mounted",
            stage=Stage.MOUNT,
            detail=str(error),
        ) from error
