"""
Boot's side: give the server its orders, and hear what goes wrong while the container runs.

The first trouble stays: a chunk that was refused, or the server's own end. Without its server a root
file system answers no read any more, so either is the container's end.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError, RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.rootfs.server.channel import Channel
from enclave_cc.enclave.rootfs.server.leftovers import take_down
from enclave_cc.enclave.rootfs.server.messages import Failed, Open, Opened, Poisoned, Prepare
from enclave_cc.enclave.rootfs.server.process import is_readable
from enclave_cc.formats.rootfs_options import DEFAULT_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enclave_cc.core.secret import Secret
    from enclave_cc.enclave.rootfs.server.messages import Message
    from enclave_cc.enclave.rootfs.server.process import ServerProcess
    from enclave_cc.formats.rootfs_options import RootfsOptions
    from enclave_cc.formats.sealed.manifest import Binding

POISONED: Final = "sealed-chunk-refused"
SERVER_ENDED: Final = "rootfs-server-ended"
_NAME: Final = "rootfs"
# Unmounting takes milliseconds; whoever stops us gives ten seconds for all of the end.
_END_S: Final = 3.0
# Between the end of the line and that of the process.
_EXIT_S: Final = 1.0
# The news starts on its way before the failed read returns; only a failed launch waits for it.
_NEWS_S: Final = 0.2


class RootfsServer:
    """The server of one root file system; ``fileno`` becomes readable when there is trouble to hear."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process
        self._channel = Channel(process.connection)
        self._trouble: EnclaveCcError | None = None
        self._mountpoint: Path | None = None
        self._work: Path | None = None

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._channel.fileno()

    def prepare(self, work: Path, *, candidates: tuple[str, ...] = ()) -> None:
        """Let the server find out, while we do something else, how this kernel can mount."""
        # What is wrong is said when it matters: the agent hears first who we are.
        with suppress(EnclaveCcError):
            self._send(Prepare(self._directory(work), candidates))

    def open(
        self,
        directory: Path,
        *,
        fdk: Secret,
        manifest_sha256: bytes,
        binding: Binding,
        mountpoint: Path,
        work: Path,
        options: RootfsOptions = DEFAULT_OPTIONS,
    ) -> str:
        """
        Mount as ``MountedRootfs.open`` does, and return the name of the back end; raise what it raises.

        Raise ``UnavailableError`` (``rootfs-server-ended``) if the server ends instead.
        """
        work = self._directory(work)
        self._mountpoint = mountpoint
        self._send(Open(directory, manifest_sha256, binding, mountpoint, work, options))
        try:
            self._channel.send_key(fdk)
        except OSError as error:
            raise self._ended() from error
        return self._answer()

    def trouble(self, timeout_s: float = 0) -> EnclaveCcError | None:
        """Return what went wrong first, if anything did by then."""
        if self._trouble is None and is_readable(self.fileno(), timeout_s):
            self._note(self._receive())
        return self._trouble

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Raise the trouble with the root file system for whatever failed inside because of it."""
        try:
            yield
        except (EnclaveCcError, OSError) as error:
            trouble = self.trouble(_NEWS_S)
            if trouble is None or trouble is error:
                raise
            raise trouble from error

    def close(self) -> None:
        """Let the server take everything down; do it ourselves if it cannot any more."""
        self._process.end(_END_S)
        if self._work is not None:
            take_down(self._work, self._mountpoint)

    def _directory(self, work: Path) -> Path:
        """Make a directory that is the server's alone, so that all of it can be removed."""
        directory = work / _NAME
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UnavailableError(
                "rootfs-mount-failed",
                "the working directory cannot be used",
                stage=Stage.MOUNT,
                detail=str(error),
            ) from error
        self._work = directory
        return directory

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except OSError as error:
            raise self._ended() from error

    def _answer(self) -> str:
        """Wait for the answer; news of a refused chunk may come first."""
        while True:
            match self._receive():
                case Opened(backend):
                    return backend
                case Failed(error):
                    raise error
                case message:
                    self._note(message)
                    if message is None:
                        raise self._ended()

    def _receive(self) -> Message | None:
        try:
            return self._channel.receive()
        except ValueError:
            # Only a server that is no more itself says what we do not understand.
            return None

    def _note(self, message: Message | None) -> None:
        match message:
            case None:
                self._ended()
            case Poisoned(finding):
                self._trouble = self._trouble or _poisoned(finding)

    def _ended(self) -> EnclaveCcError:
        status = self._process.wait(_EXIT_S)
        self._trouble = self._trouble or _server_ended(status)
        return self._trouble


def _poisoned(finding: Finding) -> RefusedError:
    return RefusedError(
        POISONED,
        "the sealed root file system was changed on disk",
        stage=Stage.MOUNT,
        findings=(finding,),
    )


def _server_ended(status: int | None) -> UnavailableError:
    finding = Finding("rootfs.server", Outcome.FAILED, "runs as long as its container", _how(status))
    return UnavailableError(
        SERVER_ENDED,
        "the process that serves the root file system has ended",
        stage=Stage.RUN,
        findings=(finding,),
    )


def _how(status: int | None) -> str:
    if status is None:
        return "does not answer"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
