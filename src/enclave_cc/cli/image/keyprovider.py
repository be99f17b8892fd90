"""`enclave-cc image keyprovider`: wrapping layer keys for people who encrypt with skopeo or containerd."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from enclave_cc.cli.image.broker_keys import BrokerKeyStore
from enclave_cc.cli.output import printable
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.tenant.keyproviders.served_keys import DEFAULT_CREATE_IN, ServedKeys
from enclave_cc.tenant.keyproviders.server import KeyProviderServer
from enclave_cc.tenant.keyproviders.service import KeyProvider

app = App(name="keyprovider", help="Wrap layer keys for skopeo and other tools that call a key provider.")


@app.command
def serve(
    *,
    listen: Annotated[
        str, Parameter(help="Loopback address and port, or unix:PATH for a socket that only you may open.")
    ] = "127.0.0.1:50000",
    key: Annotated[
        tuple[str, ...],
        Parameter(help="A key to wrap and unwrap with: kbs:///REPOSITORY/TYPE/TAG=FILE; may be repeated."),
    ] = (),
    admin: Annotated[
        Path | None,
        Parameter(help="The broker's admin.json: keys that are not listed are made and stored there."),
    ] = None,
    create_in: Annotated[
        str, Parameter(help="New keys get names below this repository and type, and no others.")
    ] = DEFAULT_CREATE_IN,
) -> None:
    """
    Answer ocicrypt's key provider protocol (gRPC) until it is terminated.

    Example: `enclave-cc image keyprovider serve --key kbs:///team/keys/app=keys/image.key`

    Then, in another terminal, with a skopeo that knows key providers:

    `echo '{"key-providers":{"attestation-agent":{"grpc":"127.0.0.1:50000"}}}' > ocicrypt.conf`

    `export OCICRYPT_KEYPROVIDER_CONFIG=$PWD/ocicrypt.conf`

    `skopeo copy --encryption-key provider:attestation-agent:keyid=kbs:///team/keys/app oci:app oci:app.enc`

    `skopeo copy --decryption-key provider:attestation-agent oci:app.enc oci:app.plain`
    """
    if not key and admin is None:
        raise InvalidInputError(
            "keyprovider-config-invalid",
            "a key provider is not configured",
            stage=Stage.CONFIG,
            detail="there is neither a key (--key) nor a broker to make one in (--admin)",
        )
    store = None if admin is None else BrokerKeyStore(admin)
    keys = ServedKeys(key, new_keys=store, create_in=create_in)
    server = KeyProviderServer(KeyProvider(keys), listen, _say)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _say(f"key provider ready at {server.start()}, serving {', '.join(keys.names()) or 'new keys only'}")
    stop.wait()
    server.stop()


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)  # noqa: T201  # this is the command line's talk
