"""What the server is to the machine: no part of its parent, no core, no privileges, and no key to be seen."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from tests.enclave.rootfs.server.conftest import SMALL, Served

from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE
from enclave_cc.enclave.rootfs.server.channel import Channel
from enclave_cc.enclave.rootfs.server.messages import to_bytes

pytestmark = pytest.mark.root
SHOWN = ("cmdline", "environ", "comm", "mountinfo", "maps", "status", "wchan")


def test_the_server_holds_nothing_of_its_parents(served, in_private_mounts):
    def body():
        pipe = os.pipe()
        mine = served().open()
        proc = Path(f"/proc/{mine.process.pid}")
        own = {str(Path(f"/proc/self/fd/{end}").readlink()) for end in pipe}
        held = {str(entry.readlink()) for entry in (proc / "fd").iterdir()}
        assert not own & held
        assert (proc / "cwd").readlink() == Path("/")
        assert (proc / "comm").read_text() == "enclave-rootfs\n"
        mine.close()

    in_private_mounts(body)


def test_the_server_leaves_no_core_and_gains_nothing(served, in_private_mounts):
    def body():
        mine = served().open()
        proc = Path(f"/proc/{mine.process.pid}")
        (core,) = (line for line in (proc / "limits").read_text().splitlines() if line.startswith("Max core"))
        assert core.split()[4:6] == ["0", "0"]
        assert "NoNewPrivs:\t1\n" in (proc / "status").read_text()
        mine.close()

    in_private_mounts(body)


def test_the_server_is_killed_last_where_the_machine_allows_it(served, in_private_mounts):
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    try:
        own.write_text("-998")
    except OSError:
        pytest.skip("this machine lets nobody lower its oom_score_adj")
    own.write_text(before)

    def body():
        mine = served().open()
        assert Path(f"/proc/{mine.process.pid}/oom_score_adj").read_text() == "-998\n"
        mine.close()
        assert own.read_text() == before

    in_private_mounts(body)


def test_the_key_is_neither_in_what_is_sent_as_text_nor_in_what_the_kernel_shows(
    sealed, served, in_private_mounts, monkeypatch
):
    key = bytes(sealed.fdk.reveal())
    sent, plain = [], Channel.send

    def send(self, message):
        sent.append(to_bytes(message))
        plain(self, message)

    monkeypatch.setattr(Channel, "send", send)

    def body():
        mine = served().prepare(PREFERENCE[-1]).open()
        assert [json.loads(message)["message"] for message in sent] == ["prepare", "open"]
        shown = b"".join(sent)
        for pid in (mine.process.pid, os.getpid()):
            shown += b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in SHOWN)
        for part in (key[:8], key[-8:]):
            assert part not in shown
            assert part.hex().encode() not in shown.lower()
        mine.close()

    in_private_mounts(body)


def readable_memory(pid):
    """Yield what the kernel shows of a process's memory, as a core dump would have it."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(address, 16) for address in line.split()[0].split("-"))
            # Libraries of the tests reserve hundreds of gigabytes that they never touch.
            if end - start < 1 << 30:
                with contextlib.suppress(OSError, OverflowError):
                    memory.seek(start)
                    yield memory.read(end - start)


@pytest.mark.parametrize("backend", PREFERENCE)
def test_the_key_of_the_manifest_is_nowhere_in_the_servers_memory(
    tmp_path, seal, archive, in_private_mounts, backend
):
    def body():
        mine = Served(None, tmp_path / "m").prepare(backend)
        # Sealed only now: what sealing leaves in memory is not the server's.
        mine.sealed = seal(archive(small=SMALL))
        mine.open()
        key = bytes(mine.sealed.fdk.reveal())
        assert (mine.root / "small").read_bytes() == SMALL
        found = [(SMALL[: len(key)] in part, key in part) for part in readable_memory(mine.process.pid)]
        # The search finds what is there: a word of what was served, and none of the key.
        assert any(served for served, _ in found)
        assert not any(of_key for _, of_key in found)
        mine.close()

    in_private_mounts(body)
