"""
The server's life: try out how to mount, mount one image when its key comes, serve until boot hangs up.

Boot's end looks like its hanging up, so either way everything is taken down in order.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from enclave_cc.core.errors import EnclaveCcError, InternalError, Stage
from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, Backend, BackendSelector
from enclave_cc.enclave.rootfs.mounting.rootfs import MountedRootfs
from enclave_cc.enclave.rootfs.server.channel import Channel
from enclave_cc.enclave.rootfs.server.messages import Failed, Open, Opened, Poisoned, Prepare

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from enclave_cc.core.findings import Finding


def serve(connection: socket.socket) -> None:
    """Do what boot says until it hangs up; raise ``ValueError`` for what boot never says."""
    channel = Channel(connection)
    selector = BackendSelector()
    with ExitStack() as cleanup:
        while (message := channel.receive()) is not None:
            match message:
                case Prepare(work, candidates):
                    selector = BackendSelector(map(Backend, candidates or PREFERENCE))
                    # What is wrong is said when it matters.
                    with suppress(EnclaveCcError, OSError):
                        selector.choose(work)
                case Open():
                    channel.send(_open(channel, message, selector, cleanup))
                case _:
                    raise ValueError("boot says no such thing")


def _open(channel: Channel, request: Open, selector: BackendSelector, cleanup: ExitStack) -> Opened | Failed:
    fdk = channel.receive_key()
    try:
        mounted = MountedRootfs.open(
            request.directory,
            fdk=fdk,
            manifest_sha256=request.manifest_sha256,
            binding=request.binding,
            mountpoint=request.mountpoint,
            work=request.work,
            on_poison=_teller(channel),
            options=request.options,
            selector=selector,
        )
    except EnclaveCcError as error:
        return Failed(error)
    except Exception as error:  # noqa: BLE001 - outermost boundary: boot waits for an answer
        detail = f"{type(error).__name__}: {error}"
        return Failed(
            InternalError(
                "internal", "the root file system could not be opened", stage=Stage.MOUNT, detail=detail
            )
        )
    finally:
        fdk.wipe()
    cleanup.callback(mounted.close)
    return Opened(str(mounted.backend))


def _teller(channel: Channel) -> Callable[[Finding], None]:
    def tell(finding: Finding) -> None:
        # Without boot there is nobody to tell, and this process ends too.
        with suppress(OSError):
            channel.send(Poisoned(finding))

    return tell
