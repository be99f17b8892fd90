"""Layers merge as the image specification says, in any order of entries, and nothing leaves the root."""

from __future__ import annotations

import stat
import tracemalloc
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats.sealed.erofs import write_metadata
from enclave_cc.formats.sealed.node import directory_children
from enclave_cc.formats.sealed.tree import LayerError, PathEscapesError, Tree, TreeTooLargeError
from enclave_cc.formats.sealed.tree_budget import TreeBudget
from enclave_cc.formats.tar.chunked import ChunkedFile
from enclave_cc.formats.tar.entry import EntryKind, TarEntry
from enclave_cc.formats.tar.sparse_map import Segment


def file(path, **attributes):
    return TarEntry(path.encode(), EntryKind.FILE, 512, **{"mode": 0o644, **attributes})


def directory(path, **attributes):
    return TarEntry(path.encode(), EntryKind.DIRECTORY, 512, **{"mode": 0o700, **attributes})


def symlink(path, target):
    return TarEntry(path.encode(), EntryKind.SYMBOLIC_LINK, 512, target=target.encode())


def hardlink(path, target):
    return TarEntry(path.encode(), EntryKind.HARD_LINK, 512, target=target.encode())


def orders(entries):
    return list(permutations(entries))


def merge(*layers, max_depth=2048, **limits) -> Tree:
    tree = Tree(TreeBudget(**limits), max_depth=max_depth)
    for number, layer in enumerate(layers):
        tree.begin_layer(number << 20)
        for entry in layer:
            tree.add(entry)
    return tree


def listing(tree: Tree) -> dict[str, str]:
    """Say of each path: the permissions of a directory, the layer of a file, the target of a link."""
    found = {}
    pending = [("", tree.root)]
    while pending:
        prefix, node = pending.pop()
        for name, child in directory_children(node).items():
            path = prefix + name.decode()
            if child.node.children is not None:
                found[path] = f"{stat.S_IMODE(child.node.mode):o}"
                pending.append((path + "/", child.node))
            elif child.node.target:
                found[path] = child.node.target.decode()
            else:
                found[path] = f"layer {child.node.address >> 20}"
    return found


def test_later_layers_add_and_replace():
    tree = merge([directory("a"), file("a/x"), file("a/y")], [file("a/y"), file("a/z")])
    assert listing(tree) == {"a": "700", "a/x": "layer 0", "a/y": "layer 1", "a/z": "layer 1"}


def test_a_directory_entry_changes_attributes_and_keeps_the_contents():
    tree = merge([directory("a"), file("a/x")], [directory("a", mode=0o711)])
    assert listing(tree) == {"a": "711", "a/x": "layer 0"}


def test_files_and_directories_replace_each_other():
    assert listing(merge([directory("a"), file("a/x")], [file("a")])) == {"a": "layer 1"}
    assert listing(merge([file("a")], [file("a/x")])) == {"a": "755", "a/x": "layer 1"}


def test_the_root_has_the_attributes_of_its_entry():
    tree = merge([directory("./", mode=0o711, uid=3)])
    assert (stat.S_IMODE(tree.root.mode), tree.root.uid) == (0o711, 3)


def test_paths_may_be_written_in_odd_ways():
    assert listing(merge([file("/a"), file("./b"), file("c//./d")])) == {
        "a": "layer 0",
        "b": "layer 0",
        "c": "755",
        "c/d": "layer 0",
    }


def test_a_whiteout_hides_a_lower_file():
    assert listing(merge([file("a"), file("b")], [file(".wh.a")])) == {"b": "layer 0"}


def test_a_whiteout_hides_a_lower_directory():
    assert listing(merge([file("a/b/c")], [file("a/.wh.b")])) == {"a": "755"}


def test_a_whiteout_of_nothing_hides_nothing():
    assert listing(merge([file("a")], [file(".wh.b")])) == {"a": "layer 0"}


def test_a_whiteout_never_hides_its_own_layer():
    assert listing(merge([file("a")], [file("a"), file(".wh.a")])) == {"a": "layer 1"}
    assert listing(merge([file("a")], [file(".wh.a"), file("a")])) == {"a": "layer 1"}


LOWER = [directory("d"), file("d/low"), directory("d/sub"), file("d/sub/low")]


@pytest.mark.parametrize(
    "entries", orders([file(".wh.d"), directory("d", mode=0o711), file("d/sub/new")]), ids=str
)
def test_a_replaced_directory_is_the_same_in_any_order(entries):
    assert listing(merge(LOWER, entries)) == {"d": "711", "d/sub": "755", "d/sub/new": "layer 1"}


@pytest.mark.parametrize("entries", orders([file(".wh.d"), file("d/new")]), ids=str)
def test_a_replaced_directory_that_a_path_implies_forgets_the_lower_attributes(entries):
    assert listing(merge(LOWER, entries)) == {"d": "755", "d/new": "layer 1"}


@pytest.mark.parametrize(
    "entries", orders([file("d/.wh..wh..opq"), file("d/new"), file("d/sub/new")]), ids=str
)
def test_an_opaque_directory_is_the_same_in_any_order(entries):
    assert listing(merge(LOWER, entries)) == {
        "d": "700",
        "d/new": "layer 1",
        "d/sub": "755",
        "d/sub/new": "layer 1",
    }


