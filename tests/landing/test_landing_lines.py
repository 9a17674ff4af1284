"""Connections that stand ready, and the block engine behind them."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from markets.limits import TokenBucket
from markets.solana.landing.engine import BlockEngine, EngineSettings, bundle_id, floor_of
from markets.solana.rpc.errors import (
    BadAnswer,
    RateLimited,
    Refused,
    ServerFailed,
    TimedOut,
    Unreachable,
)
from markets.solana.rpc.line import Lines

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    place = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield f"https://{place}" if tls else f"http://{place}"
    finally:
        await runner.cleanup()


async def echo(request: web.Request) -> web.Response:
    said = await request.text()
    return web.Response(text=f"{request.path_qs} {request.headers.get('x-jito-auth', '')} {said}")


async def test_requests_go_over_connections_that_stand() -> None:
    async with server(echo) as url:
        lines = Lines(url + "/base?key=secret", "/path", headers={"x-jito-auth": "word"}, spare=2)
        keeping = asyncio.create_task(lines.keep(0.01))
        await asyncio.sleep(0.1)
        line = await lines.take()
        answer = line.post(b"one")
        # Nothing was awaited, and it is on its way: a second request does not fit beside it.
        assert not line.ready
        busy = line.post(b"two")
        with pytest.raises(Unreachable):
            await busy
        assert (await answer).body == b"/base/path?key=secret word one"
        assert line.ready
        again = await lines.take()
        assert (await again.post(b"x" * 100_000)).body.endswith(b"x" * 1000)
        assert (await lines.post(b"three", timeout_s=1.0)).status == 200
        assert "secret" not in repr(lines)
        keeping.cancel()
        lines.close()


@pytest.mark.parametrize(
    ("address", "target", "told"),
    [
        ("http://{}", "/", {"Host": "{}"}),
        ("http://{}/key/", "/key/", {"Host": "{}"}),
        (
            "http://some%40body:pass%3Aword@{}/rpc?key=1",
            "/rpc?key=1",
            {"Authorization": "Basic c29tZUBib2R5OnBhc3M6d29yZA=="},
        ),
    ],
)
async def test_an_address_is_asked_as_it_was_given(address: str, target: str, told: dict[str, str]) -> None:
    async def seen(request: web.Request) -> web.Response:
        return web.json_response([request.raw_path, {name: request.headers.get(name) for name in told}])

    async with server(seen) as url:
        place = url.removeprefix("http://")
        lines = Lines(address.format(place))
        assert lines.host == place
        answer = await lines.post(b"", timeout_s=1.0)
        assert json.loads(answer.body) == [target, {name: value.format(place) for name, value in told.items()}]
        lines.close()


def test_a_literal_address_of_six_stands_in_brackets() -> None:
    assert b"\r\nHost: [::1]:8899\r\n" in Lines("http://[::1]:8899").head


def certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """Make a certificate of its own for an address, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now, day = datetime.now(UTC), timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=True)
        .sign(key, SHA256())
    )
    shown, secret = folder / f"{address}.pem", folder / f"{address}.key"
    shown.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return shown, secret


async def test_over_tls_and_only_to_whom_the_address_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, secret = certificate(tmp_path, "127.0.0.1")
    others, _ = certificate(tmp_path, "127.0.0.2")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(shown, secret)
    async with server(echo, tls) as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(shown))
        lines = Lines(url + "/base?key=secret")
        for _ in range(2):
            assert (await lines.post(b"x" * 100_000, timeout_s=2.0)).body.endswith(b"x" * 1000)
        lines.close()
        for wrong, told in ((others, url), (shown, url.replace("127.0.0.1", "localhost"))):
            monkeypatch.setenv("SSL_CERT_FILE", str(wrong))
            with pytest.raises(Unreachable, match=r"cannot be reached \(SSLCertVerificationError\)$"):
                await Lines(told + "/base?key=secret").post(b"", timeout_s=2.0)


async def test_connections_that_the_server_closes_are_made_again() -> None:
    async def closing(request: web.Request) -> web.Response:
        response = web.Response(text="bye")
        response.force_close()
        return response

    async with server(closing) as url:
        lines = Lines(url, spare=1)
        for _ in range(3):
            assert (await lines.post(b"", timeout_s=1.0)).body == b"bye"
        lines.close()


