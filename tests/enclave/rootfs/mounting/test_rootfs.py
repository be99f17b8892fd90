"""What the kernel shows is what the layers hold; what was changed is refused; nothing is left behind."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import struct
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, Backend, BackendSelector
from enclave_cc.enclave.rootfs.sealing.writer import Binding
from enclave_cc.formats.sealed.chunks import STRIDE_BYTES

pytestmark = pytest.mark.root

BINDING = Binding("pod", "container", "sha256:image")


class Alarm:
    def __init__(self):
        self.findings = []
        self.rang = threading.Event()

    def __call__(self, finding):
        self.findings.append(finding)
        self.rang.set()


def layer(*members) -> bytes:
    """Write members, given as (name, attributes) or (name, contents)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, what in members:
            info = tarfile.TarInfo(name)
            data = what if isinstance(what, bytes) else b""
            info.size = len(data)
            for key, value in what.items() if isinstance(what, dict) else ():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def own_mounts(base: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(base) in line]


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        octet = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([octet ^ 1]))


def reading_fails(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno == errno.EIO
    return False


@pytest.mark.parametrize("backend", PREFERENCE)
def test_layers_are_merged_and_whiteouts_hide(tmp_path, seal, in_private_mounts, backend):
    sealed = seal(
        layer(
            ("etc", {"type": tarfile.DIRTYPE, "mode": 0o750}),
            ("etc/a", b"1"),
            ("etc/b", b"2"),
            ("old/x", b"3"),
        ),
        layer(("etc/.wh.a", b""), ("etc/b", b"two"), (".wh.old", b""), ("old/y", b"4")),
    )

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        root = mounted.mountpoint
        found = {
            str(path.relative_to(root)): path.is_file() and path.read_bytes() for path in root.rglob("*")
        }
        assert found == {"etc": False, "etc/b": b"two", "old": False, "old/y": b"4"}
        assert (root / "etc").stat().st_mode & 0o7777 == 0o750
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_writes_stay_in_memory_and_vanish(tmp_path, seal, in_private_mounts, backend):
    sealed = seal(layer(("a", b"sealed"), ("b", b"sealed")))
    before = {path: path.read_bytes() for path in sealed.directory.iterdir()}

    def body():
        mounted = sealed.open(tmp_path / "first", selector=BackendSelector([backend]))
        (mounted.mountpoint / "a").write_bytes(b"changed")
        (mounted.mountpoint / "b").unlink()
        (mounted.mountpoint / "c").write_bytes(b"new")
        mounted.close()
        mounted = sealed.open(tmp_path / "second", selector=BackendSelector([backend]))
        assert {path.name: path.read_bytes() for path in mounted.mountpoint.iterdir()} == {
            "a": b"sealed",
            "b": b"sealed",
        }
        mounted.close()

    in_private_mounts(body)
    assert {path: path.read_bytes() for path in sealed.directory.iterdir()} == before


@pytest.mark.parametrize("backend", PREFERENCE)
def test_closing_leaves_nothing_behind(tmp_path, seal, in_private_mounts, backend):
    sealed = seal(layer(("a", os.urandom(300_000))))

    def body():
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        (mounted.mountpoint / "a").read_bytes()
        # Overlay, scratch and tree, and the file that EROFS is in.
        assert len(own_mounts(tmp_path)) == (3 if backend is Backend.FUSE_TREE else 4)
        mounted.close()
        mounted.close()
        assert not own_mounts(tmp_path)
        assert not list((tmp_path / "m" / "work").iterdir())
        assert threading.active_count() == 1
        assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            assert str(tmp_path) not in backing.read_text()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_closing_while_in_use_fails_closed(tmp_path, seal, in_private_mounts, backend):
    sealed = seal(layer(("a", os.urandom(3 << 20))))

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        fd = os.open(mounted.mountpoint / "a", os.O_RDONLY)
        os.read(fd, 10)
        mounted.close()
        assert not own_mounts(tmp_path)
        with pytest.raises(OSError, match=r"Errno"):
            os.pread(fd, 4096, 2 << 20)
        # Closing may be answered by an error, too: FUSE would have asked us.
        with contextlib.suppress(OSError):
            os.close(fd)
        assert threading.active_count() == 1

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_a_copy_of_the_mounts_in_another_namespace_fails_closed(tmp_path, seal, in_private_mounts, backend):
    sealed = seal(layer(("a", os.urandom(3 << 20)), ("b", os.urandom(3 << 20))))

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        program = 'cat "$0/a" >/dev/null && echo ready && read line && cat "$0/b" >/dev/null; echo $?'
        other = subprocess.Popen(
            ["unshare", "--mount", "/bin/sh", "-c", program, mounted.mountpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert other.stdout.readline() == b"ready\n"
        mounted.close()
        assert threading.active_count() == 1
        assert other.communicate(b"go\n") == (b"1\n", None)

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_many_readers_some_of_them_killed_see_what_was_sealed(tmp_path, seal, in_private_mounts, backend):
    contents = {f"f{number}": os.urandom(700_000) for number in range(20)}
    sealed = seal(layer(*contents.items()))

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        readers = [
            subprocess.Popen(["cat", *mounted.mountpoint.iterdir()], stdout=subprocess.DEVNULL)
            for _ in "1234"
        ]
        for reader in readers[:3]:
            reader.kill()
        for reader in readers:
            reader.wait()
        assert readers[3].returncode == 0
        for name, expected in contents.items():
            assert (mounted.mountpoint / name).read_bytes() == expected
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_a_failure_on_the_way_unmounts_what_was_mounted(tmp_path, seal, in_private_mounts, backend):
    sealed = seal(layer(("a", b"a")))

    def body():
        with pytest.raises(EnclaveCcError) as caught:
            sealed.open(tmp_path / "m", mountpoint=tmp_path / "absent", selector=BackendSelector([backend]))
        assert caught.value.code == "rootfs-mount-failed"
        assert not own_mounts(tmp_path)
        assert not list((tmp_path / "m" / "work").iterdir())
        assert threading.active_count() == 1

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_directories_may_have_odd_names(tmp_path, seal, in_private_mounts, backend):
    sealed = seal(layer(("a", b"a")))

    def body():
        mounted = sealed.open(tmp_path / "a:b,c\\d e=f", selector=BackendSelector([backend]))
        assert (mounted.mountpoint / "a").read_bytes() == b"a"
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_the_root_has_the_attributes_of_the_layers(tmp_path, seal, in_private_mounts, backend):
    sealed = seal(layer((".", {"type": tarfile.DIRTYPE, "mode": 0o711, "uid": 7, "gid": 8, "mtime": 9})))

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        status = mounted.mountpoint.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime) == (0o711, 7, 8, 9)
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_programs_of_the_image_run_for_other_users_while_we_wait(tmp_path, seal, in_private_mounts, backend):
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o111)
    program = Path("/bin/cat").read_bytes()
    text = os.urandom(500_000)
    sealed = seal(layer(("cat", program), ("text", text)))

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        (mounted.mountpoint / "cat").chmod(0o755)
        (mounted.mountpoint / "text").chmod(0o644)
        done = subprocess.run(
            ["/bin/sh", "-c", 'exec "$0/cat" "$0/text"', mounted.mountpoint],
            user=65534,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == text
        mounted.close()

    in_private_mounts(body)


# User 1000 may read and the owning group may not, though the mode, which shows the mask, says that it may.
ACL = b"".join(
    [
        b"\2\0\0\0",
        struct.pack("<HHI", 0x01, 6, 0xFFFFFFFF),
        struct.pack("<HHI", 0x02, 4, 1000),
        struct.pack("<HHI", 0x04, 0, 0xFFFFFFFF),
        struct.pack("<HHI", 0x10, 4, 0xFFFFFFFF),
        struct.pack("<HHI", 0x20, 0, 0xFFFFFFFF),
    ]
)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_permissions_of_the_image_hold_for_its_users(tmp_path, seal, in_private_mounts, backend):
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o111)
    acl = {"SCHILY.xattr.system.posix_acl_access": ACL.decode("utf-8", "surrogateescape")}
    sealed = seal(
        layer(
            ("open", {"mode": 0o644}),
            ("private", {"mode": 0o600}),
            ("group", {"mode": 0o640, "gid": 77}),
            ("listed", {"mode": 0o640, "gid": 77, "pax_headers": acl}),
            ("closed", {"type": tarfile.DIRTYPE, "mode": 0o700}),
            ("closed/open", {"mode": 0o644}),
        )
    )

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))

        def readable(user: int, group: int) -> set[str]:
            names = ["open", "private", "group", "listed", "closed/open"]
            program = 'cd "$0" && for name; do cat "$name" 2>/dev/null && echo "$name"; done'
            command = ["/bin/sh", "-c", program, mounted.mountpoint, *names]
            done = subprocess.run(
                command, user=user, group=group, extra_groups=[], capture_output=True, check=False
            )
            return set(done.stdout.decode().split())

        assert readable(65534, 65534) == {"open"}
        assert readable(65534, 77) == {"open", "group"}
        assert readable(1000, 65534) == {"open", "listed"}
        assert os.getxattr(mounted.mountpoint / "listed", "system.posix_acl_access") == ACL
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_a_tree_without_attributes_can_be_listed_and_given_some(tmp_path, seal, in_private_mounts, backend):
    sealed = seal(layer(("a", b"a")))

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        path = mounted.mountpoint / "a"
        assert os.listxattr(path) == []
        with pytest.raises(OSError, match=r"Errno"):
            os.getxattr(path, "trusted.note")
        os.setxattr(path, "trusted.note", b"value")
        assert os.getxattr(path, "trusted.note") == b"value"
        assert path.read_bytes() == b"a"
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_a_changed_chunk_is_an_error_and_poisons_for_good(tmp_path, seal, in_private_mounts, backend):
    contents = {f"f{number}": os.urandom(200_000) for number in range(30)}
    sealed = seal(layer(*contents.items()))
    # In the middle of the data: the first files read well, then one does not.
    flip(sealed.blobs[1], 40 * STRIDE_BYTES + 99)

    def body():
        alarm = Alarm()
        mounted = sealed.open(tmp_path / "m", on_poison=alarm, selector=BackendSelector([backend]))
        failed = []
        for name, expected in contents.items():
            path = mounted.mountpoint / name
            if reading_fails(path):
                failed.append(name)
            else:
                assert path.read_bytes() == expected
        assert failed
        # What was not in the kernel's cache at the time of the first error stays unreadable.
        assert failed[-1] == "f29"
        assert all(reading_fails(mounted.mountpoint / name) for name in failed)
        assert alarm.rang.wait(5)
        assert len(alarm.findings) == 1
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
@pytest.mark.parametrize("chunk", [0, 1, 5, -1])
def test_a_mapping_of_a_changed_file_never_shows_other_bytes(
    tmp_path, seal, in_private_mounts, backend, chunk
):
    data = b"\xa5" * (10 * 65536)
    sealed = seal(layer(("a", data)))
    flip(sealed.blobs[1], (chunk % 11) * STRIDE_BYTES + 600)
    program = (
        "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n"
        "for start in range(0, len(m), 4096):\n"
        "    if m[start:start+4096] != b'\\xa5' * 4096: print('wrong')\n"
        "print('end')"
    )

    def body():
        mounted = sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
        done = subprocess.run(
            [sys.executable, "-c", program, mounted.mountpoint / "a"], capture_output=True, check=False
        )
        assert done.returncode == -signal.SIGBUS
        assert b"wrong" not in done.stdout
        mounted.close()

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_killing_the_server_leaves_errors_and_no_hang(tmp_path, seal, in_private_mounts, backend):
    sealed = seal(layer(("a", os.urandom(1 << 20)), ("b", os.urandom(4 << 20))))

    def body():
        ready, tell = os.pipe()
        server = os.fork()
        if server == 0:
            sealed.open(tmp_path / "m", selector=BackendSelector([backend]))
            os.write(tell, b"!")
            signal.pause()
        assert os.read(ready, 1) == b"!"
        root = tmp_path / "m" / "root"
        assert len((root / "a").read_bytes()) == 1 << 20
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        with pytest.raises(OSError, match=r"Errno"):
            (root / "b").read_bytes()
        for name in ("root", "work/scratch", "work/lower", "work/image"):
            if name != "work/image" or backend is not Backend.FUSE_TREE:
                subprocess.run(["umount", tmp_path / "m" / name], check=True)
        assert not own_mounts(tmp_path)

    in_private_mounts(body)
