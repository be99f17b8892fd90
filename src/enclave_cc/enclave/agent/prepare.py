"""
Preparing a container's root file system, once per container id.

The kubelet cancels and repeats calls. A repetition joins the work that is under way, or gets its result;
the same id with other arguments is refused, so that nobody swaps an image under a running start. A
caller that goes away leaves the work running; discarding the container ends it. How an image becomes a
sealed root file system is the pipeline's business.
"""

from __future__ import annotations

import re
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError, InternalError, InvalidInputError, RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.agent.course import Course

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enclave_cc.formats.launch import LaunchConfiguration
    from enclave_cc.image.layers.progress import Snapshot

# A pod has a handful of containers; restarts are discarded by the shim. More is somebody filling our memory.
MAX_CONTAINERS: Final = 64
# Each stream takes a few tens of megabytes; more at once would break the agent's memory bound.
MAX_CONCURRENT: Final = 2
# How soon a preparation that waits for its turn notices that it is not wanted any more.
_TURN_S: Final = 0.2
# How long the end of the agent waits for preparations to undo what they did.
_STOP_S: Final = 5.0
_CONTAINER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
# References are limited to 255 characters of name, 128 of tag and a digest.
_MAX_IMAGE_CHARS: Final = 1024


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """What the host asks for; ``request_id`` names the call and is no part of what is asked."""

    container_id: str
    image: str
    manifest_digest: str
    spec: bytes
    request_id: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the host gets to know."""

    image_digest: str
    sealed_image: str
    key_id: str
    launch: LaunchConfiguration


@dataclass(slots=True)
class _Job:
    request: PrepareRequest
    result: Future[Prepared]
    course: Course = field(default_factory=Course)
    thread: threading.Thread | None = None
    discarded: bool = False


class Preparations:
    """All containers of the pod, at most ``max_containers``; safe to use from several threads."""

    def __init__(
        self,
        pipeline: Callable[[PrepareRequest, Course], Prepared],
        *,
        forget: Callable[[str, Prepared], None],
        max_containers: int = MAX_CONTAINERS,
    ) -> None:
        self._pipeline = pipeline
        self._forget = forget
        self._max_containers = max_containers
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._streams = threading.BoundedSemaphore(MAX_CONCURRENT)

    def prepare(self, request: PrepareRequest) -> Prepared:
        """Start the work or join it, and wait for the result; raise what the pipeline raised."""
        return self.join(request).result()

    def join(self, request: PrepareRequest) -> Future[Prepared]:
        """Start the work or join it; raise the error family for a request that never reaches the pipeline."""
        _check(request)
        with self._lock:
            job = self._jobs.get(request.container_id)
            if job is None:
                return self._begin(request)
        if job.discarded:
            # Its end makes room; two at once would void each other's keys.
            raise _already_prepared("a container that is not being discarded", request.container_id)
        if job.request != request:
            raise _already_prepared(job.request.image, request.image)
        return job.result

    def launch_of(self, container_id: str) -> LaunchConfiguration:
        """Return how a prepared container may start; raise ``InvalidInputError`` for an unknown one."""
        with self._lock:
            job = self._jobs.get(container_id)
        if job is None or job.discarded or not job.result.done():
            raise InvalidInputError("container-unknown", "no such container is prepared", stage=Stage.EXEC)
        return job.result.result().launch

    def discard(self, container_id: str) -> None:
        """Forget a container; a preparation under way is cancelled. Unknown ones are no error."""
        with self._lock:
            job = self._jobs.get(container_id)
            if job is None or job.discarded:
                return
            job.discarded = True
        job.course.cancellation.cancel()
        job.result.add_done_callback(lambda _: self._cleanup(job))

    def under_way(self) -> dict[str, Snapshot]:
        """Say how far the preparations are that have not ended, by container."""
        with self._lock:
            jobs = tuple(self._jobs.items())
        return {name: job.course.progress.snapshot() for name, job in jobs if not job.result.done()}

    def launches(self) -> dict[str, LaunchConfiguration]:
        """Say how the containers may start that are prepared, by container."""
        with self._lock:
            jobs = tuple(self._jobs.items())
        return {name: job.result.result().launch for name, job in jobs if _succeeded(job)}

    def close(self) -> None:
        """Discard everything; return when the threads have ended, or did not within a bound."""
        with self._lock:
            jobs = tuple(self._jobs.values())
        for job in jobs:
            self.discard(job.request.container_id)
        for job in jobs:
            if job.thread is not None:
                job.thread.join(_STOP_S)

    def _begin(self, request: PrepareRequest) -> Future[Prepared]:
        if len(self._jobs) >= self._max_containers:
            raise RefusedError("too-many-containers", "the pod has too many containers", stage=Stage.REQUEST)
        job = _Job(request, Future())
        job.thread = threading.Thread(target=self._work, args=(job,), name="prepare", daemon=True)
        job.thread.start()
        self._jobs[request.container_id] = job
        return job.result

    def _work(self, job: _Job) -> None:
        try:
            with self._turn(job.course):
                prepared = self._pipeline(job.request, job.course)
        except EnclaveCcError as error:
            self._fail(job, error)
        except Exception as error:  # noqa: BLE001  # outermost boundary of a thread: the waiting calls must hear of it
            fault = InternalError(
                "internal", "preparing the container failed", stage=Stage.REQUEST, detail=repr(error)
            )
            fault.__cause__ = error
            self._fail(job, fault)
        else:
            job.result.set_result(prepared)

    @contextmanager
    def _turn(self, course: Course) -> Iterator[None]:
        """Wait until there are few enough others; give up when the preparation is not wanted any more."""
        while not self._streams.acquire(timeout=_TURN_S):
            course.cancellation.require()
        try:
            course.cancellation.require()
            yield
        finally:
            self._streams.release()

    def _fail(self, job: _Job, error: EnclaveCcError) -> None:
        """Drop the job before its callers hear of the failure, so that a repetition starts afresh."""
        self._drop(job)
        job.result.set_exception(error)

    def _cleanup(self, job: _Job) -> None:
        try:
            if job.result.exception() is None:
                self._forget(job.request.container_id, job.result.result())
        finally:
            self._drop(job)

    def _drop(self, job: _Job) -> None:
        with self._lock:
            if self._jobs.get(job.request.container_id) is job:
                del self._jobs[job.request.container_id]


def _succeeded(job: _Job) -> bool:
    return not job.discarded and job.result.done() and job.result.exception() is None


def _already_prepared(expected: str, actual: str) -> RefusedError:
    return RefusedError(
        "container-already-prepared",
        "this container is being prepared with other arguments or discarded",
        stage=Stage.REQUEST,
        findings=(Finding("prepare.same-arguments", Outcome.FAILED, expected, actual),),
    )


def _check(request: PrepareRequest) -> None:
    if not _CONTAINER_ID.fullmatch(request.container_id):
        raise InvalidInputError("invalid-request", "the container id is malformed", stage=Stage.REQUEST)
    if not 0 < len(request.image) <= _MAX_IMAGE_CHARS:
        raise InvalidInputError("invalid-request", "the image reference is malformed", stage=Stage.REQUEST)
