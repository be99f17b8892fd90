"""A client that lives for weeks remembers a bounded number of things."""

from enclave_cc.transport.registry.bounded_memory import BoundedMemory


def test_the_oldest_is_forgotten_beyond_the_bound():
    memory = BoundedMemory(max_entries=3)
    for number in [1, 2, 3, 1, 4]:
        memory.keep(number, str(number))
    assert [memory.get(number) for number in [1, 2, 3, 4]] == ["1", None, "3", "4"]
