"""
Handshakes in progress and attested sessions, in memory, bounded in number and time.

A nonce is good for one attempt: evidence that fails ends its session. When the table is full the
oldest session that has not attested makes room, so that strangers cannot lock out enclaves.
"""

from __future__ import annotations

import base64
import os
import threading
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from enclave_cc.trustee.appraisal.appraiser import Appraisal
    from enclave_cc.trustee.appraisal.evidence import Tee

COOKIE: Final = "kbs-session-id"
LIFETIME: Final = timedelta(minutes=5)
# Far above what one process can appraise in five minutes.
MAX_SESSIONS: Final = 16384
# A token has some kilobytes; with all the init-data that an attested stranger may send, a hundred times more.
MAX_TOKEN_CHARS_TOGETHER: Final = 256 << 20
_NONCE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """What the client keeps."""

    session_id: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A challenge, and the appraisal that answered it, if one did."""

    session_id: str
    tee: Tee
    nonce: str
    expires: datetime
    appraisal: Appraisal | None = None

    @property
    def token_chars(self) -> int:
        """Return how much its token takes."""
        return 0 if self.appraisal is None else len(self.appraisal.token)

    @property
    def cookie(self) -> SessionCookie:
        """Return the cookie of this session."""
        return SessionCookie(self.session_id, self.expires)


@dataclass(slots=True)
class SessionTable:
    """All sessions of this process; safe to call from several threads."""

    now: Callable[[], datetime]
    capacity: int = MAX_SESSIONS
    token_capacity: int = MAX_TOKEN_CHARS_TOGETHER
    # Counted up with every session, and made exact when it exceeds the capacity.
    _token_chars: int = 0
    _sessions: dict[str, Session] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, tee: Tee) -> Session:
        """Start a handshake with a fresh nonce."""
        nonce = base64.b64encode(os.urandom(_NONCE_BYTES)).decode("ascii")
        session = Session(uuid.uuid4().hex, tee, nonce, self.now() + LIFETIME)
        with self._lock:
            self._make_room()
            self._sessions[session.session_id] = session
        return session

    def find(self, session_id: str) -> Session | None:
        """Return a session that has not expired."""
        with self._lock:
            session = self._sessions.get(session_id)
        return session if session is not None and self.now() < session.expires else None

    def take(self, session_id: str) -> Session | None:
        """Return a session that has not expired and end it: its nonce has been used."""
        with self._lock:
            session = self._sessions.pop(session_id, None)
        return session if session is not None and self.now() < session.expires else None

    def keep(self, session: Session) -> None:
        """Put an attested session in place."""
        with self._lock:
            self._make_room()
            self._sessions[session.session_id] = session
            self._token_chars += session.token_chars
            if self._token_chars > self.token_capacity:
                self._drop_tokens()

    def _drop_tokens(self) -> None:
        """Forget the oldest attested sessions until half of what tokens may take is free."""
        self._drop_expired()
        self._token_chars = sum(session.token_chars for session in self._sessions.values())
        for key, session in list(self._sessions.items()):
            if self._token_chars <= self.token_capacity // 2:
                return
            if session.appraisal is not None:
                del self._sessions[key]
                self._token_chars -= session.token_chars

    def _drop_expired(self) -> None:
        now = self.now()
        self._sessions = {key: value for key, value in self._sessions.items() if now < value.expires}

    def _make_room(self) -> None:
        if len(self._sessions) < self.capacity:
            return
        self._drop_expired()
        while len(self._sessions) >= self.capacity:
            waiting = (key for key, value in self._sessions.items() if value.appraisal is None)
            del self._sessions[next(waiting, next(iter(self._sessions)))]
