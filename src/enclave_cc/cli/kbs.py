"""`enclave-cc kbs`: the data owner's key broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from enclave_cc.cli.output import show
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.trustee.admin_access import FILE_NAME, AdminAccess
from enclave_cc.trustee.broker.init import init_broker
from enclave_cc.trustee.broker.server import serve as serve_broker
from enclave_cc.trustee.broker.settings import BrokerSettings

app = App(name="kbs", help="Set up and run a key broker.")


@app.command
def init(
    directory: Path,
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on.")] = 8443,
    name: Annotated[
        tuple[str, ...], Parameter(help="Host name or address that clients use; may be repeated.")
    ] = (),
    insecure_simulation_root: Annotated[
        Path | None,
        Parameter(help="Root certificate of a simulated SGX platform whose evidence is accepted."),
    ] = None,
    insecure_simulation_collateral: Annotated[
        str, Parameter(help="File or URL with that platform's collateral.")
    ] = "",
) -> None:
    """
    Fill DIRECTORY with keys, a certificate, an administrator's token and a commented configuration.

    Example: `enclave-cc kbs init broker --host 0.0.0.0 --name broker.example`
    """
    try:
        files = init_broker(
            directory,
            host,
            port,
            name,
            insecure_simulation_root=insecure_simulation_root,
            insecure_simulation_collateral=insecure_simulation_collateral,
        )
        AdminAccess(files.url, files.tls_ca, files.admin_token).write(directory / FILE_NAME)
    except FileExistsError as error:
        raise InvalidInputError(
            "broker-exists",
            "the directory holds a broker already",
            stage=Stage.CONFIG,
            detail=str(error.filename),
        ) from error
    show(f"broker       {files.url}")
    show(f"start it     enclave-cc kbs serve --config {files.config}")
    show(f"administer   --admin {directory / FILE_NAME}")
    show(f"for initdata tls_ca = {files.tls_ca}, token_key = {files.token_public_key}")


@app.command
def serve(*, config: Annotated[Path, Parameter(help="The configuration that `kbs init` wrote.")]) -> None:
    """
    Run the broker until it is terminated.

    Example: `enclave-cc kbs serve --config broker/broker.toml`
    """
    settings = BrokerSettings.load(config)
    for warning in settings.warnings:
        show(f"WARNING: {warning}")
    serve_broker(settings, lambda url: show(f"broker ready at {url}"))
