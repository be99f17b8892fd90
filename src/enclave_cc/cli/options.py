"""Parameters that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.output import Output

OutputOption = Annotated[Output, Parameter(name="--output", help="Rows for people, or one JSON document.")]
AdminOption = Annotated[
    Path,
    Parameter(
        name="--admin", help="The broker's admin.json, as `kbs init` wrote it.", env_var="ENCLAVE_CC_ADMIN"
    ),
]
PlainHttpOption = Annotated[
    tuple[str, ...],
    Parameter(name="--insecure-http", help="Registry (host:port) to speak plain HTTP with; may be repeated."),
]
DEFAULT_ADMIN = Path("broker/admin.json")
