"""`enclave-cc refval`: the measurements that the owner calls good."""

from __future__ import annotations

import json

from cyclopts import App

from enclave_cc.cli.options import DEFAULT_ADMIN, AdminOption, OutputOption
from enclave_cc.cli.output import Output, show, show_json, show_table
from enclave_cc.trustee.admin_access import AdminAccess

app = App(name="refval", help="Register and list reference values.")


@app.command
def add(name: str, value: str, *, admin: AdminOption = DEFAULT_ADMIN) -> None:
    """
    Accept one more value under NAME; what was registered before stays.

    The agent's measurement is registered as `sgx_mr_enclave`.

    Example: `enclave-cc refval add sgx_mr_enclave $(enclave-cc measure agent --initdata initdata.toml)`
    """
    with AdminAccess.read(admin).client() as client:
        client.add_reference_value(name, value)
    show(f"registered {name}")


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
