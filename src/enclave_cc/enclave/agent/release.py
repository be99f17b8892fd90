"""
Keys that wait for their app enclave: one per container, handed out once, forgotten after the start time-out.

Whether the caller *is* the right app enclave is decided before, by local attestation; this module only
makes sure that a right caller gets a key at most once and in time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.core.secret import Secret
    from enclave_cc.formats.launch import LaunchConfiguration

# The kubelet's default for a container's start (runtimeRequestTimeout); a key nobody fetched by then is void.
START_TIMEOUT_S: Final = 120.0


@dataclass(slots=True)
class PendingRelease:
    """What the app enclave of one container will get, and until when (monotonic seconds)."""

    container_id: str
    request_id: str
    key_id: str
    fdk: Secret
    manifest_sha256: bytes
    launch: LaunchConfiguration
    token: str
    expires_s: float = 0.0

    def wipe(self) -> None:
        """Forget the key."""
        self.fdk.wipe()


class PendingReleases:
    """All keys of the pod that wait; safe to use from several threads."""

    def __init__(self, *, clock: Callable[[], float], lifetime_s: float = START_TIMEOUT_S) -> None:
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._pending: dict[str, PendingRelease] = {}
        self._lock = threading.Lock()

    def keep(self, release: PendingRelease) -> None:
        """Let a key wait; an older one of the same container is void from now on."""
        release.expires_s = self._clock() + self._lifetime_s
        with self._lock:
            self._drop_expired()
            older = self._pending.pop(release.container_id, None)
            self._pending[release.container_id] = release
        if older is not None:
            older.wipe()

    def waits(self, container_id: str) -> bool:
        """Tell whether a key waits for this container."""
        with self._lock:
            self._drop_expired()
            return container_id in self._pending

    def request_of(self, container_id: str) -> str:
        """Return the request under which a waiting key was prepared, empty if none waits."""
        with self._lock:
            release = self._pending.get(container_id)
            return release.request_id if release is not None else ""

    def newest_token(self) -> str:
        """Return the broker's latest statement about this agent, empty without a broker or a waiting key."""
        with self._lock:
            return next((release.token for release in reversed(self._pending.values())), "")

    def take(self, container_id: str) -> PendingRelease:
        """Hand the key out, once; raise ``RefusedError`` (``key-release-refused``) after that or too late."""
        with self._lock:
            release = self._find(container_id)
            del self._pending[container_id]
        return release

    def discard(self, container_id: str) -> None:
        """Forget the key of a container that will not start."""
        with self._lock:
            release = self._pending.pop(container_id, None)
        if release is not None:
            release.wipe()

    def _find(self, container_id: str) -> PendingRelease:
        self._drop_expired()
        release = self._pending.get(container_id)
        if release is None:
            finding = Finding(
                "release.pending", Outcome.FAILED, "a key that waits", f"none for {container_id[:128]}"
            )
            raise RefusedError(
                "key-release-refused",
                "no key waits for this container",
                stage=Stage.LOCAL_ATTESTATION,
                findings=(finding,),
            )
        return release

    def _drop_expired(self) -> None:
        now = self._clock()
        for container_id in [name for name, release in self._pending.items() if release.expires_s <= now]:
            self._pending.pop(container_id).wipe()