def test_a_hard_link_to_a_lower_file_survives_the_whiteout_of_its_target():
    tree = merge([file("a")], [hardlink("b", "a"), file(".wh.a")])
    assert listing(tree) == {"b": "layer 0"}


def test_a_hard_link_belongs_to_the_layer_that_made_it():
    tree = merge([file("d/a")], [hardlink("d/b", "d/a"), file("d/.wh..wh..opq")])
    assert listing(tree) == {"d": "755", "d/b": "layer 0"}


def test_hard_links_share_a_node():
    children = directory_children(merge([file("a")], [hardlink("b", "a")]).root)
    assert children[b"a"].node is children[b"b"].node


def test_other_bookkeeping_of_old_layers_is_ignored():
    assert listing(merge([file(".wh..wh.aufs"), file(".wh..wh.plnk/1.2"), file("a")])) == {"a": "layer 0"}


def test_a_link_of_the_same_layer_is_followed():
    tree = merge([directory("usr/lib"), symlink("lib", "usr/lib"), file("lib/x")])
    assert listing(tree) == {"usr": "755", "usr/lib": "700", "usr/lib/x": "layer 0", "lib": "usr/lib"}


def test_a_link_of_a_lower_layer_is_replaced():
    tree = merge([symlink("lib", "usr/lib")], [file("lib/x")])
    assert listing(tree) == {"lib": "755", "lib/x": "layer 1"}


def test_links_cannot_leave_the_root():
    tree = merge([symlink("a", "../../etc"), file("a/x"), symlink("b", "/../x/.."), file("b/y")])
    assert listing(tree) == {
        "a": "../../etc",
        "etc": "755",
        "etc/x": "layer 0",
        "b": "/../x/..",
        "y": "layer 0",
    }


def test_a_replaced_link_is_not_followed_any_more():
    tree = merge([symlink("a", "b"), file("a/x"), directory("a"), file("a/y")])
    assert listing(tree) == {"b": "755", "b/x": "layer 0", "a": "700", "a/y": "layer 0"}


def test_a_path_through_a_file_is_refused_where_unpacking_would_fail():
    assert listing(merge([file("a")], [file("a/x")])) == {"a": "755", "a/x": "layer 1"}
    with pytest.raises(LayerError, match="through a file"):
        merge([file("a"), file("a/x")])


def test_a_link_has_the_permissions_that_linux_gives_it():
    children = directory_children(merge([symlink("a", "b")]).root)
    assert stat.S_IMODE(children[b"a"].node.mode) == 0o777


def test_a_whiteout_makes_no_directory_and_keeps_none():
    assert listing(merge([file("a")], [file("b/.wh.c"), file("b/.wh..wh..opq")])) == {"a": "layer 0"}
    for entries in orders([file(".wh.d"), file("d/.wh.sub")]):
        assert listing(merge(LOWER, entries)) == {}


def test_a_whiteout_behind_a_link_of_its_layer_hides_what_the_link_leads_to():
    assert listing(merge([directory("d"), file("d/x")], [symlink("s", "d"), file("s/.wh.x")])) == {
        "d": "700",
        "s": "d",
    }
    assert listing(merge([directory("d"), file("d/x"), symlink("s", "d")], [file("s/.wh.x")])) == {
        "d": "700",
        "d/x": "layer 0",
        "s": "d",
    }


REFUSED = {
    "a path upwards": (file("a/../b"), PathEscapesError),
    "a hard link upwards": (hardlink("a", "../b"), PathEscapesError),
    "a dangling hard link": (hardlink("a", "b"), LayerError),
    "a hard link to the root": (hardlink("a", "/"), LayerError),
    "a hard link to itself": (hardlink("a", "a"), LayerError),
    "a long name": (file("a" * 256), LayerError),
    "a long name behind a link": (symlink("a", "b" * 256), None),
    "a whiteout of nothing": (file(".wh."), LayerError),
    "a whiteout of itself": (file(".wh.."), LayerError),
    "a whiteout of the parent": (file(".wh..."), LayerError),
    "a whiteout with children": (file(".wh.a/b"), LayerError),
    "a root that is a file": (file("/"), LayerError),
    "a root with a long name": (file("/" * 300), LayerError),
    "a long target": (symlink("a", "b" * 4096), LayerError),
    "an attribute of overlay": (file("a", xattrs={b"trusted.overlay.redirect": b"/x"}), LayerError),
    "many attributes": (file("a", xattrs={b"user.%d" % n: bytes(60000) for n in range(3)}), LayerError),
}


@pytest.mark.parametrize(("entry", "error"), REFUSED.values(), ids=REFUSED)
def test_a_layer_is_refused(entry, error):
    if error is None:
        tree = merge([entry])
        with pytest.raises(LayerError):
            tree.add(file("a/x"))
        return
    with pytest.raises(error):
        merge([entry])


def test_a_hard_link_to_a_directory_is_refused():
    with pytest.raises(LayerError):
        merge([directory("a"), hardlink("b", "a")])


