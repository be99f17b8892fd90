"""
Credential helpers: programs called ``docker-credential-NAME`` that keep passwords for container tools.

For the owner's machine and for the node; no room inside an enclave imports this, which a contract
holds. A helper is run without a shell, for a bounded time, and its answer is bounded.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage, UnavailableError
from enclave_cc.formats.registries.credentials import DOCKER_HUB
from enclave_cc.formats.registries.helper_answer import MAX_HELPER_ANSWER_BYTES, parse_helper_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enclave_cc.formats.registries.credentials import Credentials

HELPER_TIMEOUT_S: Final = 30.0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# The name under which helpers have filed Docker Hub from the beginning.
_DOCKER_HUB_SERVER: Final = "https://index.docker.io/v1/"
# Helpers say this on standard output and end with status 1.
_NOT_FOUND: Final = b"credentials not found"


def ask_helper(name: str, registry: str, *, timeout_s: float = HELPER_TIMEOUT_S) -> Credentials | None:
    """
    Run ``docker-credential-NAME get`` for a registry; None where it knows nothing.

    Raises ``InvalidInputError`` (registry-credentials-invalid) for a name that is none or an answer that
    does not parse, and ``UnavailableError`` (credential-helper-failed).
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            "registry-credentials-invalid",
            "the registry credentials are malformed",
            stage=Stage.FETCH,
            detail="a credential helper's name is malformed",
        )
    server = _DOCKER_HUB_SERVER if registry == DOCKER_HUB else registry
    program = f"docker-credential-{name}"
    status, output = _run([program, "get"], server.encode(), timeout_s)
    if status != 0:
        if _NOT_FOUND in output:
            return None
        raise _failed(f"{program}: exit status {status}")
    return parse_helper_answer(output)


def _run(command: list[str], question: bytes, timeout_s: float) -> tuple[int, bytes]:
    """Return exit status and output; what the helper says on standard error is the user's to see."""
    try:
        # A session of its own, so that a helper's children end with it.
        helper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise _failed(f"{command[0]}: {error.strerror}") from error
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _end(helper)

    with helper, _after(timeout_s, give_up):
        output = _converse(helper, question)
        if len(output) > MAX_HELPER_ANSWER_BYTES:
            _end(helper)
            raise _failed(f"{command[0]}: more than {MAX_HELPER_ANSWER_BYTES} bytes")
        status = helper.wait()
    if late.is_set():
        raise _failed(f"{command[0]}: no answer within {timeout_s:g} s")
    return status, output


@contextmanager
def _after(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(seconds, action)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _converse(helper: subprocess.Popen[bytes], question: bytes) -> bytes:
    if helper.stdin is None or helper.stdout is None:
        return b""
    # A helper that does not listen may answer all the same.
    with suppress(BrokenPipeError), helper.stdin as stdin:
        stdin.write(question)
    return helper.stdout.read(MAX_HELPER_ANSWER_BYTES + 1)


def _end(helper: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(helper.pid, signal.SIGKILL)


def _failed(detail: str) -> UnavailableError:
    return UnavailableError(
        "credential-helper-failed", "a credential helper did not answer", stage=Stage.FETCH, detail=detail
    )
