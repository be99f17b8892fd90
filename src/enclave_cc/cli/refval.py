"""`enclave-cc refval`: the measurements that the owner calls good."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import App, Parameter

from enclave_cc.cli.options import DEFAULT_ADMIN, AdminOption, OutputOption
from enclave_cc.cli.output import Output, show, show_json, show_table
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.trustee.admin_access import AdminAccess

_MAX_VALUE_BYTES = 64 << 10

app = App(name="refval", help="Register and list reference values.")


@app.command
def add(
    name: str,
    value: str,
    *,
    as_json: Annotated[bool, Parameter(name="--json", help="VALUE is JSON: a number, or a list.")] = False,
    admin: AdminOption = DEFAULT_ADMIN,
) -> None:
    """
    Accept one more value under NAME; what was registered before stays.

    The agent's measurement is registered as `sgx_mr_enclave`, its product id as the number `sgx_isv_prod_id`.

    Example: `enclave-cc refval add sgx_mr_enclave $(enclave-cc measure agent --initdata initdata.toml)`
    """
    with AdminAccess.read(admin).client() as client:
        client.add_reference_value(name, _parse(value) if as_json else value)
    show(f"registered {name}")


def _parse(text: str) -> object:
    try:
        return loads(text, max_bytes=_MAX_VALUE_BYTES)
    except InvalidJsonError as error:
        raise InvalidInputError(
            "value-invalid", "the value is not JSON", stage=Stage.CONFIG, detail=str(error)
        ) from error


@app.command(name="list")
def list_values(*, admin: AdminOption = DEFAULT_ADMIN, output: OutputOption = Output.TEXT) -> None:
    """
    List all values that have not expired.

    Example: `enclave-cc refval list`
    """
    with AdminAccess.read(admin).client() as client:
        values = client.list_reference_values()
    if output is Output.JSON:
        show_json(values)
    else:
        show_table(("name", "value"), [(name, json.dumps(value)) for name, value in sorted(values.items())])
