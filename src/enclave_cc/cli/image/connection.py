"""One registry client for a command, closed at its end."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from enclave_cc.transport.registry import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def connected(insecure_http: tuple[str, ...]) -> Iterator[Callable[[], RegistryClient]]:
    """Give what places ask for a client; nothing is sent before somebody reads or writes."""
    with closing(RegistryClient(insecure_http=insecure_http)) as client:
        yield lambda: client
