import os
import sys
import time
from pathlib import Path

import pytest

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.formats.ocicrypt.keyprovider import MAX_DOCUMENT_BYTES
from enclave_cc.tenant.keyproviders.command import CommandProvider


def program(script, *arguments, timeout_s=20.0):
    return CommandProvider((sys.executable, "-c", script, *arguments), timeout_s)


def failure(provider, document=b"{}"):
    with pytest.raises(EnclaveCcError) as caught:
        provider.call("WrapKey", document)
    return caught.value.code, caught.value.detail


def test_the_request_goes_in_and_the_answer_comes_out():
    upper = "import sys; sys.stdout.write(sys.stdin.read().upper() + sys.argv[1])"
    assert program(upper, "; $(echo x)").call("WrapKey", b"abc") == b"ABC; $(echo x)"


def test_a_program_that_answers_before_it_reads_does_not_block():
    large = "import sys; sys.stdout.write('x' * 200000); sys.stdout.flush(); sys.stdin.read()"
    assert len(program(large).call("WrapKey", bytes(200_000))) == 200_000


def test_a_program_that_reads_nothing_answers_all_the_same():
    assert program("print('yes')").call("WrapKey", bytes(MAX_DOCUMENT_BYTES)) == b"yes\n"


def test_a_program_that_says_no_is_a_refusal():
    assert failure(program("print('half'); raise SystemExit(3)")) == (
        "keyprovider-refused",
        f"{sys.executable}: exit status 3",
    )
    assert failure(program(""))[0] == "keyprovider-refused"


def test_an_answer_without_end_is_cut():
    endless = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    code, detail = failure(program(endless))
    assert code == "keyprovider-refused"
    assert "too long" in detail


def test_a_program_that_does_not_answer_is_ended_with_all_that_it_started(tmp_path):
    child = tmp_path / "pid"
    script = (
        "import subprocess, sys, time\n"
        f"open({str(child)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid))\n"
        "time.sleep(600)"
    )
    assert failure(program(script, timeout_s=2.0))[0] == "keyprovider-unavailable"
    pid = int(child.read_text())
    for _ in range(100):
        if _gone(pid):
            return
        time.sleep(0.05)
    pytest.fail("the program's child is still there")


def _gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_what_a_program_leaves_running_ends_with_its_answer(tmp_path):
    child = tmp_path / "pid"
    script = (
        "import subprocess\n"
        f"open({str(child)!r}, 'w').write(str(subprocess.Popen(['sleep', '600'], stdout=-3).pid))\n"
        "print('done')"
    )
    assert program(script).call("WrapKey", b"{}") == b"done\n"
    for _ in range(100):
        if _gone(int(child.read_text())):
            return
        time.sleep(0.05)
    pytest.fail("what the program started is still there")


def test_a_program_that_is_not_there_is_a_matter_of_configuration():
    code, detail = failure(CommandProvider(("/nowhere/provider",)))
    assert code == "keyprovider-config-invalid"
    assert os.strerror(2) in detail
