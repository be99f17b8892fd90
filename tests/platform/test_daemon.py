"""The daemon: identity belongs to the launched process alone, whatever anybody says."""

from __future__ import annotations

import datetime as dt
import os
import socket
import stat
import sys
import sysconfig
from pathlib import Path

import pytest

import enclave_cc
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError
from enclave_cc.formats.dcap import Collateral, IntelRoot, SimulatedRoot, TcbStatus, verify_quote
from enclave_cc.formats.initdata import initdata_digest
from enclave_cc.formats.local_attestation import app_config_id, initdata_config_id
from enclave_cc.formats.messages.platform import PLATFORM_SERVICE
from enclave_cc.formats.sgx import Report, ReportBody, verify_report
from enclave_cc.formats.sgx.measurement import mr_enclave
from enclave_cc.platform.measurement import measure_bundle
from enclave_cc.transport.pcs import PcsClient
from enclave_cc.transport.ttrpc_client import TtrpcClient

pytestmark = pytest.mark.root
INITDATA = b'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n'


@pytest.fixture
def client(daemon):
    with TtrpcClient(str(daemon[0])) as connected:
        yield connected


@pytest.fixture
def launch(client):
    def start(child, bundle, *, initdata=b"", config_id=b""):
        pid = child if isinstance(child, int) else child.pid
        request = {"pid": pid, "bundle": str(bundle), "initdata": initdata, "config_id": config_id}
        return client.call(PLATFORM_SERVICE, "Launch", request)["mr_enclave"]

    return start


def refused(action, code="launch-refused", kind=RefusedError):
    with pytest.raises(kind) as error:
        action()
    assert error.value.code == code


def test_an_agents_identity_is_its_bundle_and_its_initdata(children, launch, make_bundle):
    child, bundle = children(), make_bundle()
    measured = launch(child, bundle, initdata=INITDATA)
    digest = initdata_digest(INITDATA)
    body = ReportBody.parse(child.ask("identity"))
    assert measured == body.mr_enclave == mr_enclave(measure_bundle(bundle).base, digest)
    assert (body.isv_prod_id, body.config_id) == (1, initdata_config_id(digest))
    assert child.ask("initdata") == digest
    assert body.debug


def test_an_apps_identity_holds_its_container(children, launch, make_bundle):
    child, config_id = children(), app_config_id("pod", "container")
    launch(child, make_bundle("boot"), config_id=config_id)
    body = ReportBody.parse(child.ask("identity"))
    assert (body.isv_prod_id, body.config_id) == (2, config_id)


def test_a_quote_verifies_under_the_published_root_only(children, launch, make_bundle, daemon, client):
    child = children()
    launch(child, make_bundle())
    quote = child.ask("quote", b"n" * 64)
    answer = client.call(PLATFORM_SERVICE, "Collateral", {})
    collateral, root = Collateral.from_json(answer["collateral"]), SimulatedRoot(answer["root"])
    verdict = verify_quote(quote, collateral, root, dt.datetime.now(dt.UTC))
    assert verdict.status is TcbStatus.SW_HARDENING_NEEDED
    assert verdict.body.report_data == b"n" * 64
    with pytest.raises(RefusedError):
        verify_quote(quote, collateral, IntelRoot(), dt.datetime.now(dt.UTC))
    public = daemon[0].parent / "state/public"
    assert (public / "root.der").read_bytes() == answer["root"]
    assert (public / "collateral.json").read_bytes() == answer["collateral"]


def test_collateral_can_be_fetched_as_from_intel(children, launch, make_bundle, daemon, client):
    child = children()
    launch(child, make_bundle())
    quote = child.ask("quote", bytes(64))
    root = SimulatedRoot(client.call(PLATFORM_SERVICE, "Collateral", {})["root"])
    collateral = PcsClient(daemon[1]).collateral(quote)
    assert verify_quote(quote, collateral, root, dt.datetime.now(dt.UTC)).simulated


