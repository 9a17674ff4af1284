"""The gate's own connection to the NATS server: opened on the gate's thread, read without waiting ever after."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import secrets
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pipeline.permit.protocol import Frame, Message, Parser, Ping, Pong, ProtocolError, ServerError, ServerInfo
from pipeline.permit.state import boottime_ns

if TYPE_CHECKING:
    pass

__all__ = [
    "LATCH_BUCKET",
    "LATCH_KEY",
    "LATCH_SID",
    "MANAGER_KEY",
    "PERMIT_SID",
    "SWITCH_SID",
    "Link",
    "LinkError",
    "Login",
    "latch_of",
]

LATCH_BUCKET = "permit"
LATCH_KEY = "latch"
MANAGER_KEY = "manager"
"""What the system manager in office says of itself."""
SWITCH_SUBJECT = "system.kill_switch"
PERMIT_SUBJECT = "system.permit"
SWITCH_SID, PERMIT_SID, LATCH_SID = 1, 2, 3

_LATCH_REQUEST = f"$JS.API.STREAM.MSG.GET.KV_{LATCH_BUCKET}"
_LATCH_BODY = json.dumps({"last_by_subj": f"$KV.{LATCH_BUCKET}.{LATCH_KEY}"}).encode()
# JetStream's own numbers for "there is none": no such message, no such stream.
_NOTHING_LATCHED = frozenset({10037, 10059})
_CHUNK = 65_536
# More than this unread at once is a flood, and a gate that cannot reach its end stays closed.
_MAX_DRAIN = 1 << 20


class LinkError(Exception):
    """The connection is of no further use, and why."""


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach the server and who we are."""

    url: str
    name: str
    user: str = ""
    password: str = ""
    token: str = ""
    credentials_file: str = ""
    timeout_s: float = 2.0
    tls: ssl.SSLContext | None = None


