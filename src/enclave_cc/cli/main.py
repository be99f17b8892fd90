"""The command tree. Each command lives in a module of its own and is loaded when it is called."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from enclave_cc import __version__
from enclave_cc.cli.output import show
from enclave_cc.cli.overview import overview

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App

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
    ("completion", "enclave_cc.cli.completion:completion", "Install shell completion for this application."),
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
_ABOUT: Final = "Confidential containers in enclaves, on stock containerd and runc."
_IMAGE_SUMMARY: Final = "Encrypt, sign, copy, inspect and check images."
_USAGE_STATUS: Final = 64
_INTERRUPTED_STATUS: Final = 130
# What asks for the list of commands and for nothing else.
_OVERVIEW: Final[tuple[list[str], ...]] = ([], ["--help"], ["-h"])


def build_app(arguments: Sequence[str] = ()) -> App:
    """
    Compose the tree; nothing heavy is imported until a command is chosen.

    Summaries stand for commands that are not loaded; the one that ``arguments`` choose speaks for itself.
    """
    from cyclopts import App  # noqa: PLC0415  # the list of commands does without, and is quicker

    from enclave_cc.cli.image.app import image_app  # noqa: PLC0415  # as above

    words = [argument for argument in arguments if not argument.startswith("-")]
    chosen, below = [*words, "", ""][:2]
    app = App(
        name="enclave-cc",
        help=_ABOUT,
        help_epilogue=_EPILOGUE,
        version=__version__,
        result_action="return_value",
    )
    for name, target, summary in _TREE:
        app.command(target, name=name, help=None if name == chosen else summary)
    app.command(image_app(below if chosen == "image" else ""))
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given in _OVERVIEW:
        commands = [(name, summary) for name, _, summary in _TREE]
        show(overview(_ABOUT, [*commands, ("image", _IMAGE_SUMMARY)], _EPILOGUE))
        sys.exit(0)
    sys.exit(_run(given))


def _run(given: list[str]) -> int:
    from cyclopts import CycloptsError  # noqa: PLC0415  # as in ``build_app``

    from enclave_cc.cli.failure import report_failure  # noqa: PLC0415  # as above
    from enclave_cc.core.errors import EnclaveCcError  # noqa: PLC0415  # as above

    if "--help" not in given:
        _prepare_log()
    try:
        result = build_app(given)(given, exit_on_error=False)
    except EnclaveCcError as error:
        return report_failure(error)
    except CycloptsError:
        # cyclopts has said what is wrong already.
        return _USAGE_STATUS
    except KeyboardInterrupt:
        return _INTERRUPTED_STATUS
    return result if isinstance(result, int) else 0


def _prepare_log() -> None:
    """Let warnings say who speaks."""
    import logging  # noqa: PLC0415  # help does without, and is quicker

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
