"""Random images of a few layers with few names, so that entries of all kinds meet each other."""

from __future__ import annotations

import io
import random
import tarfile
from dataclasses import dataclass, field

NAMES = ["a", "b", "c", "d", "\udce9\udc80", "n" * 120]
TYPES = {"d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "p": tarfile.FIFOTYPE}
CAPABILITY = "\x01\0\0\x02\0\x20\0\0" + "\0" * 12


@dataclass
class LayerWriter:
    """
    Writes one layer; ``known`` maps every path of the image so far to its type.

    Whiteouts are written as they come, before or after what they meet.
    """

    random: random.Random
    known: dict[str, str]
    layer: int
    entries: list[tuple[tarfile.TarInfo, bytes]] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)

    def write(self, count: int) -> bytes:
        """Write about ``count`` entries."""
        for number in range(count):
            self._entry(number)
        buffer = io.BytesIO()
        options = {"format": self.random.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])}
        with tarfile.open(fileobj=buffer, mode="w", errors="surrogateescape", **options) as tar:
            for info, data in self.entries:
                tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    def _entry(self, number: int) -> None:
        directories = ["", *(path + "/" for path, kind in self.known.items() if kind == "d")]
        parent = self.random.choice(directories)
        path = parent + self.random.choice(NAMES)
        if path.count("/") > 3:
            return
        match self.random.choice("fffddlhhpcwwwo"):
            case "w":
                self._whiteout(parent, path)
            case "o":
                self._opaque(parent)
            case "h":
                self._hard_link(path)
            case kind:
                self._plain(path, kind, number)

    def _whiteout(self, parent: str, path: str) -> None:
        name = path.rpartition("/")[2]
        if len(name) < 200:
            self.entries.append((tarfile.TarInfo(f"{parent}.wh.{name}"), b""))
            self._forget(path)

    def _opaque(self, parent: str) -> None:
        self.entries.append((tarfile.TarInfo(f"{parent}.wh..wh..opq"), b""))
        for path in [path for path in self.known if path.startswith(parent) and path != parent]:
            self._forget(path)

    def _forget(self, path: str) -> None:
        for known in [known for known in self.known if f"{known}/".startswith(path + "/")]:
            if known not in self.made and not any(made.startswith(known + "/") for made in self.made):
                del self.known[known]

    def _hard_link(self, path: str) -> None:
        targets = [name for name, kind in self.known.items() if kind != "d" and name != path]
        # Replacing a directory may take the target away.
        targets = [name for name in targets if not name.startswith(path + "/")]
        if not targets or self.known.get(path) == "d":
            return
        info = self._info(path)
        info.type = tarfile.LNKTYPE
        target = self.random.choice(targets)
        info.linkname = self.random.choice(["", "/", "./"]) + target
        self.entries.append((info, b""))
        self._place(path, self.known[target])

    def _plain(self, path: str, kind: str, number: int) -> None:
        info, data = self._info(path), b""
        info.type = TYPES.get(kind, tarfile.REGTYPE)
        if kind == "f":
            data = f"{self.layer}.{number}".encode() * self.random.choice([0, 1, 300])
            info.size = len(data)
        elif kind == "l":
            info.mode = 0o777
            info.linkname = self.random.choice(["a", "../b", "/c/d", "nowhere", "x" * 130])
        elif kind == "c":
            info.type = self.random.choice([tarfile.CHRTYPE, tarfile.BLKTYPE])
            info.devmajor, info.devminor = self.random.choice([(1, 3), (259, 70_000)])
        if kind in "fd" and self.random.random() < 0.2:
            info.pax_headers = {"SCHILY.xattr.user.note": "v" * self.random.choice([1, 300])}
        self.entries.append((info, data))
        self._place(path, kind)

    def _place(self, path: str, kind: str) -> None:
        if kind != "d" or self.known.get(path) != "d":
            for below in [known for known in self.known if known.startswith(path + "/")]:
                del self.known[below]
                self.made.pop(below, None)
        self.known[path] = self.made[path] = kind

    def _info(self, path: str) -> tarfile.TarInfo:
        info = tarfile.TarInfo(self.random.choice(["", "./", "/"]) + path)
        info.mode = self.random.choice([0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o600])
        info.uid, info.gid = self.random.choice([0, 1000, 65_534]), self.random.choice([0, 100])
        # Never 0, which is the time of directories that have no entry.
        info.mtime = self.random.choice([1, 2, 1_700_000_000, 2_200_000_000])
        return info


def random_layers(seed: int) -> list[bytes]:
    """Make an image; the first layer says what the root is."""
    source = random.Random(seed)
    known: dict[str, str] = {}
    layers = []
    for layer in range(source.randrange(1, 5)):
        writer = LayerWriter(source, known, layer)
        if layer == 0:
            root = tarfile.TarInfo("./")
            root.type, root.mode, root.mtime = tarfile.DIRTYPE, 0o755, 1_600_000_000
            writer.entries.append((root, b""))
        layers.append(writer.write(source.randrange(1, 40)))
    return layers
