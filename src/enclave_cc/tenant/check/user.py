"""Whether the image knows the user that it names, as container engines look it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.tenant.check.problem import error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.tenant.check.merged import MergedTree
    from enclave_cc.tenant.check.problem import Problem

# The agent refuses larger files.
_MAX_FILE_BYTES: Final = 1 << 20


def check_user(tree: MergedTree, user: str) -> Iterator[Problem]:
    """Look up ``user[:group]``; numbers need no entry."""
    name, _, group = user.partition(":")
    for kind, wanted in (("passwd", name), ("group", group)):
        if wanted and not (wanted.isascii() and wanted.isdecimal()) and wanted not in _names(tree, kind):
            yield error(
                "user.unknown",
                f"{wanted}: is not in the image's etc/{kind}",
                "add the user when the image is built, or name it by number",
            )


def _names(tree: MergedTree, kind: str) -> set[str]:
    node = tree.find(f"/etc/{kind}")
    text = b"" if node is None else tree.read(node, _MAX_FILE_BYTES)
    return {line.partition(":")[0] for line in text.decode("utf-8", "replace").splitlines()}