def test_a_hard_link_cannot_replace_what_leads_to_its_target():
    for replaced in (hardlink("a", "a"), hardlink("d", "d/x")):
        with pytest.raises(LayerError, match="points to nothing"):
            merge([file("a"), file("d/x"), replaced])


def test_links_in_a_circle_are_refused():
    with pytest.raises(LayerError, match="too many symbolic links"):
        merge([symlink("a", "b"), symlink("b", "a"), file("a/x")])


def test_links_cannot_make_paths_grow_without_bound():
    links = [symlink(f"l{n}", "/".join(["d"] * 2000) + f"/../l{n + 1}") for n in range(3)]
    with pytest.raises(LayerError, match="too deep"):
        merge([*links, symlink("x", "/".join(["d"] * 2000)), file("x/" + "/".join(["e"] * 100) + "/f")])


def test_the_number_of_files_is_bounded():
    merge([file("a/b")], max_nodes=2)
    with pytest.raises(TreeTooLargeError):
        merge([file("a/b/c")], max_nodes=2)


def test_names_and_attributes_are_bounded():
    merge([file("abcd")], max_text_bytes=4)
    with pytest.raises(TreeTooLargeError):
        merge([file("abcde")], max_text_bytes=4)
    with pytest.raises(TreeTooLargeError):
        merge([symlink("a", "bcde")], max_text_bytes=4)
    with pytest.raises(TreeTooLargeError):
        merge([file("a", xattrs={b"user.a": b"b"})], max_text_bytes=10)


def test_what_sparse_files_cost_is_bounded_over_all_layers():
    def sparse(path):
        return file(path, size=4096, chunks=ChunkedFile(4096, (Segment(100, 1),), max_bytes=1 << 20))

    cost = sparse("a").chunks.cost_bytes
    merge([sparse("a")], [sparse("b")], max_sparse_bytes=2 * cost)
    with pytest.raises(TreeTooLargeError):
        merge([sparse("a")], [sparse("b")], max_sparse_bytes=2 * cost - 1)


def test_many_opaque_whiteouts_of_one_directory_take_no_longer_than_one():
    # Looking through the directory for each of them would take hours.
    count = 30_000
    tree = merge([file("d/low")], [file(f"d/{number}") for number in range(count)])
    for _ in range(count):
        tree.add(file("d/.wh..wh..opq"))
    assert len(listing(tree)) == count + 1


def test_the_depth_of_paths_is_bounded():
    merge([file("a/b/c")], max_depth=2)
    with pytest.raises(LayerError, match="too deep"):
        merge([file("a/b/c/d")], max_depth=2)


paths = st.lists(
    st.sampled_from(["a", "b", "..", ".wh.a", ".wh..wh..opq", ".", "c"]), min_size=1, max_size=4
).map("/".join)
entries = st.one_of(
    st.builds(file, paths),
    st.builds(directory, paths),
    st.builds(symlink, paths, paths),
    st.builds(hardlink, paths, paths),
)


@given(st.lists(st.lists(entries, max_size=8), max_size=3))
def test_any_entries_merge_or_are_refused(layers):
    tree = Tree()
    for layer in layers:
        tree.begin_layer(0)
        for entry in layer:
            try:
                tree.add(entry)
            except LayerError:
                continue
    listing(tree)


upper = st.lists(
    st.sampled_from(
        [file(".wh.d"), file("d/.wh.sub"), file("d/sub/new"), file("d/new"), directory("d", mode=0o711)]
    ),
    unique_by=lambda entry: entry.path,
    max_size=5,
)


@given(upper, st.randoms())
def test_the_order_of_entries_and_whiteouts_does_not_matter(entries, random):
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert listing(merge(LOWER, entries)) == listing(merge(LOWER, shuffled))


def test_paths_through_links_cost_time_and_all_of_an_image_have_a_bound():
    links = [directory("a"), symlink("l0", "a"), *(symlink(f"l{n}", f"a/../l{n - 1}") for n in range(1, 9))]
    entries = [*links, *(file(f"{at}/{n}") for n in range(10) for at in ("a", "l8"))]
    merge(entries, max_link_steps=10 * 25)
    with pytest.raises(TreeTooLargeError, match="symbolic links together"):
        merge(entries, max_link_steps=10 * 25 - 1)


def test_a_link_to_the_root_counts_as_a_step_too():
    entries = [
        directory("a"),
        symlink("l", "/"),
        *(file(f"{at}/{n}") for n in range(10) for at in ("a", "l")),
    ]
    with pytest.raises(TreeTooLargeError):
        merge(entries, max_link_steps=9)


def test_a_file_costs_little_memory():
    tree, count = Tree(), 20_000
    entries = iter(
        TarEntry(b"d%d/file%05d" % (number // 100, number), EntryKind.FILE, 512 * number, 5000, 0o644)
        for number in range(count)
    )
    tracemalloc.start()
    try:
        tree.begin_layer(0)
        for entry in entries:
            tree.add(entry)
        write_metadata(tree.root, data_bytes=1 << 30, align_bytes=65536)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes / count < 600
