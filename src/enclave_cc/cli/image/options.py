"""Parameters that several image commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

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
    tuple[Path, ...],
    Parameter(
        name="--key",
        help="File with a key that opens the image: 32 bytes as the broker holds them, or a private key.",
        negative="",
        show_default=False,
    ),
]
