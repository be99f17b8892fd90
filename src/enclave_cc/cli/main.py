"""The command tree. Each command lives in a module of its own and is loaded when it is called."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from cyclopts import App, CycloptsError

from enclave_cc import __version__
from enclave_cc.cli.failure import report_failure
from enclave_cc.cli.image.app import image_app
from enclave_cc.core.errors import EnclaveCcError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Name, where it lives, and what the top-level help says about it. Loaded when asked for.
_TREE: Final = (
    ("demo", "enclave_cc.cli.demo:demo", "Show the whole story on this machine, refusals included."),
    ("doctor", "enclave_cc.cli.doctor:doctor", "Say what this machine lacks, and how to get it."),
    ("kbs", "enclave_cc.cli.kbs:app", "Set up and run the key broker."),
    ("secret", "enclave_cc.cli.secret:app", "Put and list the broker's secrets."),
    ("policy", "enclave_cc.cli.policy:app", "Set and show the broker's policies."),
    (
        "refval",
        "enclave_cc.cli.refval:app",
        "Add and list reference values: which enclaves are the right ones.",
    ),
    ("attest", "enclave_cc.cli.attest:app", "Verify attestation evidence."),
    ("node", "enclave_cc.cli.node:app", "Run the node's services."),
    ("bundle", "enclave_cc.cli.bundle:app", "Build what runs inside enclaves."),
    ("measure", "enclave_cc.cli.bundle:measure", "Say what an enclave will measure."),
    ("explain", "enclave_cc.cli.explain:explain", "Say why the broker refused a request."),
)

# What the reference page prints; a test compares it with the tree.
COMMANDS: Final = (
    ("demo",),
    ("doctor",),
    ("image",),
    ("image", "keygen"),
    ("image", "encrypt"),
    ("image", "decrypt"),
    ("image", "rewrap"),
    ("image", "sign"),
    ("image", "verify"),
    ("image", "copy"),
    ("image", "push"),
    ("image", "inspect"),
    ("image", "check"),
    ("image", "keyprovider"),
    ("image", "keyprovider", "serve"),
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
    "70 internal fault, 77 refused; 1 checked, and the answer is no."
)
_USAGE_STATUS: Final = 64


def build_app(arguments: Sequence[str] = ()) -> App:
    """
    Compose the tree; nothing heavy is imported until a command is chosen.

    Summaries stand for commands that are not loaded; the one that ``arguments`` choose speaks for itself.
    """
    words = [argument for argument in arguments if not argument.startswith("-")]
    chosen, below = [*words, "", ""][:2]
    app = App(
        name="enclave-cc",
        help="Confidential containers in enclaves, on stock containerd and runc.",
        help_epilogue=_EPILOGUE,
        # Markdown takes a library that is slow to load, which a list of commands does not need.
        help_format="markdown" if words else "plaintext",
        version=__version__,
        result_action="return_value",
    )
    for name, target, summary in _TREE:
        app.command(target, name=name, help=None if name == chosen else summary)
    app.command(image_app(below if chosen == "image" else ""))
    app.register_install_completion_command(name="completion", add_to_startup=False)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if "--help" not in given:
        _prepare_log()
    try:
        result = build_app(given)(given, exit_on_error=False)
    except EnclaveCcError as error:
        sys.exit(report_failure(error))
    except CycloptsError:
        # cyclopts has said what is wrong already.
        sys.exit(_USAGE_STATUS)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(result if isinstance(result, int) else 0)


def _prepare_log() -> None:
    """Let warnings say who speaks."""
    import logging  # noqa: PLC0415  # help does without, and is quicker

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
