"""The table holds what was put there, and memory only where something was."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclave_cc.enclave.rootfs.device import block_table
from enclave_cc.enclave.rootfs.device.block_table import ENTRY_BYTES, LOST, BlockTable

ENTRY = bytes(range(ENTRY_BYTES))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_entries_are_zero_until_they_are_put():
    table = BlockTable(10)
    table.put(range(3, 5), ENTRY * 2)
    assert table.get(range(2, 6)) == bytes(ENTRY_BYTES) + ENTRY * 2 + bytes(ENTRY_BYTES)
    table.lose(range(4, 5))
    assert table.get(range(4, 5))[: len(LOST)] == LOST


@pytest.mark.parametrize("advice", [block_table._FREE_PAGES, (), (12345,)])
@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 999), (0, 1000), (170, 350), (500, 502), (7, 7)])
def test_forgetting_is_exact_even_where_pages_cannot_be_freed(monkeypatch, advice, start, stop):
    monkeypatch.setattr(block_table, "_FREE_PAGES", advice)
    table = BlockTable(1000)
    table.put(range(1000), ENTRY * 1000)
    table.forget(range(start, stop))
    assert table.get(range(1000)) == ENTRY * start + bytes(ENTRY_BYTES) * (stop - start) + ENTRY * (
        1000 - stop
    )


def test_a_large_scratch_costs_memory_only_where_it_is_written():
    before = resident_bytes()
    table = BlockTable((64 << 30) // 4096)
    for block in range(0, 64 << 18, 1 << 18):
        assert table.get(range(block, block + 1)) == bytes(ENTRY_BYTES)
        table.put(range(block, block + 1), ENTRY)
    assert resident_bytes() - before < 4 << 20
    table.close()
