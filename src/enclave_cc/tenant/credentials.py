"""The image owner's registry credentials: where ``podman``, ``skopeo`` and ``docker login`` put them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from enclave_cc.transport.registry.credential_files import CredentialFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def credentials_for_people(environment: Mapping[str, str] = os.environ) -> CredentialFiles:
    """Return what finds a person's credentials for an image, in the files that other tools use too."""
    return CredentialFiles(_paths(environment))


def _paths(environment: Mapping[str, str]) -> Iterator[Path]:
    """Name the files in their order; one that is named in the environment is the only one."""
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
        return
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    home = Path(environment.get("HOME") or Path.home())
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json"
    yield Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
