"""`enclave-cc secret`: the resources that the broker releases to attested agents."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

from enclave_cc.cli.options import DEFAULT_ADMIN, AdminOption, OutputOption
from enclave_cc.cli.output import Output, show, show_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.trustee.admin_access import AdminAccess

app = App(name="secret", help="Put and list the broker's secrets.")


@app.command
def put(uri: str, file: Path, *, admin: AdminOption = DEFAULT_ADMIN) -> None:
    """
    Store the bytes of FILE (`-` for standard input) under URI.

    Example: `enclave-cc secret put kbs:///team/keys/app keys/image.key --admin broker/admin.json`
    """
    resource = ResourceUri.parse(uri)
    try:
        value = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        detail = f"{file}: {error.strerror}"
        raise InvalidInputError(
            "file-unusable", "a file cannot be used", stage=Stage.CONFIG, detail=detail
        ) from error
    with AdminAccess.read(admin).client() as client:
        client.put_resource(resource, value)
    show(f"stored {resource} ({len(value)} bytes)")


@app.command(name="list")
def list_secrets(*, admin: AdminOption = DEFAULT_ADMIN, output: OutputOption = Output.TEXT) -> None:
    """
    List the names of all secrets; values are never shown.

    Example: `enclave-cc secret list --output json`
    """
    with AdminAccess.read(admin).client() as client:
        names = [f"kbs:///{path}" for path in client.list_resources()]
    if output is Output.JSON:
        show_json(names)
    else:
        show("\n".join(names) or "no secrets yet")
