"""What the app enclaves told the agent about containers that run: the user that each one resolved."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enclave_cc.enclave.resolved_user import ResolvedUser


class StartedContainers:
    """Safe to use from several threads; holds one entry per container that the agent released a key for."""

    def __init__(self) -> None:
        self._users: dict[str, ResolvedUser] = {}
        self._lock = threading.Lock()

    def started(self, container_id: str, user: ResolvedUser) -> None:
        """Note the user of a container, as its own app enclave reported it."""
        with self._lock:
            self._users[container_id] = user

    def user_of(self, container_id: str) -> ResolvedUser | None:
        """Return the user, or None while the container has not started."""
        with self._lock:
            return self._users.get(container_id)

    def forget(self, container_id: str) -> None:
        """Drop a container that is gone."""
        with self._lock:
            self._users.pop(container_id, None)
