"""
Images of several layers look mounted as umoci unpacks them: an independent reader of whole images.

The deviations are all in ``DEVIATIONS`` and on the page about image formats. One is not a layer of its own:
a directory that this layer only goes through, and a whiteout of it in the same layer. Umoci gives it the
attributes of the hidden one or default ones, by the order of the entries; here they are the default ones.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import time

import pytest
from tests.enclave.rootfs.random_layers import random_layers
from tests.enclave.rootfs.snapshot import snapshot
from tests.enclave.rootfs.umoci import unpack

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, BackendSelector

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed"),
]

TYPES = {"d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "p": tarfile.FIFOTYPE}
MODE, OWNER, MTIME, LINKS, XATTRS = 0, 1, 2, 3, 8
IMPLIED = ("0o40755", (0, 0), 0)


def layer(*entries: str) -> bytes:
    """Write entries like ``f path``, ``d path``, ``l path target`` and ``h path target``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, entry in enumerate(entries):
            kind, name, *target = entry.split()
            info = tarfile.TarInfo(name)
            info.type, info.linkname = TYPES.get(kind, tarfile.REGTYPE), "".join(target)
            info.mode, info.mtime = 0o711, 1000 + number
            data = f"{entry} {number}".encode() if kind == "f" else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def look_through(mountpoint, expected: dict, since_ns: int) -> None:
    """Compare what is mounted with what umoci unpacked a moment ago."""
    actual = snapshot(mountpoint, with_directory_links=False)
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        wanted = list(expected[name])
        is_directory = value[LINKS] is None
        if is_directory and value[:LINKS] == IMPLIED:
            # No entry describes it: the archive says nothing about its attributes.
            wanted[:LINKS], wanted[XATTRS] = IMPLIED, value[XATTRS]
        if is_directory and since_ns <= wanted[MTIME] <= time.time_ns():
            # Umoci removed something inside it.
            wanted[MTIME] = value[MTIME]
        assert (name, *value) == (name, *wanted)


@pytest.mark.parametrize("seed", range(24))
def test_random_images_look_as_umoci_unpacks_them(*, tmp_path, seal, in_private_mounts, seed):
    layers, since_ns = random_layers(seed), time.time_ns()
    unpacked = unpack(tmp_path, layers)
    expected = snapshot(unpacked, with_directory_links=False)
    sealed = seal(*layers)

    def body():
        backend = PREFERENCE[seed % len(PREFERENCE)]
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        look_through(mounted.mountpoint, expected, since_ns)
        mounted.close()

    in_private_mounts(body)


ROOT = "d ./"
SAME = {
    "a hard link to a lower layer": [layer(ROOT, "f a"), layer("h b a")],
    "a hard link to a hard link": [layer(ROOT, "f a", "h b a", "h c b")],
    "a hard link to a symbolic link": [layer(ROOT, "f a", "l s a", "h h s")],
    "a hard link to a dangling link": [layer(ROOT, "l s nowhere", "h h s")],
    "an absolute hard link": [layer(ROOT, "d d", "f d/a", "h b /d/a")],
    "a hard link behind a link": [layer(ROOT, "d d", "f d/a", "l s d", "h b s/a")],
    "a hard link whose target is hidden later": [layer(ROOT, "f a"), layer("h b a", "f .wh.a")],
    "a hard link whose target is replaced later": [layer(ROOT, "f a", "h b a"), layer("f a")],
    "a hard link over a directory": [layer(ROOT, "f a", "d d", "f d/x", "h d a")],
    "a path through a link": [layer(ROOT, "d d", "l s d", "f s/x")],
    "a path through an absolute link": [layer(ROOT, "d d", "l s /d", "f s/x")],
    "a path through a dangling link": [layer(ROOT, "l s d/e", "f s/x")],
    "a path through a link upwards": [layer(ROOT, "l s ../../../d", "f s/x")],
    "a directory over a lower link": [layer(ROOT, "d d", "l s d"), layer("d s", "f s/x")],
    "a whiteout through a link": [layer(ROOT, "d d", "f d/x"), layer("l s d", "f s/.wh.x")],
    "a whiteout of a link": [layer(ROOT, "d d", "f d/x", "l s d"), layer("f .wh.s")],
    "a file twice": [layer(ROOT, "f a", "f a")],
    "directory, file, directory": [layer(ROOT, "d a", "f a/x", "f a", "d a")],
    "a directory over a link": [layer(ROOT, "d d", "f d/x", "l s d", "d s")],
    "a link over a directory": [layer(ROOT, "d d", "f d/x", "l d e")],
    "a FIFO over a file": [layer(ROOT, "f a", "p a")],
    "a directory made after its whiteout": [layer(ROOT, "d d", "f d/x"), layer("f .wh.d", "d d", "f d/y")],
    "a directory made before its whiteout": [layer(ROOT, "d d", "f d/x"), layer("d d", "f d/y", "f .wh.d")],
    "a whiteout that is a directory": [layer(ROOT, "d d", "f d/x"), layer("d .wh.d")],
    "a whiteout that is a link": [layer(ROOT, "d d", "f d/x"), layer("l .wh.d q")],
    "an opaque root": [layer(ROOT, "f a"), layer("f .wh..wh..opq", "f b")],
    "an opaque nothing": [layer(ROOT, "f a"), layer("f q/.wh..wh..opq")],
    "an opaque file": [layer(ROOT, "f a"), layer("f a/.wh..wh..opq")],
    "a whiteout in the lowest layer": [layer(ROOT, "f .wh.a", "f a")],
    "a whiteout twice": [layer(ROOT, "f a"), layer("f .wh.a", "f .wh.a")],
    "whiteouts inside of names": [layer(ROOT, "f d.wh.x", "f a.wh.")],
    "empty layers": [bytes(1024), layer(ROOT, "f a"), b"", bytes(10240)],
    "one layer, another one, and the first again": [
        layer(ROOT, "f a"),
        layer("f .wh.a", "f b"),
        layer(ROOT, "f a"),
    ],
    "directories without entries": [layer("f x/y/z")],
    "a directory that a later layer goes through": [layer(ROOT, "d d", "f d/x"), layer("f d/y")],
}