async def test_no_server_and_no_answer() -> None:
    async def silent(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    with pytest.raises(Unreachable):
        await Lines("http://127.0.0.1:9").take()
    async with server(silent) as url:
        lines = Lines(url + "/?key=secret")
        with pytest.raises(TimedOut) as late:
            await lines.post(b"", timeout_s=0.1)
        assert "secret" not in str(late.value)
        line = await lines.take()
        answer = line.post(b"")
        line.close()
        with pytest.raises(Unreachable):
            await answer
        lines.close()


@asynccontextmanager
async def talking(*answers: bytes, pause_s: float = 0.0, close: bool = False) -> AsyncIterator[str]:
    """A server that writes these bytes after each request it reads."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            for part in answers:
                writer.write(part)
                await asyncio.sleep(pause_s)
            if close:
                break
        writer.close()

    other = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}"
    finally:
        other.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PACKED = gzip.compress(b"x" * 100_000)


@pytest.mark.parametrize(
    "answers",
    [
        (b"SSH-2.0-x\r\n\r\n\r\n",),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,),
        tuple(b"X-%d: %s\r\n" % (n, b"y" * 1000) if n else b"HTTP/1.1 200 OK\r\n" for n in range(80)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + b"x" * 3000,),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",),
    ],
)
async def test_what_is_no_answer(answers: tuple[bytes, ...]) -> None:
    async with talking(*answers) as url:
        lines = Lines(url, max_answer_bytes=2_000)
        with pytest.raises(BadAnswer):
            await lines.post(b"", timeout_s=2.0)
        lines.close()


async def test_answers_in_pieces_packed_and_without_a_length() -> None:
    async with talking(*(bytes([byte]) for byte in OK), pause_s=0.001) as url:
        lines = Lines(url)
        assert (await lines.post(b"", timeout_s=2.0)).body == b"ok"
        lines.close()
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED)
    async with talking(b"HTTP/1.1 100 Continue\r\n\r\n", head, PACKED) as url:
        lines = Lines(url)
        assert (await lines.post(b"", timeout_s=2.0)).body == b"x" * 100_000
        lines.close()
        # What unpacks to more than is read is cut: no answer larger than that comes out.
        small = Lines(url, max_answer_bytes=1_000)
        assert len((await small.post(b"", timeout_s=2.0)).body) == 1_000
        small.close()
    async with talking(b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True) as url:
        lines = Lines(url)
        assert (await lines.post(b"", timeout_s=2.0)).body == b"all of it"
        lines.close()


async def test_an_answer_that_nobody_asked_for_is_given_to_nobody() -> None:
    smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
    async with talking(OK + smuggled) as url:
        lines = Lines(url, spare=1)
        for _ in range(3):
            assert (await lines.post(b"", timeout_s=2.0)).body == b"ok"
        lines.close()
    async with talking(OK, smuggled, pause_s=0.02) as url:
        lines = Lines(url, spare=1)
        for _ in range(3):
            assert (await lines.post(b"", timeout_s=2.0)).body == b"ok"
            await asyncio.sleep(0.03)
        lines.close()


async def test_a_connection_that_was_closed_while_it_stood_idle_costs_no_call() -> None:
    asked = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.read(65_536)
        asked += 1
        writer.write(OK)
        # The next request is read and not answered: the server gives the connection up in that moment.
        await reader.read(65_536)
        writer.close()

    other = await asyncio.start_server(talk, "127.0.0.1", 0)
    lines = Lines(f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}", spare=1)
    for count in range(1, 4):
        assert (await lines.post(b"", timeout_s=2.0)).body == b"ok"
        assert asked == count
    lines.close()
    other.close()


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (200, '{"jsonrpc":"2.0","id":1,"result":"abc"}', None),
        (200, '{"jsonrpc":"2.0","id":1,"result":7}', BadAnswer),
        (200, "<html>", BadAnswer),
        (429, '{"jsonrpc":"2.0","id":1,"error":{"code":-32097,"message":"rate limited"}}', RateLimited),
        (503, "", ServerFailed),
        (400, '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"bundle tip too low"}}', Refused),
    ],
)
async def test_what_the_engine_says_of_a_bundle(status: int, text: str, expected: type[Exception] | None) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers={"Retry-After": "2"})

    bucket = TokenBucket(100.0, 10, time.monotonic_ns)
    async with server(answer) as url, BlockEngine(EngineSettings(url, auth="word"), bucket) as engine:
        told = await (await engine.take()).post(b"{}")
        if expected is None:
            assert engine.sent(told) == "abc"
            return
        with pytest.raises(expected) as failure:
            engine.sent(told)
        limited = isinstance(failure.value, RateLimited)
        assert engine.may_send() is not limited
        if isinstance(failure.value, RateLimited):
            assert failure.value.retry_after_s == 2.0
            assert 1.5 < bucket.wait_s() < 2.5


def test_nothing_shows_the_engines_secrets() -> None:
    settings = EngineSettings("https://engine.example/?key=secret", auth="word")
    engine = BlockEngine(settings)
    for shown in (repr(settings), repr(engine), repr(engine.lines), engine.host):
        assert "secret" not in shown
        assert "word" not in shown


def test_the_tip_floor_is_rounded_up_and_exact() -> None:
    told = b'[{"time":"x","landed_tips_25th_percentile":1.2536000000000002e-05,"landed_tips_50th_percentile":0.005}]'
    assert floor_of(told, 25, "host") == 12_537
    assert floor_of(told, 50, "host") == 5_000_000
    field = '[{"landed_tips_50th_percentile":%s}]'
    for text in ("", "[]", "{}", "[{}]", *(field % value for value in ('"x"', "1e30", "-1", "NaN", "null"))):
        with pytest.raises(BadAnswer):
            floor_of(text.encode(), 50, "host")


@pytest.mark.recorded
def test_the_recorded_tip_floor(recorded_data: Path) -> None:
    text = (recorded_data / "api/jito/tip_floor_20250111_partial.json").read_bytes()
    assert [floor_of(text, percentile, "host") for percentile in (25, 50, 75, 95, 99)] == [
        3_281,
        12_537,
        50_000,
        5_000_000,
        11_160_001,
    ]


def test_a_bundles_id_is_known_before_it_is_sent() -> None:
    assert bundle_id(["a", "b"]) == "1eb7c54d52831bbfe8942af0b1c56b7409523a59ed6ca99c1174fef7eb32c1b5"