class Link:
    """One connection, subscribed to the kill switch and the permit."""

    def __init__(self, connection: socket.socket, parser: Parser, early: list[Frame]) -> None:
        """Take over a connection whose handshake is done, with the frames that came during it."""
        self._socket = connection
        self._parser = parser
        self._early: deque[Frame] = deque(early)
        self._buffer = bytearray(_CHUNK)
        self._asked_ns = 0
        # When the last of our pings was sent that the server has answered.
        self.proven_ns = 0
        self.heard_ns = boottime_ns()
        self.dead = False

    @classmethod
    def open(cls, login: Login) -> Link:
        """Connect, log in, subscribe and read the latch, trying every server of the list once; raise LinkError."""
        problems: list[str] = []
        for server in login.url.split(","):
            try:
                return cls._open_one(server.strip(), login)
            except (OSError, LinkError, ProtocolError, ValueError) as error:
                problems.append(f"{_without_login(server)}: {error or type(error).__name__}")
        raise LinkError("; ".join(problems))

    @classmethod
    def _open_one(cls, server: str, login: Login) -> Link:
        parts = urlsplit(server)
        if parts.scheme not in ("nats", "tls"):
            raise LinkError(f"the gate speaks nats:// and tls://, not {parts.scheme}://")
        deadline = time.monotonic() + login.timeout_s
        host = parts.hostname or "127.0.0.1"
        connection: socket.socket = socket.create_connection((host, parts.port or 4222), timeout=login.timeout_s)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            parser = Parser()
            frames: list[Frame] = []
            info = _server_info(connection, parser, frames, deadline)
            secure = parts.scheme == "tls" or bool(info.get("tls_required")) or login.tls is not None
            if secure:
                context = login.tls or ssl.create_default_context()
                connection = context.wrap_socket(connection, server_hostname=host)
            link = cls(connection, parser, [])
            inbox = f"_INBOX.{secrets.token_hex(11)}"
            options = _connect_options(info, parts.username, parts.password, login, secure=secure)
            asked_ns = boottime_ns()
            connection.sendall(
                b"CONNECT %s\r\nSUB %s %d\r\nSUB %s %d\r\nSUB %s %d\r\nPUB %s %s %d\r\n%s\r\nPING\r\n"
                % (
                    json.dumps(options).encode(),
                    *(SWITCH_SUBJECT.encode(), SWITCH_SID),
                    *(PERMIT_SUBJECT.encode(), PERMIT_SID),
                    *(inbox.encode(), LATCH_SID),
                    *(_LATCH_REQUEST.encode(), inbox.encode(), len(_LATCH_BODY), _LATCH_BODY),
                )
            )
            # The answers come in any order: the server's PONG, and the latch from JetStream.
            waiting = {"pong", "latch"}
            while waiting:
                for frame in _receive(connection, parser, deadline):
                    match frame:
                        case Pong():
                            waiting.discard("pong")
                            link.proven_ns = asked_ns
                        case Ping():
                            connection.sendall(b"PONG\r\n")
                        case ServerError(text):
                            raise LinkError(f"the server says: {text}")
                        case Message(sid=sid):
                            if sid == LATCH_SID:
                                waiting.discard("latch")
                            link._early.append(frame)
                        case ServerInfo():
                            pass
            connection.setblocking(False)
            return link
        except BaseException:
            connection.close()
            raise

    def fileno(self) -> int:
        """Return the socket's number, to wait on."""
        return self._socket.fileno()

    def drain(self) -> tuple[list[tuple[Message, int]], bool]:
        """Read what has arrived; return its messages and whether the end was reached. Raise LinkError.

        Never waits. With each message comes the moment of our last ping that the server had answered before it: the
        message was passed on after that moment, however long it lay in a buffer. Pings are answered on the way.
        """
        messages: list[tuple[Message, int]] = []
        while self._early:
            self._take(self._early.popleft(), messages)
        total = 0
        while total < _MAX_DRAIN:
            try:
                size = self._socket.recv_into(self._buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                return messages, True
            except OSError as error:
                raise LinkError(str(error) or type(error).__name__) from error
            if size == 0:
                raise LinkError("the server closed the connection")
            total += size
            self.heard_ns = boottime_ns()
            try:
                frames = self._parser.feed(memoryview(self._buffer)[:size])
            except ProtocolError as error:
                raise LinkError(f"not understood: {error}") from error
            for frame in frames:
                self._take(frame, messages)
        return messages, False

    def ask(self, now_ns: int) -> None:
        """Send a ping, unless one is unanswered: the next permit's lease counts from the last answered one."""
        if self._asked_ns == 0:
            self._asked_ns = now_ns
            self._send(b"PING\r\n")

    @property
    def unanswered_since_ns(self) -> int:
        """Return when the unanswered ping was sent, 0 where there is none."""
        return self._asked_ns

    def abandon(self) -> None:
        """Shut the connection down so that the thread that waits on it wakes; it closes it."""
        self.dead = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self.dead = True
        self._socket.close()

    def _take(self, frame: Frame, messages: list[tuple[Message, int]]) -> None:
        match frame:
            case Message():
                messages.append((frame, self.proven_ns))
            case Ping():
                self._send(b"PONG\r\n")
            case Pong():
                if self._asked_ns:
                    self.proven_ns, self._asked_ns = self._asked_ns, 0
            case ServerError(text):
                raise LinkError(f"the server says: {text}")
            case ServerInfo():
                pass

    def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except OSError as error:  # a full buffer included: the server has stopped reading
            raise LinkError(f"cannot send: {error}") from error
        if sent != len(data):
            raise LinkError("cannot send: the server has stopped reading")


def latch_of(reply: Message) -> bytes | None:
    """Return the latched bytes from JetStream's reply, None where nothing was ever latched; raise LinkError."""
    if reply.status:
        raise LinkError(f"JetStream does not answer (status {reply.status})")
    try:
        answer = json.loads(reply.payload)
        if "error" in answer:
            if answer["error"].get("err_code") in _NOTHING_LATCHED:
                return None
            raise LinkError(f"the latch cannot be read: {answer['error'].get('description', answer['error'])}")
        return base64.b64decode(answer["message"].get("data", ""), validate=True)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise LinkError("JetStream's answer about the latch makes no sense") from error


def _receive(connection: socket.socket, parser: Parser, deadline: float) -> list[Frame]:
    left = deadline - time.monotonic()
    if left <= 0:
        raise LinkError("no answer in time")
    connection.settimeout(left)
    try:
        data = connection.recv(_CHUNK)
    except TimeoutError:
        raise LinkError("no answer in time") from None
    if not data:
        raise LinkError("the server closed the connection")
    return parser.feed(data)


def _server_info(connection: socket.socket, parser: Parser, frames: list[Frame], deadline: float) -> Mapping[str, Any]:
    """Read the server's INFO, byte-exact: what follows it may already be TLS."""
    while not frames:
        frames += _receive(connection, parser, deadline)
    match frames.pop(0):
        case ServerInfo(text):
            info = json.loads(text)
            if isinstance(info, dict):
                return info
            raise LinkError("the server's INFO makes no sense")
        case ServerError(text):
            raise LinkError(f"the server says: {text}")
        case other:
            raise LinkError(f"no NATS server: it began with {type(other).__name__}")


def _connect_options(
    info: Mapping[str, Any], url_user: str | None, url_password: str | None, login: Login, *, secure: bool
) -> dict[str, object]:
    options: dict[str, object] = {
        "verbose": False,
        "pedantic": False,
        "tls_required": secure,
        "name": login.name,
        "lang": "python-permit-gate",
        "version": "1",
        "protocol": 1,
        "echo": True,
        "headers": True,
        "no_responders": True,
    }
    user = login.user or unquote(url_user or "")
    if login.credentials_file:
        options |= _signed(str(info.get("nonce", "")), Path(login.credentials_file).expanduser())
    elif login.token:
        options["auth_token"] = login.token
    elif user and (login.password or url_password):
        options |= {"user": user, "pass": login.password or unquote(url_password or "")}
    elif user:  # nats://token@host
        options["auth_token"] = user
    return options


def _signed(nonce: str, path: Path) -> dict[str, object]:
    """Return the login by a credentials file: its JWT, and the server's nonce signed with its seed."""
    try:
        import nkeys  # type: ignore[import-not-found,unused-ignore]  # optional: only credentials files need it
    except ImportError:
        raise LinkError("a credentials file needs the package nkeys: pip install nkeys") from None
    sections: dict[str, str] = {}
    name = ""
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("-----BEGIN "):
            name = line.strip("- ").removeprefix("BEGIN ")
        elif line.startswith("---"):
            name = ""
        elif name and line.strip():
            sections[name] = sections.get(name, "") + line.strip()
    try:
        seed = bytearray(sections["USER NKEY SEED"].encode())
        signature = nkeys.from_seed(seed).sign(nonce.encode())
        return {"jwt": sections["NATS USER JWT"], "sig": base64.urlsafe_b64encode(signature).rstrip(b"=").decode()}
    except KeyError as missing:
        raise LinkError(f"{path} has no {missing} section") from None


def _without_login(server: str) -> str:
    """Return an address without user, password or token, for messages."""
    return server.strip().rsplit("@", 1)[-1].split("://")[-1]
