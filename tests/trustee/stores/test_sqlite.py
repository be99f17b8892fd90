"""The store keeps what it said it kept, also when it is killed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError
from enclave_cc.trustee.audit import chain
from enclave_cc.trustee.stores.port import Namespace
from enclave_cc.trustee.stores.sqlite import SqliteStore

WRITER = """
import sys
from pathlib import Path
from enclave_cc.trustee.audit import chain
from enclave_cc.trustee.stores.port import Namespace
from enclave_cc.trustee.stores.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
for number in range(1_000_000):
    record = str(number).encode()
    store.append("r", lambda head: (record, chain.link(head.digest, record)))
    store.put(Namespace.RESOURCE, "a/b/c", record)
    print(number, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite"


@pytest.fixture
def store(path):
    store = SqliteStore(path)
    yield store
    store.close()


def append(store, text, request_id="r"):
    record = text.encode()
    return store.append(request_id, lambda head: (record, chain.link(head.digest, record)))


def test_values_are_set_replaced_listed_and_removed(store):
    assert store.get(Namespace.RESOURCE, "a") is None
    store.put(Namespace.RESOURCE, "b", b"1")
    store.put(Namespace.RESOURCE, "a", b"1")
    store.put(Namespace.RESOURCE, "a", b"2")
    assert store.get(Namespace.RESOURCE, "a") == b"2"
    assert store.keys(Namespace.RESOURCE) == ("a", "b")
    assert store.keys(Namespace.POLICY) == ()
    assert store.delete(Namespace.RESOURCE, "a")
    assert not store.delete(Namespace.RESOURCE, "a")


def test_values_are_there_after_a_new_start(path):
    first = SqliteStore(path)
    first.put(Namespace.RESOURCE, "a", b"1")
    first.close()
    second = SqliteStore(path)
    assert second.get(Namespace.RESOURCE, "a") == b"1"
    second.close()


def test_the_file_is_for_its_owner_only(store, path):
    store.put(Namespace.RESOURCE, "a", b"1")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0


def test_a_file_that_is_no_store_is_refused(path):
    path.write_bytes(b"something else" * 100)
    with pytest.raises(InvalidInputError):
        SqliteStore(path)


def test_a_store_of_a_newer_version_is_refused(path):
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InvalidInputError):
        SqliteStore(path)


def test_entries_come_in_order_by_request_and_page(store):
    for number in range(600):
        append(store, str(number), "even" if number % 2 == 0 else "odd")
    everything = [entry.record for entry in store.entries(limit=1000)]
    assert everything == [str(number).encode() for number in range(600)]
    assert len(list(store.entries(request_id="odd", limit=1000))) == 300
    assert [entry.sequence for entry in store.entries(after=598, limit=10)] == [599, 600]
    assert len(list(store.entries(limit=300))) == 300


def test_a_failing_link_leaves_nothing_behind(store):
    with pytest.raises(ZeroDivisionError):
        store.append("r", lambda _: 1 / 0)
    assert store.head().length == 0
    append(store, "next")
    assert store.head().length == 1


@pytest.mark.parametrize("statement", ["DELETE FROM chain", "UPDATE chain SET record = x'00'"])
def test_the_database_itself_refuses_to_rewrite_the_chain(store, path, statement):
    append(store, "one")
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        connection.execute(statement)
    connection.close()


def test_a_rewritten_entry_breaks_the_chain(store, path):
    for text in ("one", "two", "three"):
        append(store, text)
    assert chain.verify(store.entries(limit=100))[0] == 3
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER chain_is_not_rewritten")
    connection.execute("UPDATE chain SET record = x'00' WHERE sequence = 2")
    connection.commit()
    connection.close()
    with pytest.raises(RefusedError, match="altered") as caught:
        chain.verify(store.entries(limit=100))
    assert caught.value.findings[0].rule == "audit.entry.2"


@pytest.mark.parametrize("removed", [1, 2])
def test_a_removed_entry_breaks_the_chain(store, path, removed):
    for text in ("one", "two", "three"):
        append(store, text)
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER chain_is_not_shortened")
    connection.execute("DELETE FROM chain WHERE sequence = ?", (removed,))
    connection.commit()
    connection.close()
    with pytest.raises(RefusedError):
        chain.verify(store.entries(limit=100))


def test_what_was_confirmed_survives_a_kill(path):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=os.environ
    ) as writer:
        for _ in range(25):
            confirmed = int(writer.stdout.readline())
        writer.kill()
    store = SqliteStore(path)
    length, _ = chain.verify(store.entries(limit=1_000_000))
    assert length > confirmed
    assert int(store.get(Namespace.RESOURCE, "a/b/c")) >= confirmed
    store.close()


def test_a_transaction_is_all_or_nothing_for_every_thread(store):
    with contextlib.suppress(ZeroDivisionError), store.transaction():
        store.put(Namespace.RESOURCE, "a", b"1")
        append(store, "one")
        raise ZeroDivisionError
    assert store.keys(Namespace.RESOURCE) == ()
    assert store.head().length == 0
    with store.transaction(), store.transaction():
        store.put(Namespace.RESOURCE, "a", b"1")
        append(store, "one")
    assert store.keys(Namespace.RESOURCE) == ("a",)
    assert store.head().length == 1


def test_other_threads_do_not_write_into_a_transaction(store):
    with ThreadPoolExecutor(1) as pool:
        with contextlib.suppress(ZeroDivisionError), store.transaction():
            other = pool.submit(append, store, "of another thread")
            time.sleep(0.1)
            assert not other.done()
            raise ZeroDivisionError
        other.result(5)
    assert store.head().length == 1


def test_a_change_that_cannot_be_committed_does_not_block_those_after_it(store):
    store._connection.executescript(
        "PRAGMA foreign_keys = ON; CREATE TABLE above (id INTEGER PRIMARY KEY);"
        "CREATE TABLE below (id INTEGER REFERENCES above DEFERRABLE INITIALLY DEFERRED);"
    )
    with pytest.raises(EnclaveCcError), store.transaction():
        store._connection.execute("INSERT INTO below VALUES (1)")
    append(store, "one")
    assert store.head().length == 1


def test_a_place_that_cannot_be_written_is_said_so(tmp_path):
    with pytest.raises(InvalidInputError) as caught:
        SqliteStore(tmp_path / "absent" / "store.sqlite")
    assert caught.value.code == "store-unusable"
