"""
Ctrl-C that ends work in order.

An exception out of nowhere could end a command between making something and knowing that it has to be
removed. So the first Ctrl-C only asks the work to stop; it stops where it is safe, and cleans up. A second
one does not wait for that.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from enclave_cc.tenant.work import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from enclave_cc.tenant.work import Work


@contextmanager
def interruptible(work: Work) -> Iterator[None]:
    """Let Ctrl-C stop the work of the block; raise ``KeyboardInterrupt`` once it has stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGINT, before)
        work.stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    except StoppedError:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)
