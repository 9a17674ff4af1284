"""The gate logs in to a server that asks for a name, a token or TLS, and says why when it cannot."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from permit_stage import eventually

from pipeline.nats_server import find_nats_server
from pipeline.permit import Gate, Refused, RefusedBy
from pipeline.permit.link import Login

pytestmark = pytest.mark.integration
Serve = Callable[[str], int]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Run a bare nats-server with one piece of configuration."""
    processes: list[subprocess.Popen[bytes]] = []

    def serve(extra: str) -> int:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        config = tmp_path / "nats.conf"
        config.write_text(f"port: {port}\nhost: 127.0.0.1\njetstream {{ store_dir: '{tmp_path}/store' }}\n{extra}\n")
        process = subprocess.Popen([find_nats_server(), "-c", str(config)], stderr=subprocess.DEVNULL)
        processes.append(process)

        def answers() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            return False

        eventually(answers)
        return port

    yield serve
    for process in processes:
        process.kill()
        process.wait()


def ready(login: Login) -> bool:
    with Gate(login, word=None, backoff_s=0.02, backoff_max_s=0.1) as gate:
        return gate.wait_ready(3)


def trouble(login: Login) -> str:
    with Gate(login, word=None, backoff_s=0.02, backoff_max_s=0.1) as gate:
        eventually(lambda: "cannot connect" in gate.view().trouble)
        verdict = gate.check()
        assert isinstance(verdict, Refused)
        assert verdict.reason is RefusedBy.NOT_CONNECTED
        return gate.view().trouble


def test_user_and_password(serve: Serve) -> None:
    port = serve('authorization { user: bob, password: "s3cret-s3cret" }')
    url = f"nats://127.0.0.1:{port}"
    assert ready(Login(url, "t", user="bob", password="s3cret-s3cret"))
    assert ready(Login(f"nats://bob:s3cret-s3cret@127.0.0.1:{port}", "t"))
    for login in (Login(url, "t"), Login(url, "t", user="bob", password="wrong-wrong")):
        assert "Authorization Violation" in trouble(login)
        assert "wrong-wrong" not in trouble(login)


def test_token(serve: Serve) -> None:
    port = serve('authorization { token: "t0ken-t0ken" }')
    assert ready(Login(f"nats://127.0.0.1:{port}", "t", token="t0ken-t0ken"))
    assert ready(Login(f"nats://t0ken-t0ken@127.0.0.1:{port}", "t"))
    assert "Authorization Violation" in trouble(Login(f"nats://127.0.0.1:{port}", "t", token="other"))


def test_the_least_rights_that_a_worker_needs(serve: Serve) -> None:
    port = serve(
        "authorization { users: [ { user: w, password: p, permissions: { "
        'publish: ["$JS.API.STREAM.MSG.GET.KV_permit"], subscribe: ["system.>", "_INBOX.>"] } } ] }'
    )
    assert ready(Login(f"nats://127.0.0.1:{port}", "t", user="w", password="p"))


def test_no_right_to_hear_of_a_halt_keeps_it_closed(serve: Serve) -> None:
    port = serve(
        "authorization { users: [ { user: w, password: p, permissions: { "
        'subscribe: ["system.permit", "_INBOX.>"] } } ] }'
    )
    assert "Permissions Violation" in trouble(Login(f"nats://127.0.0.1:{port}", "t", user="w", password="p"))


def test_tls(serve: Serve, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate),
            *("-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    port = serve(f"tls {{ cert_file: '{certificate}', key_file: '{key}' }}")
    trusted = ssl.create_default_context(cafile=str(certificate))
    with Gate(Login(f"tls://127.0.0.1:{port}", "t", tls=trusted), word=None) as gate:
        assert gate.wait_ready(3)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:  # the encrypted connection is read without waiting too
            verdict = gate.check()
            assert isinstance(verdict, Refused)
            assert verdict.reason is RefusedBy.NO_PERMIT
        assert gate.view().connects == 1
    assert "CERTIFICATE_VERIFY_FAILED" in trouble(Login(f"tls://127.0.0.1:{port}", "t"))


def test_a_server_without_jetstream_keeps_it_closed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen([find_nats_server(), "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        with Gate(Login(f"nats://127.0.0.1:{port}", "t"), word=None, backoff_s=0.02, backoff_max_s=0.1) as gate:
            eventually(lambda: "JetStream does not answer" in gate.view().trouble)
    finally:
        server.kill()
        server.wait()
