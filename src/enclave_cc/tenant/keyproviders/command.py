"""
A key provider that is a program: started for each call, with the request on its standard input.

Its words and arguments come from a configuration file that the owner named, and no shell reads them. What
it prints is bounded, and so is its time; whatever it started ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from dataclasses import dataclass
from typing import IO, Final

from enclave_cc.formats.ocicrypt.keyprovider import MAX_DOCUMENT_BYTES
from enclave_cc.tenant.keyproviders.failures import misconfigured, refused, unavailable

# Long enough for a person to touch a hardware token.
CALL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class CommandProvider:
    """One program with its arguments; the request itself says what is wanted."""

    words: tuple[str, ...]
    timeout_s: float = CALL_S

    def call(self, method: str, document: bytes) -> bytes:
        """Run the program once; raise the error family. Its standard error is the owner's to read."""
        del method
        try:
            process = subprocess.Popen(
                self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise misconfigured(f"{self.words[0]}: {error.strerror}") from error
        late = threading.Event()
        timer = threading.Timer(self.timeout_s, _end, (process, late))
        timer.start()
        try:
            answer = _exchange(process, document)
        finally:
            timer.cancel()
            _end(process)
            status = process.wait()
        if late.is_set():
            raise unavailable(f"{self.words[0]}: no answer after {self.timeout_s:g} s")
        if len(answer) > MAX_DOCUMENT_BYTES:
            raise refused(f"{self.words[0]}: its answer is too long")
        if status or not answer:
            raise refused(f"{self.words[0]}: exit status {status}")
        return answer


def _exchange(process: subprocess.Popen[bytes], document: bytes) -> bytes:
    """Write and read at the same time: a program may answer before it has read everything."""
    if process.stdin is None or process.stdout is None:
        raise TypeError("both ends are pipes")
    writer = threading.Thread(target=_write, args=(process.stdin, document), daemon=True)
    writer.start()
    with process.stdout:
        answer = process.stdout.read(MAX_DOCUMENT_BYTES + 1)
    if len(answer) <= MAX_DOCUMENT_BYTES:
        # Not reaped yet: its number stays its own until the group has been ended.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return answer


def _write(pipe: IO[bytes], document: bytes) -> None:
    with contextlib.suppress(OSError), pipe:
        pipe.write(document)


def _end(process: subprocess.Popen[bytes], late: threading.Event | None = None) -> None:
    """End the program's whole group, if any of it is left."""
    if late is not None:
        late.set()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
