"""
After the start: wait for the shim's word or for trouble with the root file system, then take everything down.

A damaged chunk ends the container: the workload gets its I/O error first, the owner learns of it, then
it is killed, because whatever it does next rests on a disk that somebody is tampering with. The end of
the process that serves the root file system ends the container in the same way.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError

if TYPE_CHECKING:
    from enclave_cc.enclave.boot.attest import AgentLink
    from enclave_cc.enclave.boot.container import Container
    from enclave_cc.enclave.boot.control import Control
    from enclave_cc.enclave.rootfs.server.client import RootfsServer

# Enough for the failed read to return to the workload, whose log then names the file.
_GRACE_S: Final = 0.2


def supervise(control: Control, server: RootfsServer, container: Container, link: AgentLink) -> None:
    """Return when the shim wants the container gone; the container may still be there."""
    if control.is_told_to_stop():
        # It came together with the order; nothing will become readable.
        return
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(server, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poller.poll()}
        if server.fileno() in ready and (trouble := server.trouble()) is not None:
            poller.unregister(server)
            _end(control, trouble, container, link)
        if control.fileno() in ready and control.is_told_to_stop():
            return


def _end(control: Control, trouble: EnclaveCcError, container: Container, link: AgentLink) -> None:
    link.refused(trouble)
    time.sleep(_GRACE_S)
    control.poisoned(trouble.code)
    try:
        container.kill()
    except EnclaveCcError:
        # Deleting by force follows when the shim hears of it; the root file system answers no read meanwhile.
        return
