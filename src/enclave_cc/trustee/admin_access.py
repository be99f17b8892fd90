"""Where a broker is and how to administer it: a small file that `kbs init` writes and every command reads."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.trustee.admin_client import AdminClient

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "admin.json"
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class AdminAccess:
    """Address of a broker, the CA to trust for it, and the file with the administrator's token."""

    url: str
    tls_ca: Path
    admin_token: Path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; its paths are relative to it. Raise ``InvalidInputError`` when it is not one."""
        try:
            fields = Fields(loads(path.read_bytes(), max_bytes=_MAX_BYTES), path.name)
            fields.only("url", "tls_ca", "admin_token")
            base = path.parent
            return cls(fields.text("url"), base / fields.text("tls_ca"), base / fields.text("admin_token"))
        except (OSError, InvalidJsonError, FieldError) as error:
            raise InvalidInputError(
                "admin-file-invalid",
                "the broker's administration file cannot be read",
                stage=Stage.CONFIG,
                detail=f"{path}: {error}",
            ) from error

    def write(self, path: Path) -> None:
        """Write the file beside the ones it names."""
        document = {"url": self.url, "tls_ca": self.tls_ca.name, "admin_token": self.admin_token.name}
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(document, file, indent=2)
            file.write("\n")

    def client(self) -> AdminClient:
        """Connect as the administrator."""
        try:
            return AdminClient(self.url, self.admin_token.read_text(), self.tls_ca.read_text())
        except OSError as error:
            raise InvalidInputError(
                "admin-file-invalid",
                "a file that the broker's administration file names cannot be read",
                stage=Stage.CONFIG,
                detail=str(error),
            ) from error
