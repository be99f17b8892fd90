"""Signals from the interpreter's own module: ``import signal`` loads ``enum``, 3 ms of every shim start."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import (
        SIG_DFL,
        SIG_IGN,
        SIG_SETMASK,
        SIGCHLD,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGTERM,
        pidfd_send_signal,
        pthread_sigmask,
        set_wakeup_fd,
        signal,
    )
else:
    from _signal import (
        SIG_DFL,
        SIG_IGN,
        SIG_SETMASK,
        SIGCHLD,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGTERM,
        pidfd_send_signal,
        pthread_sigmask,
        set_wakeup_fd,
        signal,
    )

__all__ = [
    "SIGCHLD",
    "SIGINT",
    "SIGKILL",
    "SIGPIPE",
    "SIGTERM",
    "SIG_DFL",
    "SIG_IGN",
    "SIG_SETMASK",
    "pidfd_send_signal",
    "pthread_sigmask",
    "set_wakeup_fd",
    "signal",
]
