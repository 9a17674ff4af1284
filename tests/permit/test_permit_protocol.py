"""The gate's parser of the NATS protocol: cut anywhere it reads the same; what it does not know is an error."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.permit.protocol import (
    MAX_LINE,
    Frame,
    Message,
    Parser,
    Ping,
    Pong,
    ProtocolError,
    ServerError,
    ServerInfo,
)

STREAM = (
    b'INFO {"server_id":"x"}\r\nPING\r\nPONG\r\n+OK\r\nMSG system.permit 2 5\r\nhello\r\n'
    b"HMSG system.kill_switch 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\nHMSG _INBOX.a 3 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"MSG a.b 7 reply.to 0\r\n\r\n-ERR 'Authorization Violation'\r\n"
)
FRAMES: list[Frame] = [
    ServerInfo(b'{"server_id":"x"}'),
    Ping(),
    Pong(),
    Message("system.permit", 2, b"hello"),
    Message("system.kill_switch", 1, b"hello"),
    Message("_INBOX.a", 3, b"", 503),
    Message("a.b", 7, b""),
    ServerError("Authorization Violation"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cut_anywhere_it_reads_the_same(cuts: list[int]) -> None:
    parser = Parser()
    frames: list[Frame] = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        frames += parser.feed(STREAM[start:end])
    assert frames == FRAMES
    assert parser.pending == 0


@given(st.binary(max_size=40).map(lambda body: body.replace(b"\r", b"").replace(b"\n", b"")))
def test_a_payload_may_hold_anything(body: bytes) -> None:
    payload = b"\r\nPING\r\n" + body + b"\r\n"
    assert Parser().feed(b"MSG s 1 %d\r\n%s\r\n" % (len(payload), payload)) == [Message("s", 1, payload)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"MSG\r\n",
        b"MSG a b\r\n",
        b"MSG a 1 -5\r\n",
        b"MSG a 1 5x\r\n",
        b"MSG a 1 99999999999\r\n",
        b"MSG a 1 999999999\r\n",
        b"MSG a 1 2\r\nabcd\r\n",
        b"HMSG a 1 9 5\r\n12345\r\n",
        b"MSG a 1 2 3 4 5\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n",
        b"x" * MAX_LINE,
    ],
)
def test_garbage_is_an_error(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        Parser().feed(garbage)


@settings(max_examples=1000)
@given(st.binary(max_size=300), st.integers(0, len(STREAM)))
def test_anything_gives_frames_or_an_error_and_nothing_else(noise: bytes, at: int) -> None:
    parser = Parser()
    try:
        frames = parser.feed(STREAM[:at] + noise)
    except ProtocolError:
        return
    assert len(frames) <= at + len(noise)
    assert parser.pending <= at + len(noise)
