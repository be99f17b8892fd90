"""The scopes that a reference belongs to, most specific first: for policies and for lookaside storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.formats.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator


def scope_names(reference: Reference) -> Iterator[str]:
    """
    List scopes as containers-policy.json(5) orders them: exact, parents, host, wildcards, everything.

    With tag and digest both are exact names, so that a digest leads nobody around what is said of the tag.
    """
    yield str(reference)
    if reference.tag is not None and reference.digest is not None:
        yield f"{reference.name}@{reference.digest}"
        yield f"{reference.name}:{reference.tag}"
    name = reference.name
    while name:
        yield name
        name = name.rpartition("/")[0]
    host = reference.registry.rpartition(":")[0] if ":" in reference.registry else reference.registry
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
    yield ""


def is_reachable(scope: str) -> bool:
    """
    Tell whether some reference belongs to a scope: whether it is spelled as normal names are.

    One that nothing belongs to (``nginx``, ``Registry.example``) would leave its images to a wider scope.
    Raises ``InvalidInputError`` for what is no part of a name at all.
    """
    if not scope:
        return True
    if scope.startswith("*."):
        within = scope.removeprefix("*.")
        return "/" not in within and ":" not in within and is_reachable(f"any.{within}")
    exact = "/" in scope and ":" in scope.rpartition("/")[2]
    # Two more parts, because one alone would be an official image of Docker Hub.
    probe = scope if exact else f"{scope}/a/b"
    return str(Reference.parse(probe, default_tag=None)) == probe
