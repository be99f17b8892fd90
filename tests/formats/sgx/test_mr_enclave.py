"""The simulated MRENCLAVE: pinned values, and every input counts."""

from __future__ import annotations

import hashlib

from enclave_cc.formats.sgx.measurement import BundleEntry, EntryKind, bundle_base, mr_enclave

SETTINGS = {"kind": "agent", "product_id": 1, "args": ["/bin/a"], "env": [], "cwd": "/"}
ENTRIES = [
    BundleEntry("usr", EntryKind.DIRECTORY, 0, ""),
    BundleEntry("usr/a", EntryKind.FILE, 3, "aa"),
    BundleEntry("b", EntryKind.LINK, 0, "usr/a"),
]


def test_the_base_is_the_digest_of_the_documented_text():
    text = (
        b'{"entries":[["b","l",0,"usr/a"],["usr","d",0,""],["usr/a","f",3,"aa"]],"settings":'
        b'{"args":["/bin/a"],"cwd":"/","env":[],"kind":"agent","product_id":1}}'
    )
    assert bundle_base(SETTINGS, ENTRIES) == hashlib.sha256(text).digest()


def test_the_order_of_the_walk_does_not_matter():
    assert bundle_base(SETTINGS, ENTRIES[::-1]) == bundle_base(SETTINGS, ENTRIES)


def test_every_property_of_an_entry_counts():
    base = bundle_base(SETTINGS, ENTRIES)
    for change in ({"path": "usr/c"}, {"kind": EntryKind.EXECUTABLE}, {"size": 4}, {"content": "ab"}):
        changed = [ENTRIES[0], ENTRIES[1]._replace(**change), ENTRIES[2]]
        assert bundle_base(SETTINGS, changed) != base


def test_the_settings_count():
    assert bundle_base(SETTINGS | {"cwd": "/tmp"}, ENTRIES) != bundle_base(SETTINGS, ENTRIES)


def test_the_measurement_binds_base_and_initdata():
    base = bytes(32)
    expected = hashlib.sha256(
        b"enclave-cc simulated MRENCLAVE v1\0" + b"\0\0\0\x20" + base + b"\0\0\0\x02" + b"id"
    ).digest()
    assert mr_enclave(base, b"id") == expected
    assert mr_enclave(base, b"") != expected
