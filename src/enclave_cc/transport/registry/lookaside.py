"""
Simple signatures beside a registry (containers-signature(5), "lookaside"): bytes that nobody vouches for.

``<base>/<repository>@<algorithm>=<hex>/signature-<n>`` from 1 until there is none. How many there are and how
large each is is bounded here; what they are worth is the caller's to find out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage
from enclave_cc.formats.registries.proxies import Proxies
from enclave_cc.transport.patience.deadline import Patience
from enclave_cc.transport.registry.http import RegistryHttp

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.reference import Reference
    from enclave_cc.formats.owner.lookaside import LookasideSettings

# Each costs a request, and whoever keeps the store decides how many there are.
MAX_SIGNATURES: Final = 32
# A signature with RSA-4096 is below 1 KiB.
MAX_SIGNATURE_BYTES: Final = 64 << 10
_DEADLINE_S: Final = 30.0
_OK: Final = 200
_NOT_FOUND: Final = 404


class LookasideClient:
    """Reads signatures over https, or http from hosts that the caller listed by name."""

    def __init__(
        self,
        settings: LookasideSettings,
        *,
        insecure_http: Collection[str] = (),
        ca_pem: str = "",
        proxies: Proxies | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._settings = settings
        self._http = RegistryHttp(
            insecure_http=frozenset(insecure_http),
            ca_pem=ca_pem,
            proxies=proxies or Proxies(),
            request_s=_DEADLINE_S,
            patience=patience or Patience(),
        )

    def close(self) -> None:
        """Drop the pooled connections."""
        self._http.close()

    def interrupt(self) -> None:
        """Wake whoever waits for an answer; may be called from another thread."""
        self._http.interrupt()

    def signatures(self, reference: Reference, digest: Digest) -> Iterator[bytes]:
        """
        Yield what lies beside a manifest, in the order of its numbers; nothing where no place is set.

        Raises ``InvalidInputError`` (registry-…) and ``UnavailableError`` (registry-unavailable): a store
        that does not answer is not an empty one.
        """
        base = self._settings.base_for(reference)
        if not base:
            return
        for number in range(1, MAX_SIGNATURES + 1):
            path = signature_path(reference, digest, number)
            found = self._fetch(f"{base}/{path}")
            if found is None:
                return
            yield found

    def _fetch(self, url: str) -> bytes | None:
        with self._http.open("GET", url, headers={}) as response:
            if response.status == _NOT_FOUND:
                return None
            self._http.expect(response, {_OK}, stage=Stage.FETCH)
            return self._http.read_bounded(response, MAX_SIGNATURE_BYTES)


def signature_path(reference: Reference, digest: Digest, number: int) -> str:
    """Return where a signature lies below the base; the registry's name is no part of it."""
    return f"{reference.repository}@{digest.algorithm}={digest.hex}/signature-{number}"
