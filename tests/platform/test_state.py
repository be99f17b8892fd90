"""The platform's state directory: created closed, refused when anybody else could have touched it."""

from __future__ import annotations

import os
import stat

import pytest

from enclave_cc.core.errors import RefusedError
from enclave_cc.platform.simulated.state import PlatformState


def opened(root):
    return PlatformState(root, uid=os.geteuid())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def refused(action):
    with pytest.raises(RefusedError) as error:
        action()
    assert error.value.code == "platform-state-refused"


@pytest.fixture
def root(tmp_path):
    opened(tmp_path / "state").secret("fuse.key", lambda: b"k" * 32)
    return tmp_path / "state"


def test_secrets_are_for_the_owner_only(root):
    assert mode(root / "private") == 0o700
    assert mode(root / "private/fuse.key") == 0o600


def test_public_files_can_be_read_by_everybody(root):
    opened(root).publish("root.der", b"1")
    opened(root).publish("root.der", b"2")
    assert (root / "public/root.der").read_bytes() == b"2"
    assert mode(root / "public/root.der") == 0o644
    assert mode(root / "public") == mode(root) == 0o755


def test_a_secret_is_created_once(root):
    assert opened(root).secret("fuse.key", lambda: b"other") == b"k" * 32


def test_a_umask_opens_nothing(tmp_path):
    before = os.umask(0)
    try:
        opened(tmp_path / "state").secret("fuse.key", lambda: b"k")
    finally:
        os.umask(before)
    assert mode(tmp_path / "state/private") == 0o700
    assert mode(tmp_path / "state/private/fuse.key") == 0o600


@pytest.mark.parametrize("bits", [0o604, 0o640, 0o620, 0o602])
def test_a_secret_open_to_others_is_refused(root, bits):
    (root / "private/fuse.key").chmod(bits)
    refused(lambda: opened(root).secret("fuse.key", bytes))


@pytest.mark.parametrize(
    ("name", "bits"), [("private", 0o750), ("private", 0o701), ("", 0o775), ("", 0o757), ("public", 0o777)]
)
def test_a_directory_open_to_others_is_refused(root, name, bits):
    (root / name).chmod(bits)
    refused(lambda: opened(root))


def test_a_linked_secret_is_refused(root, tmp_path):
    (root / "private/fuse.key").rename(tmp_path / "elsewhere")
    (root / "private/fuse.key").symlink_to(tmp_path / "elsewhere")
    refused(lambda: opened(root).secret("fuse.key", bytes))


def test_a_dangling_link_does_not_create_a_file_elsewhere(root, tmp_path):
    (root / "private/new.key").symlink_to(tmp_path / "elsewhere")
    refused(lambda: opened(root).secret("new.key", lambda: b"k"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_linked_directory_is_refused(root, tmp_path):
    (root / "private").rename(tmp_path / "elsewhere")
    (root / "private").symlink_to(tmp_path / "elsewhere")
    refused(lambda: opened(root))


def test_a_pipe_in_place_of_a_secret_is_refused(root):
    (root / "private/fuse.key").unlink()
    os.mkfifo(root / "private/fuse.key", 0o600)
    refused(lambda: opened(root).secret("fuse.key", bytes))


@pytest.mark.parametrize("data", [b"", bytes(65 << 10)])
def test_an_empty_or_endless_secret_is_refused(root, data):
    (root / "private/fuse.key").write_bytes(data)
    refused(lambda: opened(root).secret("fuse.key", bytes))


@pytest.mark.root
@pytest.mark.parametrize("name", ["private/fuse.key", "private", "public", ""])
def test_what_belongs_to_another_user_is_refused(root, name):
    os.chown(root / name, 12345, -1)
    refused(lambda: opened(root).secret("fuse.key", bytes))


@pytest.mark.root
def test_root_prepares_the_state_for_the_daemons_user(tmp_path):
    PlatformState(tmp_path / "state", uid=12345).secret("fuse.key", lambda: b"k")
    for name in ("", "private", "private/fuse.key", "public"):
        assert (tmp_path / "state" / name).stat().st_uid == 12345
