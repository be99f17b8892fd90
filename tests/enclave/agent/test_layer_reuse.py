"""The same layer in two containers of a pod: opened once, authorised twice, and never for whom it is not."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest
from tests.enclave.agent.test_layers import World, padded, tar
from tests.enclave.rootfs.random_layers import random_layers
from tests.image.layers.test_layers import KID, Crypt

from enclave_cc.core.errors import RefusedError, UnavailableError
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.agent.course import Cancellation
from enclave_cc.enclave.rootfs.sealing.layer_store import LayerStore
from enclave_cc.enclave.rootfs.sealing.merge import TreeMerger
from enclave_cc.formats.ocicrypt.annotation_packet import AnnotationPacket
from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
from enclave_cc.formats.owner.limits import Limits
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.transport.patience.deadline import Patience


def worlds(tmp_path, *images):
    """One world for each image, given by its tars; each has a directory and a key of its own."""
    made = []
    for number, tars in enumerate(images):
        (tmp_path / str(number)).mkdir()
        made.append(World(tmp_path / str(number), tars))
    return made


def in_thread(failures, function, *arguments, **options):
    def run():
        try:
            function(*arguments, **options)
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            failures.append(error)

    thread = threading.Thread(target=run, name="preparation", daemon=True)
    thread.start()
    return thread


def test_the_second_container_fetches_nothing_and_sees_the_same(tmp_path):
    tars, store = [tar(number) for number in range(3)], LayerStore()
    first, second = worlds(tmp_path, tars, tars)
    first.seal(store=store)
    seen = second.seal(store=store)
    assert second.opened_digests == []
    assert (seen.reused_layers, seen.finished_layers, seen.total_bytes) == (3, 3, 0)
    # The tree, too.
    assert second.opened(first=0) == first.opened(first=0)
    assert first.fdk != second.fdk
    names = [{path.name for path in world.directory.glob("*.blob")} for world in (first, second)]
    assert not names[0] & names[1]


def test_random_images_have_the_same_tree_when_they_are_reused(tmp_path):
    for seed in range(20):
        (tmp_path / str(seed)).mkdir()
        tars, store = random_layers(seed), LayerStore()
        first, second = worlds(tmp_path / str(seed), tars, tars)
        first.seal(store=store)
        second.seal(store=store)
        assert second.opened_digests == []
        assert second.opened(first=0) == first.opened(first=0)


def test_layers_that_only_one_image_has_are_fetched_for_it(tmp_path):
    common, own, store = tar(1), tar(2), LayerStore()
    first, second = worlds(tmp_path, [common], [own, common])
    first.seal(store=store)
    second.seal(store=store)
    assert second.opened() == [padded(own), padded(common)]
    assert second.opened_digests == [second.layers[0].descriptor.digest]


def test_the_second_container_lives_on_when_the_first_is_gone(tmp_path):
    tars, store = [tar(1)], LayerStore()
    first, second, third = worlds(tmp_path, tars, tars, tars)
    first.seal(store=store)
    second.seal(store=store)
    store.release(first.directory)
    for path in first.directory.iterdir():
        path.unlink()
    third.seal(store=store)
    assert third.opened_digests == []
    assert third.opened() == second.opened() == [padded(tars[0])]
    store.release(second.directory)
    store.release(third.directory)
    assert not store.records


@pytest.mark.parametrize("what", ["diff_id", "size", "media_type"])
def test_a_layer_that_would_be_refused_is_not_taken_from_a_neighbour(tmp_path, what):
    store, data = LayerStore(), tar(1)
    first, second = worlds(tmp_path, [data], [data])
    first.seal(store=store)
    (layer,) = second.layers
    match what:
        case "diff_id":
            layer = dataclasses.replace(layer, diff_id=second.layers[0].descriptor.digest)
        case "size":
            descriptor = dataclasses.replace(layer.descriptor, size=layer.descriptor.size - 1)
            layer = dataclasses.replace(layer, descriptor=descriptor)
        case "media_type":
            media_type = dataclasses.replace(layer.media_type, compression="none")
            layer = dataclasses.replace(layer, media_type=media_type)
    second.layers = [layer]
    with pytest.raises(RefusedError):
        second.seal(store=store)
    assert second.opened_digests


class Asked(KeyRing):
    """A key ring that counts."""

    asked = 0

    def unwrap(self, descriptor, checks):
        self.asked += 1
        return super().unwrap(descriptor, checks)


def encrypted(directory, crypt):
    directory.mkdir()
    world = World(directory, [])
    world.layers = [crypt.layer()]
    world.blobs[world.layers[0].descriptor.digest] = crypt.blob
    return world


def test_the_key_of_a_reused_layer_is_asked_for_again(tmp_path):
    crypt, store = Crypt(tar(1)), LayerStore()
    for number in range(3):
        world, keys = encrypted(tmp_path / str(number), crypt), Asked(crypt.resources)
        world.seal(store=store, keys=keys)
        assert keys.asked == 1
        assert bool(world.opened_digests) == (number == 0)


def test_a_key_that_is_refused_refuses_a_layer_that_a_neighbour_has(tmp_path):
    crypt, store = Crypt(tar(1)), LayerStore()
    encrypted(tmp_path / "first", crypt).seal(store=store, keys=KeyRing(crypt.resources))
    crypt.resources.resources.pop(KID)
    second = encrypted(tmp_path / "second", crypt)
    with pytest.raises(UnavailableError):
        second.seal(store=store, keys=KeyRing(crypt.resources))
    assert second.opened_digests == []
    assert second.nothing_left()


@pytest.mark.parametrize("bent", ["key", "nonce", "digest", "hmac"])
def test_another_key_for_the_same_bytes_is_refused_though_a_neighbour_opened_them(tmp_path, bent):
    crypt, store = Crypt(tar(1)), LayerStore()
    encrypted(tmp_path / "first", crypt).seal(store=store, keys=KeyRing(crypt.resources))
    options = crypt.options
    match bent:
        case "key":
            options = PrivateOptions(Secret.random(), options.nonce, options.digest)
        case "nonce":
            options = PrivateOptions(options.symkey, bytes(16), options.digest)
        case "digest":
            options = PrivateOptions(options.symkey, options.nonce, crypt.diff_id)
        case "hmac":
            crypt.public = dataclasses.replace(crypt.public, hmac=bytes(32))
    crypt.packets = (AnnotationPacket.wrap(options, kek=crypt.kek, kid=KID),)
    second = encrypted(tmp_path / "second", crypt)
    with pytest.raises(RefusedError):
        second.seal(store=store, keys=KeyRing(crypt.resources))
    assert second.nothing_left()


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (Limits(entries=2), "image.limit.entries"),
        (Limits(path_bytes=4), "image.limit.path-bytes"),
        (Limits(uncompressed_image_bytes=700_000), "image.limit.uncompressed-image-bytes"),
    ],
)
def test_reused_layers_count_against_the_limits_of_an_image(tmp_path, limits, rule):
    tars, store = [tar(number) for number in range(3)], LayerStore()
    first, second = worlds(tmp_path, tars, tars)
    first.seal(store=store)
    with pytest.raises(RefusedError) as caught:
        second.seal(store=store, limits=limits)
    assert [finding.rule for finding in caught.value.findings] == [rule]
    assert second.nothing_left()
    assert first.opened() == [padded(data) for data in tars]


@pytest.mark.parametrize("spool_bytes", [10, 350_000, 10_000_000])
@pytest.mark.parametrize("turned", [False, True], ids=["same order", "opposite order"])
def test_containers_prepared_at_the_same_time_share_the_work(tmp_path, spool_bytes, turned):
    tars, store = [tar(number) for number in range(5)], LayerStore()
    made = worlds(tmp_path, tars, list(reversed(tars)) if turned else tars, tars)
    failures = []
    threads = [
        in_thread(failures, world.seal, store=store, limits=Limits(spool_bytes=spool_bytes)) for world in made
    ]
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    for number, world in enumerate(made):
        wanted = reversed(tars) if turned and number == 1 else tars
        assert world.opened() == [padded(data) for data in wanted]
    assert len(made[0].opened_digests) <= len(tars)


def test_who_begins_later_waits_instead_of_opening_the_same(tmp_path):
    tars, store, failures, go_on = [tar(1), tar(2)], LayerStore(), [], threading.Event()
    first, second = worlds(tmp_path, tars, tars)
    both = threading.Barrier(3)

    def open_slowly(reference, descriptor):
        both.wait(10)
        assert go_on.wait(10)
        yield from World.open(first, reference, descriptor)

    first.open = open_slowly
    threads = [in_thread(failures, first.seal, store=store)]
    both.wait(10)
    threads.append(in_thread(failures, second.seal, store=store))
    time.sleep(0.1)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert second.opened_digests == []
    assert second.opened(first=0) == first.opened(first=0)


def test_many_small_files_in_opposite_orders_do_not_end_in_a_circle(tmp_path, monkeypatch):
    # So few may be held back that a layer out of turn waits at once.
    monkeypatch.setattr(TreeMerger.__init__, "__kwdefaults__", {"held_entries": 1})
    tars = []
    for number in range(4):
        builder = LayerBuilder()
        for file in range(300):
            builder.file(f"{number}-{file}", b"x")
        tars.append(builder.tar())
    for round_ in range(5):
        (tmp_path / str(round_)).mkdir()
        store, failures = LayerStore(), []
        made = worlds(tmp_path / str(round_), tars, list(reversed(tars)))
        threads = [in_thread(failures, world.seal, store=store) for world in made]
        for thread in threads:
            thread.join(30)
        assert not failures
        assert not any(thread.is_alive() for thread in threads)


def test_who_waits_goes_on_when_the_one_it_waits_for_is_given_up(tmp_path):
    tars, store, cancellation, failures = [tar(1), tar(2)], LayerStore(), Cancellation(), []
    first, second = worlds(tmp_path, tars, tars)
    first.hang(0)
    one = in_thread(failures, first.seal, store=store, patience=Patience(cancelled=cancellation))
    assert first.reached.wait(10)
    two = in_thread(failures, second.seal, store=store)
    time.sleep(0.2)
    assert second.layers[0].descriptor.digest not in second.opened_digests
    cancellation.cancel()
    one.join(10)
    two.join(10)
    assert [type(error) for error in failures] == [UnavailableError]
    assert second.opened() == [padded(data) for data in tars]
    assert not first.directory.exists()


def test_who_waits_can_be_given_up(tmp_path):
    tars, store, cancellation, failures = [tar(1)], LayerStore(), Cancellation(), []
    first, second = worlds(tmp_path, tars, tars)
    first.hang(0)
    one = in_thread([], first.seal, store=store)
    assert first.reached.wait(10)
    two = in_thread(failures, second.seal, store=store, patience=Patience(cancelled=cancellation))
    time.sleep(0.1)
    cancellation.cancel()
    two.join(10)
    assert [error.code for error in failures] == ["cancelled"]
    first.interrupted.set()
    one.join(10)
    assert second.nothing_left()


def test_a_stored_layer_that_the_host_changed_is_refused_and_opened_afresh_next_time(tmp_path):
    tars, store = [tar(1)], LayerStore()
    first, second, third = worlds(tmp_path, tars, tars, tars)
    first.seal(store=store)
    largest = max(first.directory.glob("*.blob"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[100] ^= 1
    largest.write_bytes(data)
    with pytest.raises(RefusedError) as caught:
        second.seal(store=store)
    assert caught.value.code == "sealed-chunk-refused"
    (finding,) = caught.value.findings
    assert finding.rule == "rootfs.chunk"
    assert "chunk 0" in finding.actual
    assert second.nothing_left()
    third.seal(store=store)
    assert third.opened() == [padded(tars[0])]


@pytest.mark.parametrize("act", ["remove", "cut", "directory", "link"])
def test_a_stored_layer_that_is_not_there_any_more_is_opened_afresh(tmp_path, act):
    tars, store = [tar(1)], LayerStore()
    first, second = worlds(tmp_path, tars, tars)
    first.seal(store=store)
    largest = max(first.directory.glob("*.blob"), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.unlink()
    match act:
        case "cut":
            largest.write_bytes(content[:-1])
        case "directory":
            largest.mkdir()
        case "link":
            (tmp_path / "elsewhere").write_bytes(content)
            largest.symlink_to(tmp_path / "elsewhere")
    second.seal(store=store)
    assert second.opened() == [padded(tars[0])]
    assert second.opened_digests
    assert len(list(second.directory.glob("*.blob"))) == 2