@pytest.mark.parametrize("name", SAME)
def test_odd_layers_look_as_umoci_unpacks_them(*, tmp_path, seal, in_private_mounts, name):
    since_ns = time.time_ns()
    expected = snapshot(unpack(tmp_path, SAME[name]), with_directory_links=False)
    sealed = seal(*SAME[name])

    def body():
        mounted = sealed.open(tmp_path / "m")
        look_through(mounted.mountpoint, expected, since_ns)
        mounted.close()

    in_private_mounts(body)


REFUSED = {
    "a hard link whose target is hidden before": [layer(ROOT, "f a"), layer("f .wh.a", "h b a")],
    "a hard link to a directory": [layer(ROOT, "d a", "h b a")],
    "a hard link to nothing": [layer(ROOT, "h b a")],
    "a hard link before its target": [layer(ROOT, "h b a", "f a")],
    "a hard link to itself": [layer(ROOT, "f a", "h a a")],
    "a hard link over the directory of its target": [layer(ROOT, "d d", "f d/x", "h d d/x")],
    "links in a circle": [layer(ROOT, "l s t", "l t s", "f s/x")],
    "a path through a file": [layer(ROOT, "f a", "f a/x")],
    "a whiteout without a name": [layer(ROOT, "f .wh.")],
    "a root that is a file": [layer("f ./")],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_umoci_cannot_unpack_is_refused(tmp_path, seal, name):
    assert isinstance(unpack(tmp_path, REFUSED[name]), str)
    with pytest.raises(EnclaveCcError):
        seal(*REFUSED[name])


# What is found here, or the code of the refusal; umoci finds something else.
DEVIATIONS = {
    "a path through a lower link": ([layer(ROOT, "d d", "l s d"), layer("f s/x")], ["d", "s", "s/x"]),
    "a whiteout through a lower link": (
        [layer(ROOT, "d d", "f d/x", "l s d"), layer("f s/.wh.x")],
        ["d", "d/x", "s"],
    ),
    "a hard link through a lower link": (
        [layer(ROOT, "d d", "f d/a", "l s d"), layer("h b s/a")],
        "tar-invalid",
    ),
    "a path through a lower file": ([layer(ROOT, "f a"), layer("f a/x")], ["a", "a/x"]),
    "a hard link upwards": ([layer(ROOT, "f a", "h b ../../a")], "tar-path-escapes"),
    "a path upwards": ([layer(ROOT, "f ../b")], "tar-path-escapes"),
    "a path up and down": ([layer(ROOT, "f a/../b")], "tar-path-escapes"),
    "bookkeeping of old layers": ([layer(ROOT, "d .wh..wh.plnk", "f .wh..wh.plnk/1.2", "f a")], ["a"]),
    "a whiteout with children": ([layer(ROOT, "f .wh.a/b")], "tar-invalid"),
}


@pytest.mark.parametrize("name", DEVIATIONS)
def test_deviations_are_the_documented_ones(*, tmp_path, seal, in_private_mounts, name):
    layers, outcome = DEVIATIONS[name]
    unpacked = unpack(tmp_path, layers)
    theirs = None
    if not isinstance(unpacked, str):
        theirs = sorted(str(path.relative_to(unpacked)) for path in unpacked.rglob("*"))
    assert theirs != outcome
    if isinstance(outcome, str):
        with pytest.raises(EnclaveCcError) as refusal:
            seal(*layers)
        assert refusal.value.code == outcome
        return
    sealed = seal(*layers)

    def body():
        mounted = sealed.open(tmp_path / "m")
        root = mounted.mountpoint
        assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == outcome
        mounted.close()

    in_private_mounts(body)
