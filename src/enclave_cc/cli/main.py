"""The command tree. Each command lives in a module of its own and is loaded when it is called."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final

from cyclopts import App, CycloptsError

from enclave_cc import __version__
from enclave_cc.cli.failure import report_failure
from enclave_cc.core.errors import EnclaveCcError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Name and where it lives; a group names its own ``app``, a command its function. Loaded when asked for.
_TREE: Final = (
    ("demo", "enclave_cc.cli.demo:demo"),
    ("doctor", "enclave_cc.cli.doctor:doctor"),
    ("image", "enclave_cc.cli.image.app:app"),
    ("kbs", "enclave_cc.cli.kbs:app"),
    ("secret", "enclave_cc.cli.secret:app"),
    ("policy", "enclave_cc.cli.policy:app"),
    ("refval", "enclave_cc.cli.refval:app"),
    ("attest", "enclave_cc.cli.attest:app"),
    ("node", "enclave_cc.cli.node:app"),
    ("bundle", "enclave_cc.cli.bundle:app"),
    ("measure", "enclave_cc.cli.bundle:measure"),
    ("explain", "enclave_cc.cli.explain:explain"),
)

# What the reference page prints; a test compares it with the tree.
COMMANDS: Final = (
    ("demo",),
    ("doctor",),
    ("image",),
    ("image", "keygen"),
    ("image", "encrypt"),
    ("image", "sign"),
    ("image", "verify"),
    ("image", "push"),
    ("image", "inspect"),
    ("kbs",),
    ("kbs", "init"),
    ("kbs", "serve"),
    ("secret",),
    ("secret", "put"),
    ("secret", "list"),
    ("policy",),
    ("policy", "set"),
    ("policy", "show"),
    ("refval",),
    ("refval", "add"),
    ("refval", "list"),
    ("attest",),
    ("attest", "verify"),
    ("node",),
    ("node", "daemon"),
    ("node", "launcher"),
    ("bundle",),
    ("bundle", "build"),
    ("measure",),
    ("explain",),
)

_EPILOGUE: Final = (
    "Exit status: 0 done, 64 wrong usage, 65 bad input, 69 a peer is unavailable, "
    "70 internal fault, 77 refused."
)
_USAGE_STATUS: Final = 64


def build_app() -> App:
    """Compose the tree; nothing heavy is imported until a command is chosen."""
    app = App(
        name="enclave-cc",
        help="Confidential containers in enclaves, on stock containerd and runc.",
        help_epilogue=_EPILOGUE,
        version=__version__,
        result_action="return_value",
    )
    for name, target in _TREE:
        app.command(target, name=name)
    app.register_install_completion_command(name="completion", add_to_startup=False)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        result = build_app()(arguments, exit_on_error=False)
    except EnclaveCcError as error:
        sys.exit(report_failure(error))
    except CycloptsError:
        # cyclopts has said what is wrong already.
        sys.exit(_USAGE_STATUS)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(result if isinstance(result, int) else 0)
