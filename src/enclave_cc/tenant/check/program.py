"""Whether the program that an image starts is there, may be executed, and finds what it needs to start."""

from __future__ import annotations

import posixpath
import stat
from typing import TYPE_CHECKING, Final

from enclave_cc.tenant.check.elf import HEAD_BYTES, MAGIC, ElfHead
from enclave_cc.tenant.check.problem import error, note

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enclave_cc.formats.oci.image_config import ImageConfig
    from enclave_cc.formats.sealed.node import Node
    from enclave_cc.tenant.check.merged import MergedTree
    from enclave_cc.tenant.check.problem import Problem

# As runc has it where the image says nothing.
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRIPT: Final = b"#!"
# As the kernel has it.
_MAX_SCRIPT_LINE_BYTES: Final = 255
_MAX_INTERPRETERS: Final = 4
_EXECUTE: Final = 0o111


class ProgramCheck:
    """Checks the command of one image in its tree."""

    def __init__(self, tree: MergedTree, config: ImageConfig, architecture: str) -> None:
        self._tree = tree
        self._config = config
        self._architecture = architecture

    def run(self) -> Iterator[Problem]:
        """Follow the command to what is executed in the end."""
        command = (*self._config.entrypoint, *self._config.cmd)
        if not command:
            yield error(
                "command.missing",
                "the image names no command",
                "set ENTRYPOINT or CMD, or give the container a command",
            )
            return
        yield from self._program(command[0], depth=0)

    def _program(self, name: str, *, depth: int) -> Iterator[Problem]:
        path, node = self._look_up(name)
        if node is None:
            yield error(
                "command.not-found",
                f"{name}: is not in the image",
                "correct ENTRYPOINT, or add the file; a name without a slash is looked up in PATH",
            )
            return
        if not stat.S_ISREG(node.mode):
            yield error("command.not-a-file", f"{path}: is no file", "name a program")
            return
        if not node.mode & _EXECUTE:
            yield error(
                "command.not-executable",
                f"{path}: may not be executed (mode {node.mode & 0o7777:04o})",
                f"chmod +x {path} when the image is built",
            )
            return
        head = self._tree.read(node, HEAD_BYTES)
        if head.startswith(MAGIC):
            yield from self._elf(path, head)
        elif head.startswith(_SCRIPT):
            yield from self._script(path, head, depth)
        else:
            yield error(
                "command.unknown-format",
                f"{path}: is neither a program nor a script that names its interpreter",
                "begin scripts with a line such as #!/bin/sh",
            )

    def _look_up(self, name: str) -> tuple[str, Node | None]:
        if "/" in name:
            path = posixpath.join(self._config.working_dir or "/", name)
            return path, self._tree.find(path)
        for directory in self._search_path():
            path = posixpath.join("/", directory, name)
            node = self._tree.find(path)
            if node is not None and stat.S_ISREG(node.mode) and node.mode & _EXECUTE:
                return path, node
        return name, None

    def _search_path(self) -> Sequence[str]:
        values = [entry.partition("=")[2] for entry in self._config.env if entry.startswith("PATH=")]
        return (values[-1] if values else _DEFAULT_PATH).split(":")

    def _elf(self, path: str, head: bytes) -> Iterator[Problem]:
        try:
            elf = ElfHead.parse(head)
        except ValueError as problem:
            yield error("command.elf-invalid", f"{path}: {problem}", "build the program again")
            return
        if elf.architecture != self._architecture:
            yield error(
                "command.architecture",
                f"{path}: is for {elf.architecture}, the image for {self._architecture}",
                f"build the program for {self._architecture}",
            )
            return
        if not elf.loader:
            yield note("command.static", f"{path}: is a static program")
            return
        loader = self._tree.find(elf.loader)
        if loader is None or not loader.mode & _EXECUTE:
            yield error(
                "command.loader-missing",
                f"{path}: its loader {elf.loader} is not in the image",
                "use a base image with the C library that the program was built for, or link it statically",
            )
            return
        yield note("command.dynamic", f"{path}: is a dynamic program, loaded by {elf.loader}")

    def _script(self, path: str, head: bytes, depth: int) -> Iterator[Problem]:
        line = head[len(_SCRIPT) : _MAX_SCRIPT_LINE_BYTES].partition(b"\n")[0]
        words = line.decode("utf-8", "replace").split()
        if line.endswith(b"\r"):
            yield error(
                "command.script-line-end",
                f"{path}: its first line ends as on Windows, so its interpreter is not found",
                "save the script with Unix line ends",
            )
            return
        if not words or depth >= _MAX_INTERPRETERS:
            yield error("command.interpreter", f"{path}: names no interpreter", "write #!/bin/sh or the like")
            return
        yield note("command.script", f"{path}: is a script for {' '.join(words)}")
        yield from self._program(words[0], depth=depth + 1)
        if posixpath.basename(words[0]) == "env" and len(words) > 1:
            target = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), "")
            if target:
                yield from self._program(target, depth=depth + 1)
