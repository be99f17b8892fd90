"""The group `image`: which commands there are; each has a module of its own, loaded when called."""

from __future__ import annotations

from typing import Final

from cyclopts import App

# Name, and what the group's help says about it; the command's own help says more.
COMMANDS: Final = (
    ("keygen", "Make a key for layers and one for signatures."),
    ("encrypt", "Encrypt an image, from any place to any place."),
    ("decrypt", "Give the plain image back."),
    ("rewrap", "Change who can open an image, without touching its layers."),
    ("sign", "Sign an image, as cosign does."),
    ("verify", "Say whether an enclave with a policy would accept an image."),
    ("copy", "Copy an image, with its signatures if wanted."),
    ("push", "Push an image from an OCI layout, its signatures with it."),
    ("inspect", "Show how an image is encrypted and signed."),
    ("check", "Say whether an image will run."),
)
# Groups have an ``app`` of their own.
GROUPS: Final = (("keyprovider", "Wrap layer keys for skopeo and other tools that call a key provider."),)


def image_app(chosen: str) -> App:
    """Compose the group; the command that was chosen speaks for itself."""
    app = App(name="image", help="Encrypt, sign, copy, inspect and check images.")
    for name, summary in COMMANDS:
        target = f"enclave_cc.cli.image.{name}:{name}"
        app.command(target, name=name, help=None if name == chosen else summary)
    for name, summary in GROUPS:
        target = f"enclave_cc.cli.image.{name}:app"
        app.command(target, name=name, help=None if name == chosen else summary)
    return app
