"""The image's user, resolved in the image's own files and nowhere else."""

from __future__ import annotations

import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.enclave.boot.users import MAX_FILE_BYTES, resolve_user
from enclave_cc.enclave.resolved_user import ResolvedUser

PASSWD = "root:x:0:0:root:/root:/bin/sh\n# comment\napp:x:100:101::/:\nbroken:x:y\nhuge:x:99999999999:1::/:\n"
GROUP = "root:x:0:\nweb:x:101:\nlogs:x:200:other,app\nmore:x:201:app\nshort\n"


@pytest.fixture
def rootfs(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", ResolvedUser(0, 0)),
        ("root", ResolvedUser(0, 0)),
        ("app", ResolvedUser(100, 101, (200, 201))),
        ("100", ResolvedUser(100, 101, (200, 201))),
        ("app:logs", ResolvedUser(100, 200)),
        ("app:7", ResolvedUser(100, 7)),
        ("5", ResolvedUser(5, 0)),
        ("5:6", ResolvedUser(5, 6)),
        ("5:web", ResolvedUser(5, 101)),
        (":web", ResolvedUser(0, 101)),
    ],
)
def test_users_are_resolved_as_container_engines_do(rootfs, user, expected):
    assert resolve_user(rootfs, user) == expected


@pytest.mark.parametrize(
    "user", ["nobody", "app:nogroup", "huge", "-1", "1.5", "4294967295", "99999999999", "app:-1", "٣"]
)
def test_users_that_the_image_does_not_know_are_refused(rootfs, user):
    with pytest.raises(InvalidInputError) as caught:
        resolve_user(rootfs, user)
    assert caught.value.code == "image-user-unknown"
    assert user not in str(caught.value)


def test_an_image_without_user_files_has_numbers_only(tmp_path):
    assert resolve_user(tmp_path, "5:6") == ResolvedUser(5, 6)
    assert resolve_user(tmp_path, "") == ResolvedUser(0, 0)
    with pytest.raises(InvalidInputError):
        resolve_user(tmp_path, "app")


@pytest.mark.parametrize("name", ["etc", "etc/passwd"])
def test_symbolic_links_are_not_followed(rootfs, tmp_path, name):
    real = tmp_path / "elsewhere"
    (rootfs / name).rename(real)
    (rootfs / name).symlink_to(real)
    with pytest.raises(InvalidInputError):
        resolve_user(rootfs, "app")


def test_a_fifo_does_not_block(rootfs):
    (rootfs / "etc/passwd").unlink()
    os.mkfifo(rootfs / "etc/passwd")
    with pytest.raises(InvalidInputError):
        resolve_user(rootfs, "app")


def test_what_is_no_plain_file_is_not_even_opened(rootfs):
    # A device of the host's may act when it is opened; a pipe's writer notices, so it stands for one.
    (rootfs / "etc/passwd").unlink()
    os.mkfifo(rootfs / "etc/passwd")
    writer = threading.Thread(
        target=lambda: os.close(os.open(rootfs / "etc/passwd", os.O_WRONLY)), daemon=True
    )
    writer.start()
    time.sleep(0.1)
    with pytest.raises(InvalidInputError):
        resolve_user(rootfs, "app")
    writer.join(0.2)
    noticed = not writer.is_alive()
    os.close(os.open(rootfs / "etc/passwd", os.O_RDONLY | os.O_NONBLOCK))
    writer.join()
    assert not noticed


def test_an_endless_file_is_refused(rootfs):
    with (rootfs / "etc/passwd").open("ab") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(InvalidInputError):
        resolve_user(rootfs, "nobody")


@given(st.binary(max_size=200), st.text(max_size=20))
def test_no_bytes_raise_anything_but_the_declared_error(tmp_path_factory, data, user):
    root = tmp_path_factory.mktemp("root")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_bytes(data)
    (root / "etc/group").write_bytes(data)
    try:
        resolve_user(root, user)
    except InvalidInputError as error:
        assert error.code == "image-user-unknown"  # noqa: PT017
