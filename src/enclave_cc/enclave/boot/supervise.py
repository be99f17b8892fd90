"""
After the start: wait for the shim's word or for a damaged root file system, then take everything down.

The threads that serve the root file system run meanwhile. A damaged chunk ends the container: the
workload gets its I/O error first, the owner learns of it, then it is killed, because whatever it does
next rests on a disk that somebody is tampering with.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError, RefusedError, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.core.findings import Finding
    from enclave_cc.enclave.boot.attest import AgentLink
    from enclave_cc.enclave.boot.container import Container
    from enclave_cc.enclave.boot.control import Control

POISONED: Final = "sealed-chunk-refused"
# Enough for the failed read to return to the workload, whose log then names the file.
_GRACE_S: Final = 0.2
# The news starts on its way before the failed read returns; only a failed launch waits for it.
_NEWS_S: Final = 0.2


class Poison:
    """Carries the finding of a damaged chunk from the serving threads to the waiting one."""

    def __init__(self) -> None:
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.finding: Finding | None = None

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._wakeup

    def notice(self, finding: Finding) -> None:
        """Note the first finding; called from a serving thread."""
        if self.finding is None:
            self.finding = finding
            os.eventfd_write(self._wakeup, 1)

    def refusal(self) -> RefusedError:
        """Say what was found."""
        return RefusedError(
            POISONED,
            "the sealed root file system was changed on disk",
            stage=Stage.MOUNT,
            findings=(self.finding,) if self.finding is not None else (),
        )

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Raise ``refusal()`` for whatever failed inside, if a damaged chunk is behind it."""
        try:
            yield
        except (EnclaveCcError, OSError) as error:
            noticed, _, _ = select.select([self], [], [], _NEWS_S)
            if noticed:
                raise self.refusal() from error
            raise


def supervise(control: Control, poison: Poison, container: Container, link: AgentLink) -> None:
    """Return when the shim wants the container gone; the container may still be there."""
    if control.is_told_to_stop():
        # It came together with the order; nothing will become readable.
        return
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(poison, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poller.poll()}
        if poison.fileno() in ready:
            poller.unregister(poison)
            _end_poisoned(control, poison, container, link)
        if control.fileno() in ready and control.is_told_to_stop():
            return


def _end_poisoned(control: Control, poison: Poison, container: Container, link: AgentLink) -> None:
    link.refused(poison.refusal())
    time.sleep(_GRACE_S)
    control.poisoned(POISONED)
    try:
        container.kill()
    except EnclaveCcError:
        # Deleting by force follows when the shim hears of it; the root file system answers no read meanwhile.
        return