def test_reports_between_enclaves_of_one_platform_verify(children, launch, make_bundle):
    child = children()
    launch(child, make_bundle())
    report = Report.parse(child.ask("report", b"d" * 64))
    verify_report(report, child.ask("key", report.key_id))


def test_two_enclaves_have_different_report_keys(children, launch, make_bundle):
    first, second = children(), children()
    launch(first, make_bundle(program="1"))
    launch(second, make_bundle(program="2"))
    assert first.ask("key", bytes(32)) != second.ask("key", bytes(32))


@pytest.mark.parametrize("question", ["identity", "report", "key", "quote"])
def test_a_process_that_was_not_launched_has_no_identity(children, question):
    assert children().ask(question, bytes(32)) == "no-enclave"


def test_a_child_of_an_enclave_is_no_enclave(children, launch, make_bundle):
    child = children()
    launch(child, make_bundle())
    assert len(child.ask("quote", bytes(64))) > 1000
    assert child.ask("quote in a forked child") == b"no-enclave"


def test_an_enclave_that_ended_leaves_nothing_in_a_connection_that_it_handed_out(daemon, launch, make_bundle):
    """Otherwise whoever holds the connection could wait for the pid to come to mean another enclave."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        theirs.recv(1)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(daemon[0]))
            socket.send_fds(theirs, [b"x"], [connection.fileno()])
            theirs.recv(1)
        os._exit(0)
    with ours, theirs:
        launch(pid, make_bundle())
        ours.send(b"x")
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        lent = TtrpcClient(str(daemon[0]))
        lent._socket.close()
        lent._socket = socket.socket(fileno=descriptors[0])
        assert lent.call(PLATFORM_SERVICE, "Identity", {})["body"]
        ours.send(b"x")
        os.waitpid(pid, 0)
    with lent:
        refused(lambda: lent.call(PLATFORM_SERVICE, "Identity", {}), "no-enclave")


def test_only_the_superuser_may_launch(children, make_bundle, daemon):
    child, bundle = children(), make_bundle()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(54321, 54321, 54321)
        outcome = b"launched"
        try:
            with TtrpcClient(str(daemon[0])) as client:
                request = {"pid": child.pid, "bundle": str(bundle), "initdata": b"", "config_id": b""}
                client.call(PLATFORM_SERVICE, "Launch", request)
        except RefusedError as error:
            outcome = error.code.encode()
        finally:
            os.write(write, outcome)
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"launch-refused"


def test_a_process_is_launched_once(children, launch, make_bundle):
    child = children()
    launch(child, make_bundle(program="1"))
    refused(lambda: launch(child, make_bundle(program="2")))


def test_a_process_cannot_launch_itself(launch, make_bundle):
    refused(lambda: launch(os.getpid(), make_bundle()))


@pytest.mark.parametrize("pid", [0, 2**22 + 1, 2**31, 2**63])
def test_a_process_that_does_not_exist_cannot_be_launched(launch, make_bundle, pid):
    refused(lambda: launch(pid, make_bundle()))


def test_a_relative_bundle_path_is_refused(children, launch):
    refused(lambda: launch(children(), "bundle"))


def test_an_unmeasurable_bundle_is_refused_and_binds_nothing(children, launch, tmp_path, make_bundle):
    child = children()
    refused(lambda: launch(child, tmp_path / "absent"), "bundle-unmeasurable", InvalidInputError)
    assert child.ask("identity") == "no-enclave"
    launch(child, make_bundle())


@pytest.mark.parametrize("config_id", [b"", bytes(64), b"c" * 63, b"c" * 65])
def test_an_app_without_a_meaningful_config_id_is_refused(children, launch, make_bundle, config_id):
    refused(lambda: launch(children(), make_bundle("boot"), config_id=config_id))


def test_an_agent_cannot_be_given_a_config_id(children, launch, make_bundle):
    refused(lambda: launch(children(), make_bundle(), config_id=b"c" * 64))


def test_initdata_that_cannot_be_read_is_refused(children, launch, make_bundle):
    bundle = make_bundle()
    refused(lambda: launch(children(), bundle, initdata=b"\xff"), "initdata-invalid", InvalidInputError)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Report", {"target_info": b"x", "report_data": bytes(64)}),
        ("Report", {"target_info": bytes(512), "report_data": b"short"}),
        ("GetKey", {"key_request": b""}),
        ("Quote", {"report_data": bytes(65)}),
    ],
)
def test_malformed_requests_of_strangers_are_refused_before_they_are_read(client, method, request_):
    refused(lambda: client.call(PLATFORM_SERVICE, method, request_), "no-enclave")


def test_an_enclave_learns_that_its_request_is_malformed(children, launch, make_bundle):
    child = children()
    launch(child, make_bundle())
    assert child.ask("quote", b"short") == "invalid-request"


def test_secrets_stay_closed_and_the_socket_is_open_to_all(daemon):
    state = daemon[0].parent / "state"
    assert stat.S_IMODE(daemon[0].stat().st_mode) == 0o666
    for file in (state / "private").iterdir():
        assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_uid) == (0o600, 12345)


def test_the_daemon_gave_up_root(daemon):
    owner = {
        path.name: Path(f"/proc/{path.name}/status").read_text()
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and str(daemon[0]).encode() in (path / "cmdline").read_bytes()
    }
    daemons = [text for text in owner.values() if "\nUid:\t12345\t12345\t12345\t12345\n" in text]
    assert len(daemons) == 1
    assert "\nGid:\t12345\t12345\t12345\t12345\n" in daemons[0]
    assert "\nGroups:\t \n" in daemons[0]


def test_a_restart_keeps_the_root_and_forgets_the_enclaves(short_tmp, make_bundle):
    from tests.platform.conftest import Child, running_daemon  # noqa: PLC0415 - only this test starts its own

    short_tmp.chmod(0o755)
    roots = []
    for _ in range(2):
        with running_daemon(short_tmp):
            with TtrpcClient(str(short_tmp / "p.sock")) as client:
                roots.append(client.call(PLATFORM_SERVICE, "Collateral", {})["root"])
            child = Child(short_tmp / "p.sock")
            assert child.ask("identity") == "no-enclave"
            child.stop()
    assert roots[0] == roots[1]


def test_the_user_need_not_be_able_to_read_python(short_tmp, make_bundle):
    """Python, its packages and we lie where only root may pass, as in root's home."""
    from tests.platform.conftest import Child, running_daemon  # noqa: PLC0415 - only two tests start their own

    short_tmp.chmod(0o755)
    closed = short_tmp / "closed"
    closed.mkdir(mode=0o700)
    # One tree each for the interpreter, the packages and us, seen by the daemon alone.
    trees = [Path(sys.base_prefix), Path(sysconfig.get_path("purelib")), Path(enclave_cc.__file__).parents[1]]
    for number in range(3):
        (closed / str(number)).mkdir()
    mounts = [f"mount --bind '{tree}' '{closed / str(number)}'" for number, tree in enumerate(trees)]
    python = f"{closed}/0/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    script = " && ".join([*mounts, f"PYTHONPATH='{closed}/2:{closed}/1' exec '{python}' \"$@\""])
    command = ("unshare", "--mount", "sh", "-c", script, "sh")
    bundle = make_bundle()
    with running_daemon(short_tmp, "--uid", "12345", python=command) as url:
        child = Child(short_tmp / "p.sock")
        with TtrpcClient(str(short_tmp / "p.sock")) as client:
            request = {"pid": child.pid, "bundle": str(bundle), "config_id": b""}
            for initdata in (INITDATA.replace(b"384", b"999"), b"="):
                with pytest.raises(EnclaveCcError):
                    client.call(PLATFORM_SERVICE, "Launch", {**request, "initdata": initdata})
            client.call(PLATFORM_SERVICE, "Launch", {**request, "initdata": INITDATA.replace(b"384", b"512")})
        quote = child.ask("quote", bytes(64))
        child.stop()
        assert PcsClient(url).collateral(quote).tcb_info
