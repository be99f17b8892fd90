"""
Mount a sealed image: check the manifest, serve the blobs as a read-only tree, overlay on top.

The process that opens it keeps serving it: its threads must run as long as the workload does. So boot
leaves that to a process of its own (``rootfs/server``), which starts no programs that lie in the image.
What the workload writes is gone with it, wherever it lies.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.enclave.rootfs.device.device import VirtualDevice
from enclave_cc.enclave.rootfs.mounting.backend import Backend, BackendSelector
from enclave_cc.enclave.rootfs.mounting.decrypted import DecryptedBackend, mount_decrypted
from enclave_cc.enclave.rootfs.mounting.overlay import make_directory
from enclave_cc.enclave.rootfs.mounting.released_manifest import read_released_manifest
from enclave_cc.enclave.rootfs.mounting.writable.layer import WritableLayer
from enclave_cc.formats.rootfs_options import DEFAULT_OPTIONS
from enclave_cc.formats.sealed.manifest import Binding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    from enclave_cc.core.findings import Finding
    from enclave_cc.core.secret import Secret
    from enclave_cc.formats.rootfs_options import RootfsOptions

    UsedBackend: TypeAlias = Backend | DecryptedBackend

__all__ = ["Binding", "MountedRootfs"]


class MountedRootfs:
    """A root file system in use; ``close()`` takes everything down again, in order."""

    def __init__(self, mountpoint: Path, backend: UsedBackend, cleanup: ExitStack) -> None:
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
        options: RootfsOptions = DEFAULT_OPTIONS,
        selector: BackendSelector | None = None,
    ) -> Self:
        """
        Mount the image in ``directory`` at ``mountpoint``, which exists; ``work`` is a private directory.

        ``on_poison`` is called at most once, from a thread of its own, when the first chunk is refused:
        no read succeeds any more then, apart from what the kernel still has in its cache. Raise
        ``RefusedError`` if the image is not the one that was released, ``UnavailableError`` if the
        kernel does not let us mount. The caller's mount namespace must be private.
        """
        with ExitStack() as cleanup:
            writable = WritableLayer.prepare(work, options, cleanup)
            manifest = read_released_manifest(directory, fdk, manifest_sha256, binding)
            try:
                device = VirtualDevice.of_directory(directory, manifest, on_poison=on_poison)
            finally:
                manifest.wipe()
            cleanup.callback(device.close)
            with _explained(device):
                backend = (selector or BackendSelector()).choose(work)
                lower = work / "lower"
                make_directory(lower, cleanup)
                used = _mount_tree(device, lower, backend, work=work, options=options, cleanup=cleanup)
                writable.mount(lower, mountpoint, device, cleanup)
            return cls(mountpoint, used, cleanup.pop_all())

    def close(self) -> None:
        """Unmount overlay, upper side and tree; what is still in use fails for its user from now on."""
        with self._lock:
            self._cleanup.close()


def _mount_tree(
    device: VirtualDevice,
    lower: Path,
    backend: Backend,
    *,
    work: Path,
    options: RootfsOptions,
    cleanup: ExitStack,
) -> UsedBackend:
    if not options.decrypt_to_memory:
        backend.mount(device, lower, work / "image", cleanup)
        return backend
    limit, with_erofs = options.decrypt_bytes_limit, backend is not Backend.FUSE_TREE
    return mount_decrypted(device, lower, work, limit, cleanup, with_erofs=with_erofs)


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
                findings=device.findings,
            ) from error
        raise UnavailableError(
            "rootfs-mount-failed",
            "the sealed root file system could not be mounted",
            stage=Stage.MOUNT,
            detail=str(error),
        ) from error
