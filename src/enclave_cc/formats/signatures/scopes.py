"""The scopes that a reference belongs to, most specific first: for policies and for lookaside storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.oci.reference import Reference


def scope_names(reference: Reference) -> Iterator[str]:
    """List scopes as containers-policy.json(5) orders them: exact, parents, host, wildcards, everything."""
    yield str(reference)
    name = reference.name
    while name:
        yield name
        name = name.rpartition("/")[0]
    host = reference.registry.rpartition(":")[0] if ":" in reference.registry else reference.registry
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
    yield ""
