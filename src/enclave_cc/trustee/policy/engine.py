"""
Evaluates policies in worker processes, so that a policy can neither see nor stall the broker.

A worker has no environment, limits on memory and processor time, and a deadline for each
evaluation; beyond any of them it is killed. It is replaced after a number of evaluations and
after every failure. A policy that does not evaluate has not allowed anything; whether it said
something wrong or the engine had no answer is told apart, because only the second may pass.
"""

from __future__ import annotations

import json
import queue
import resource
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.trustee.policy.exchange import LENGTH, MAX_REPLY_BYTES, MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Cold, the default policy takes 20 ms; the rest is room for a loaded machine.
DEADLINE_S: Final = 5.0
# Starting costs 100 ms; spread over this many evaluations nobody sees it.
_EVALUATIONS_PER_WORKER: Final = 200
_WORKERS: Final = 2
# At rest a worker has 30 MiB; the default policies need 4 more.
MAX_RESIDENT_BYTES: Final = 512 << 20
# How often the memory of an evaluation that takes long is looked at.
_WATCH_S: Final = 0.02
_GRACE_S: Final = 1.0
_SUMMARY: Final = "a policy did not evaluate"
_NO_ENGINE: Final = "policy-engine-unavailable"


class PolicyEngine:
    """A small pool of workers; safe to call from several threads."""

    def __init__(self, *, workers: int = _WORKERS, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        self._size = workers
        for _ in range(workers):
            self._idle.put(None)

    def evaluate(
        self, policy: str, queries: Sequence[str], *, document: object, data: Mapping[str, object]
    ) -> dict[str, object]:
        """
        Evaluate rules of one policy over ``input`` (``document``) and ``data``; undefined rules are absent.

        Raise ``RefusedError`` (``policy-evaluation-failed``) for a policy that is in error,
        ``UnavailableError`` when the worker was late, died or answered nonsense
        (``policy-evaluation-failed``) or when there was none to ask (``policy-engine-unavailable``).
        """
        request = {"policy": policy, "queries": list(queries), "input": document, "data": data}
        body = json.dumps(request).encode()
        if len(body) > MAX_REQUEST_BYTES:
            raise _failed("the request to the policy worker is too large")
        with self._worker() as worker:
            reply = worker.exchange(body, time.monotonic() + self._deadline_s)
            match reply:
                case {"results": dict(results)}:
                    return results
                case {"error": str(text)}:
                    raise _failed(text)
                case _:
                    raise InvalidJsonError("not an answer")

    def check(self, policy: str) -> None:
        """Raise ``InvalidInputError`` (``policy-invalid``) unless the text compiles and comes to an end."""
        try:
            self.evaluate(policy, ["data.policy"], document={}, data={"reference_values": {}, "findings": {}})
        except (RefusedError, UnavailableError) as error:
            if error.code == _NO_ENGINE:
                raise
            raise InvalidInputError(
                "policy-invalid", "the policy does not compile", stage=Stage.POLICY, detail=error.detail
            ) from error

    def require_working(self) -> None:
        """Raise ``UnavailableError`` (``policy-engine-unavailable``) when not even a constant evaluates."""
        try:
            self.evaluate("package policy\n\nworking := true", ["data.policy.working"], document={}, data={})
        except (RefusedError, UnavailableError) as error:
            raise _unavailable(error.detail) from error

    def close(self) -> None:
        """Stop all workers; one that is still busy after a while ends with this process."""
        for _ in range(self._size):
            try:
                worker = self._idle.get(timeout=self._deadline_s)
            except queue.Empty:
                return
            if worker is not None:
                worker.stop()

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        """
        Borrow a worker; one that did not come to a result is not handed back.

        A policy that fails may leave a worker short of memory, and the next policy must not pay for it.
        Whatever happens, the place in the pool is: a lost one would be missing for ever.
        """
        worker, usable = self._borrowed(), False
        try:
            if worker is None or not worker.alive:
                worker = _restarted(worker)
            yield worker
            usable = worker.evaluations < _EVALUATIONS_PER_WORKER
        except OSError as error:
            raise _no_answer("the policy took too long or too much memory") from error
        except InvalidJsonError as error:
            raise _no_answer("the policy worker answered nonsense") from error
        finally:
            try:
                if worker is not None and not usable:
                    worker.stop()
            finally:
                self._idle.put(worker if usable else None)

    def _borrowed(self) -> _Worker | None:
        """Wait for a place in the pool, but not behind any number of slow policies."""
        try:
            return self._idle.get(timeout=self._deadline_s)
        except queue.Empty as error:
            raise _unavailable("all policy workers are busy") from error


@dataclass(slots=True)
class _Worker:
    """One process and our end of its socket."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    evaluations: int = field(default=0)

    @classmethod
    def start(cls) -> _Worker:
        """Start a process that has our socket as standard input, and no environment."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-B", "-m", "enclave_cc.trustee.policy.worker"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={},
                    cwd="/",
                )
            except OSError:
                ours.close()
                raise
        return cls(process, ours)

    @property
    def alive(self) -> bool:
        """Tell whether the process still runs."""
        return self.process.poll() is None

    def exchange(self, body: bytes, deadline: float) -> object:
        """Send a request and read its answer; raise ``OSError`` when the worker is late or gone."""
        self.evaluations += 1
        self.channel.settimeout(_remaining(deadline))
        # The worker reads a request as a whole before it does anything else.
        self.channel.sendall(LENGTH.pack(len(body)) + body)
        size: int = LENGTH.unpack(self._exactly(LENGTH.size, deadline))[0]
        if size > MAX_REPLY_BYTES:
            raise OSError("the reply is too large")
        return loads(self._exactly(size, deadline), max_bytes=MAX_REPLY_BYTES)

    def stop(self) -> None:
        """Kill the process; it holds nothing that is worth a farewell."""
        self.channel.close()
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_S)

    def _require_modest(self) -> None:
        if _resident_bytes(self.process.pid) > MAX_RESIDENT_BYTES:
            raise OSError("the worker takes too much memory")

    def _exactly(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self.channel.settimeout(min(_remaining(deadline), _WATCH_S))
            try:
                piece = self.channel.recv(size - len(data))
            except TimeoutError:
                self._require_modest()
                continue
            if not piece:
                raise OSError("the worker is gone")
            data += piece
        return bytes(data)


def _restarted(old: _Worker | None) -> _Worker:
    """Start a worker in the place of one that has ended, or of none."""
    if old is not None:
        old.stop()
    try:
        return _Worker.start()
    except OSError as error:
        raise _unavailable(f"no policy worker starts: {error}") from error


def _resident_bytes(pid: int) -> int:
    """Return a process's resident memory (proc(5), ``statm``), 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


def _failed(detail: str) -> RefusedError:
    return RefusedError("policy-evaluation-failed", _SUMMARY, stage=Stage.POLICY, detail=detail)


def _no_answer(detail: str) -> UnavailableError:
    return UnavailableError("policy-evaluation-failed", _SUMMARY, stage=Stage.POLICY, detail=detail)


def _unavailable(detail: str) -> UnavailableError:
    return UnavailableError(
        _NO_ENGINE, "the policy engine does not start or is busy", stage=Stage.POLICY, detail=detail
    )
