"""
The agent's side of the key broker: one attested session per request, or none where the owner names no broker.

This module hides whether there is a broker from the pipeline. It keeps no resource longer than its caller.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.kbs.resource_uri import ResourceUri

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enclave_cc.core.errors import EnclaveCcError

# A token lives five minutes and a container has two to start; a preparation may take longer than both.
FRESH_TOKEN_S: Final = 60.0


class BrokerSession(Protocol):
    """What a request may ask of the broker after attestation."""

    def fresh_token(self) -> str:
        """Return the broker's statement about this enclave, empty without a broker."""
        ...

    def get(self, uri: str) -> bytes:
        """Fetch a resource by its ``kbs:///`` name."""
        ...

    def report(self, error: EnclaveCcError, findings: Sequence[Finding]) -> None:
        """Put a refusal, with values, into the owner's audit log."""
        ...

    def close(self) -> None:
        """Hang up; a session is not used after that."""
        ...


class KbsConnection(Protocol):
    """The KBS client, as far as it is used here."""

    def attest(self) -> str:
        """Do the whole handshake; return the broker's token."""
        ...

    def resource(self, uri: ResourceUri) -> bytes:
        """Fetch one resource."""
        ...

    def report_findings(
        self, request_id: str, stage: str, code: str, findings: Sequence[Finding], *, detail: str = ""
    ) -> None:
        """Put findings into the owner's audit log."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class AttestedSession:
    """A session with a real broker; attestation happens on construction."""

    def __init__(
        self, connection: KbsConnection, request_id: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._request_id = request_id
        self._clock = clock
        try:
            self._attest()
        except BaseException:
            # No connection outlives an attestation that failed in any way.
            connection.close()
            raise

    def fresh_token(self) -> str:
        """Return a token that app enclaves still accept when they start; attest again for an old one."""
        if self._clock() - self._attested_at > FRESH_TOKEN_S:
            self._attest()
        return self._token

    def get(self, uri: str) -> bytes:
        """Fetch a resource; raise what the broker answers."""
        return self._connection.resource(ResourceUri.parse(uri))

    def report(self, error: EnclaveCcError, findings: Sequence[Finding]) -> None:
        """Send findings under the request's id."""
        self._connection.report_findings(
            self._request_id, str(error.stage), error.code, findings, detail=error.detail
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _attest(self) -> None:
        self._attested_at = self._clock()
        self._token = self._connection.attest()


class NoBroker:
    """The session of a pod whose owner names no broker: there is nothing to be had."""

    def fresh_token(self) -> str:
        """Return none; app enclaves of such pods ask for none."""
        return ""

    def get(self, uri: str) -> bytes:
        """Refuse (``broker-missing``)."""
        finding = Finding(
            "broker.configured", Outcome.FAILED, "a broker in initdata", f"none, for {uri[:256]}"
        )
        raise RefusedError(
            "broker-missing",
            "a key or policy is needed, and the pod's initdata names no broker",
            stage=Stage.BROKER,
            findings=(finding,),
        )

    def report(self, error: EnclaveCcError, findings: Sequence[Finding]) -> None:
        """Do nothing: there is no owner to tell."""

    def close(self) -> None:
        """Do nothing."""
