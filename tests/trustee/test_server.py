"""A broker from nothing: init, settings, start, stop."""

from __future__ import annotations

import os
import signal
import ssl
import stat
import subprocess
import sys

import pytest
import urllib3

from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.trustee.admin_client import AdminClient
from enclave_cc.trustee.broker.composition import compose
from enclave_cc.trustee.broker.init import init_broker
from enclave_cc.trustee.broker.settings import BrokerSettings

MINIMAL = """listen = "127.0.0.1:0"
store = "s"
admin_token = "a"
token_key = "k"
"""
URI = ResourceUri.parse("kbs:///default/key/1")


@pytest.fixture
def files(tmp_path):
    return init_broker(tmp_path / "broker", "127.0.0.1", 0, ["127.0.0.1", "broker.example"])


@pytest.fixture
def process(files):
    command = [sys.executable, "-m", "enclave_cc.trustee.broker", "--config", str(files.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        ready = process.stdout.readline()
        assert ready.startswith("enclave-cc broker ready at https://127.0.0.1:")
        yield process, ready.split()[-1]
        process.kill()


def admin(files, url, token=None):
    return AdminClient(url, token or files.admin_token.read_text(), files.tls_ca.read_text())


def test_what_init_makes_is_for_its_owner_only(files):
    for file in files.config.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.config.parent.stat().st_mode) == 0o700
    assert files.url == "https://127.0.0.1:0"


def test_init_does_not_replace_keys(files):
    with pytest.raises(FileExistsError):
        init_broker(files.config.parent, "127.0.0.1", 0, [])


def test_a_new_broker_accepts_no_simulation(files):
    settings = BrokerSettings.load(files.config)
    assert settings.simulation is None
    assert settings.warnings == ()


def test_simulation_is_announced(broker_settings):
    _, settings = broker_settings
    assert any("insecure_accept_simulation" in warning for warning in settings.warnings)


def test_it_starts_serves_and_stops_when_told(process, files):
    running, url = process
    with admin(files, url) as client:
        client.put_resource(URI, b"secret")
        assert client.list_resources() == ("default/key/1",)
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0


def test_what_was_stored_is_there_after_a_kill(process, files):
    running, url = process
    with admin(files, url) as client:
        client.put_resource(URI, b"secret")
        client.add_reference_value("sgx_mr_enclave", "aa" * 32)
    running.kill()
    running.wait(20)
    broker = compose(BrokerSettings.load(files.config))
    assert broker.audit.verify_chain()[0] == 2
    broker.close()


def test_a_broken_configuration_is_one_line_and_a_status(tmp_path):
    (tmp_path / "broker.toml").write_text("listen = 1")
    command = [sys.executable, "-m", "enclave_cc.trustee.broker", "--config", str(tmp_path / "broker.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 65
    assert "code=broker-settings-invalid" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        MINIMAL,
        MINIMAL + 'tls_cert = "c"\n',
        MINIMAL + 'insecure_http = true\ntls_cert = "c"\n',
        MINIMAL + "insecure_http = true\nunknown = 1\n",
        MINIMAL + 'insecure_http = true\n[sgx]\nroot = "x"\n',
        MINIMAL + 'insecure_http = true\n[simulation]\nroot = "x"\nenabled = true\n',
        MINIMAL + "insecure_http = true\n[simulation]\ninsecure_accept_simulation = true\n",
        MINIMAL.replace(":0", ":65536") + "insecure_http = true\n",
        MINIMAL.replace("127.0.0.1:0", "8080") + "insecure_http = true\n",
        "= =",
    ],
)
def test_settings_that_are_incomplete_or_unknown_are_refused(tmp_path, text):
    (tmp_path / "broker.toml").write_text(text)
    with pytest.raises(InvalidInputError):
        BrokerSettings.load(tmp_path / "broker.toml")


def test_simulation_without_the_insecure_word_is_off(tmp_path):
    (tmp_path / "broker.toml").write_text(MINIMAL + 'insecure_http = true\n[simulation]\nroot = "x"\n')
    settings = BrokerSettings.load(tmp_path / "broker.toml")
    assert settings.simulation is None
    assert any("insecure_http" in warning for warning in settings.warnings)


@pytest.mark.parametrize("name", ["admin.token", "token.key"])
@pytest.mark.parametrize("content", [None, b"", b"short", b"\xff" * 40])
def test_unusable_secrets_are_refused_before_anything_runs(files, name, content):
    path = files.config.parent / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError):
        compose(BrokerSettings.load(files.config))


def test_a_root_that_does_not_say_that_it_is_simulated_is_refused(broker_settings):
    files, settings = broker_settings
    settings.simulation.root.write_bytes(ssl.PEM_cert_to_DER_cert(files.tls_ca.read_text()))
    with pytest.raises(InvalidInputError):
        compose(settings)


def test_the_administrator_sees_policies_values_and_the_log(broker):
    with broker.admin() as client:
        client.set_attestation_policy(client.get_policy("default_cpu") + "\n# changed\n")
        assert client.get_policy("default_cpu").endswith("# changed\n")
        client.add_reference_value("sgx_mr_enclave", "aa" * 32)
        client.add_reference_value("sgx_mr_enclave", ["bb" * 32, "aa" * 32])
        assert client.list_reference_values() == {"sgx_mr_enclave": ["aa" * 32, "bb" * 32]}
        client.set_reference_value("sgx_mr_enclave", ["cc" * 32])
        assert client.list_reference_values() == {"sgx_mr_enclave": ["cc" * 32]}
        log = client.audit()
        assert log["length"] == 4
        assert [entry["event"] for entry in log["entries"]] == ["administration"] * 4
        assert client.audit(after=3)["entries"][0]["digest"] == log["head"]


def test_the_log_never_holds_a_secret(broker):
    with broker.admin() as client:
        client.put_resource(URI, b"very secret bytes")
        client.delete_resource(URI)
        assert "very secret" not in str(client.audit())


def test_refusals_keep_the_brokers_reason(broker):
    with broker.admin() as client:
        for call in (
            lambda: client.delete_resource(URI),
            lambda: client.set_resource_policy("nonsense"),
            lambda: client.set_attestation_policy("package policy\n", "default"),
            lambda: client.delete_reference_value("absent"),
            lambda: client.explain("short"),
        ):
            with pytest.raises(RefusedError) as caught:
                call()
            assert caught.value.code == "broker-refused-administration"


def test_another_token_is_refused(broker):
    with AdminClient(broker.url, "x" * 43, broker.ca_pem) as client, pytest.raises(RefusedError) as caught:
        client.list_resources()
    assert "AdminAuthAccess" in caught.value.summary


def test_plain_http_is_not_spoken_on_a_tls_port(broker):
    with urllib3.PoolManager(retries=False) as pool, pytest.raises(urllib3.exceptions.HTTPError):
        pool.request("GET", broker.url.replace("https", "http") + "/healthz")
