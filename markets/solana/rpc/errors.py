"""What can go wrong with a call, as types. No message holds an endpoint's URL: they carry keys. The host names it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

# Different failures in one message.
_NAMED = 3


class RpcError(Exception):
    """A call that gave no answer that can be used."""


class Refused(RpcError):
    """The node understood and refused: asking another one would not help.

    `code` is the JSON-RPC error's.
    """

    def __init__(self, method: str, code: int, message: str) -> None:
        """Keep the node's words, shortened."""
        self.method, self.code = method, code
        super().__init__(f"{method} was refused: {shown(message)} ({code})")


class Unanswered(RpcError):
    """Every attempt failed; `causes` are the attempts' failures in order."""

    def __init__(self, method: str, causes: list[AttemptFailed], states: Mapping[str, str]) -> None:
        """Name the last failures, each once, or why no endpoint could be asked at all."""
        self.method, self.causes = method, causes
        counts = Counter(str(cause) for cause in causes)
        latest = [*dict.fromkeys(str(cause) for cause in reversed(causes))][:_NAMED]
        why = "; ".join(f"{counts[words]} attempts: {words}" if counts[words] > 1 else words for words in latest[::-1])
        why = why or ", ".join(f"{host} {state}" for host, state in states.items()) or "no endpoint is configured"
        super().__init__(f"{method} has no answer: {why}")


class AttemptFailed(RpcError):
    """One endpoint did not give what was asked for; another one may."""

    blames = True
    """Whether it counts against the endpoint."""

    def __init__(self, host: str, what: str) -> None:
        """Name the endpoint by its host."""
        self.host, self.what = host, what
        super().__init__(f"{host} {what}")


class Unreachable(AttemptFailed):
    """No connection, or it broke."""


class TimedOut(AttemptFailed):
    """No whole answer in time."""


class ServerFailed(AttemptFailed):
    """An HTTP status of 5xx, or a JSON-RPC error of the node's own."""


class BadAnswer(AttemptFailed):
    """An answer that is not what the method gives: truncated, of another shape, impossible."""


class RateLimited(AttemptFailed):
    """Too many requests: HTTP 429, or the JSON-RPC error that some providers give instead."""

    def __init__(self, host: str, retry_after_s: float | None) -> None:
        """Keep when the server wants to be asked again, if it said so."""
        self.retry_after_s = retry_after_s
        super().__init__(host, "limits the rate" + (f" for {retry_after_s:g} s" if retry_after_s is not None else ""))


class Denied(AttemptFailed):
    """HTTP 401 or 403: the key in the URL is not accepted, or not for this."""


class Behind(AttemptFailed):
    """The node has not reached the slot that was asked for. It is healthy otherwise."""

    blames = False


class NotAllowed(AttemptFailed):
    """Called off in the last moment before it would have been written."""

    blames = False


class Unsupported(AttemptFailed):
    """The endpoint does not serve this method, or not for these accounts."""

    blames = False


# https://github.com/anza-xyz/agave: rpc-client-api/src/custom_error.rs, and JSON-RPC 2.0.
NODE_UNHEALTHY = -32005
MIN_CONTEXT_SLOT_NOT_REACHED = -32016
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INVALID_REQUEST = -32600
PARSE_ERROR = -32700
INTERNAL_ERROR = -32603
_BEHIND = {NODE_UNHEALTHY, MIN_CONTEXT_SLOT_NOT_REACHED, -32004, -32014}
_UNSUPPORTED = {METHOD_NOT_FOUND, -32010, -32011}
_NODE = {INTERNAL_ERROR, -32008, -32012, -32019}
_RATE = {-32429, 429, -32097}  # the last one is a block engine's: "Network congested"


def failure_of(host: str, method: str, code: int, message: str) -> RpcError:
    """Return a JSON-RPC error as the type that says what to do about it."""
    if code in _RATE:
        return RateLimited(host, None)
    if code in _BEHIND:
        return Behind(host, f"is behind: {shown(message)} ({code})")
    if code in _UNSUPPORTED:
        return Unsupported(host, f"does not serve {method}: {shown(message)} ({code})")
    if code in _NODE:
        return ServerFailed(host, f"failed inside: {shown(message)} ({code})")
    return Refused(method, code, message)


def shown(text: str) -> str:
    """Return a server's own words for a log: short, printable, and no address that could hold a key."""
    words = ["<address>" if "://" in word else word for word in text[:500].split()]
    line = "".join(char if char.isprintable() else "?" for char in " ".join(words))
    return line if len(line) <= 120 else line[:117] + "..."
