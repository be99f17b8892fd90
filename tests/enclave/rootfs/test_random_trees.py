"""Random trees come back from the kernel as they were written, whichever way they are mounted."""

from __future__ import annotations

import stat
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.enclave.rootfs.random_trees import ACL, SPECIAL, expected, sealed_device, seen, trees

from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE
from enclave_cc.formats.sealed.node import Child, Node, directory_children

pytestmark = pytest.mark.root


def look(root: Node, backend, base) -> dict[bytes, tuple]:
    """Mount a tree, and return all that is seen of it."""
    target = base / "tree"
    target.mkdir(exist_ok=True)
    with ExitStack() as cleanup:
        backend.mount(sealed_device(root), target, base / "image", cleanup)
        return seen(target)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_random_trees_come_back_from_the_kernel(tmp_path, in_private_mounts, backend):
    # No shrinking: it would outlast the child.
    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(trees())
    def compare(root):
        wanted = expected(root)
        found = look(root, backend, tmp_path)
        assert found.keys() == wanted.keys()
        for path, value in found.items():
            assert (path, value) == (path, wanted[path])

    in_private_mounts(compare)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_special_files_of_every_type_come_back(tmp_path, in_private_mounts, backend):
    root = Node(stat.S_IFDIR | 0o755)
    for number, kind in enumerate(SPECIAL):
        node = Node(kind | 0o640)
        node.device = (259, 70_000) if number < 2 else (0, 0)
        directory_children(root)[b"special %d" % number] = Child(node, 0)

    def body():
        assert look(root, backend, tmp_path) == expected(root)

    in_private_mounts(body)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_access_control_lists_come_back(tmp_path, in_private_mounts, backend):
    root = Node(stat.S_IFDIR | 0o755)
    root.xattrs = {b"system.posix_acl_default": ACL, b"system.posix_acl_access": ACL}

    def body():
        assert look(root, backend, tmp_path) == expected(root)

    in_private_mounts(body)
