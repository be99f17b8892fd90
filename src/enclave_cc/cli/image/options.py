"""Parameters that several image commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from enclave_cc.tenant.keyproviders.configuration import CONFIG_VARIABLE

PlatformOption = Annotated[
    tuple[str, ...],
    Parameter(
        name="--platform",
        help="os/architecture[/variant]; may be repeated. All platforms where it is left out.",
        negative="",
        show_default=False,
    ),
]
KeysOption = Annotated[
    tuple[str, ...],
    Parameter(
        name="--key",
        help=(
            "What opens the image: a FILE with 32 bytes as the broker holds them or with a private key,"
            " kbs:///REPOSITORY/TYPE/TAG=FILE, or provider:NAME[:PARAMETERS]; may be repeated."
        ),
        negative="",
        show_default=False,
    ),
]
AllowA256CtrOption = Annotated[
    bool,
    Parameter(
        name="--insecure-allow-a256ctr",
        help="Accept keys wrapped with A256CTR, which anybody may have changed.",
        negative="",
    ),
]
KeyPasswordOption = Annotated[
    Path | None, Parameter(name="--key-password-file", help="File with the password of private keys.")
]
KeyProviderConfigOption = Annotated[
    Path | None,
    Parameter(
        name="--keyprovider-config",
        help="ocicrypt's file that says how key providers are called.",
        env_var=CONFIG_VARIABLE,
    ),
]
