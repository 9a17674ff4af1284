"""One endpoint: how it is reached, and what is known of its health. Pure; the clock is passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from markets.limits import BreakerState, CircuitBreaker, Clock, TokenBucket
from markets.solana.rpc.errors import AttemptFailed, Denied, RateLimited, Unsupported

NS_PER_MS = 1_000_000
_KEEP = 256
_EWMA_SHARE = 0.2
# How long a method that an endpoint does not serve is not asked of it again.
_UNSUPPORTED_S = 600.0
# When a server limits the rate without saying for how long.
_RETRY_AFTER_S = 1.0
_RETRY_AFTER_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """How an endpoint is reached. The URLs hold keys: they are in no `repr`, the host stands for them."""

    url: str = field(repr=False)
    websocket_url: str = field(default="", repr=False)
    """Empty: the same URL with ws or wss."""
    rate_per_s: float = 10.0
    burst: int = 10

    def __post_init__(self) -> None:
        """Refuse what is no URL, without repeating it."""
        for url, schemes in ((self.url, ("http", "https")), (self.websocket_url or self.url, _WEBSOCKET_SCHEMES)):
            try:
                parts = urlsplit(url)
                fits = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:
                fits = False
            if not fits:
                raise ValueError("an endpoint's URL begins with http:// or https:// (ws, wss) and a host")

    @property
    def host(self) -> str:
        """Return the host, and the port where one is given: all that may be shown."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    @property
    def socket_url(self) -> str:
        """Return the websocket's address."""
        return self.websocket_url or "ws" + self.url.removeprefix("http")


_WEBSOCKET_SCHEMES = ("ws", "wss", "http", "https")


def endpoints_in(text: str, rate_per_s: float, burst: int) -> list[EndpointSettings]:
    """Return the endpoints of a list of addresses: each HTTP address with the websocket's that follows it, if one does.

    Raises:
        ValueError: if one is no address. It does not say which: addresses hold keys.
    """
    found: list[tuple[str, str]] = []
    for address in text.replace(",", " ").split():
        if address.startswith("ws") and found:
            found[-1] = (found[-1][0], address)
        else:
            found.append((address, ""))
    return [EndpointSettings(url, socket, rate_per_s, burst) for url, socket in found]


def offline_endpoint(url: str) -> EndpointSettings:
    """Return the offline chain's node: it is on this machine, and limits nothing but by its faults."""
    return EndpointSettings(url, rate_per_s=100_000.0, burst=100_000)


class Latencies:
    """The last few hundred durations: their moving average and quantiles."""

    def __init__(self) -> None:
        """Begin with none."""
        self._recent: deque[int] = deque(maxlen=_KEEP)
        self._sorted: list[int] | None = None
        self.average_ms: float | None = None

    def add(self, duration_ns: int) -> None:
        """Take one in."""
        self._recent.append(duration_ns)
        self._sorted = None
        ms = duration_ns / NS_PER_MS
        self.average_ms = ms if self.average_ms is None else self.average_ms + _EWMA_SHARE * (ms - self.average_ms)

    def quantile_ms(self, quantile: float) -> float | None:
        """Return a quantile of the recent ones; None where there are none."""
        if not self._recent:
            return None
        if self._sorted is None:
            self._sorted = sorted(self._recent)
        return self._sorted[min(len(self._sorted) - 1, int(quantile * len(self._sorted)))] / NS_PER_MS


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    """What an endpoint shows to people and to Prometheus."""

    host: str
    state: str
    """ready, limited, lagging, open, half_open, other_chain"""
    calls: int
    failures: int
    rate_limited: int
    success_ratio: float
    latency_ms: float
    latency_p50_ms: float
    latency_p99_ms: float
    opened: int
    slot: int
    lag: int


class Endpoint:
    """What is known of one endpoint."""

    def __init__(
        self, name: str, settings: EndpointSettings, breaker: Callable[[], CircuitBreaker], clock: Clock
    ) -> None:
        """Begin as if all were well."""
        self.settings = settings
        self.host = name
        self.bucket = TokenBucket(settings.rate_per_s, settings.burst, clock)
        self.breaker = breaker()
        self.latencies = Latencies()
        self.calls = self.failures = self.rate_limited = 0
        self.chain: str | None = None
        """Genesis hash of the chain it serves, once known."""
        self.other_chain = False
        self.looks = 0
        self._clock = clock
        self._outcomes: deque[bool] = deque(maxlen=100)
        self._unsupported: dict[str, int] = {}

    def __repr__(self) -> str:
        """Name the endpoint by its host alone."""
        return f"Endpoint({self.host})"

    @property
    def success_ratio(self) -> float:
        """Return the share of the last hundred calls that succeeded; 1 before the first."""
        return sum(self._outcomes) / len(self._outcomes) if self._outcomes else 1.0

    @property
    def cost(self) -> float:
        """Return what a call is expected to take, failures included: the lowest is asked first. 0 where unknown."""
        return (self.latencies.average_ms or 0.0) / max(self.success_ratio, 0.05)

    def serves(self, method: str) -> bool:
        """Tell whether the method may be asked of this endpoint at all."""
        return not self.other_chain and self._clock() >= self._unsupported.get(method, 0)

    def wait_s(self) -> float:
        """Return how long it takes until a call may be made: 0 when it may now."""
        return max(self.bucket.wait_s(), self.breaker.wait_s)

    def take(self) -> bool:
        """Take the right to make one call, if there is one."""
        # The bucket first: a trial of the breaker that is not made would be lost.
        return self.breaker.ready and self.bucket.take() and self.breaker.allow()

    def succeeded(self, duration_ns: int) -> None:
        """Note a good answer."""
        self._ended(True)
        self.latencies.add(duration_ns)
        self.breaker.success()

    def failed(self, method: str, failure: AttemptFailed) -> None:
        """Note a failure, and what it says about the next calls."""
        self._ended(not failure.blames)
        match failure:
            case RateLimited():
                self.rate_limited += 1
                asked = _RETRY_AFTER_S if failure.retry_after_s is None else failure.retry_after_s
                self.bucket.hold(min(asked, _RETRY_AFTER_MAX_S))
                # It answered: to hold back is all that it asks for.
                self.breaker.abandon()
                return
            case Unsupported():
                self._unsupported[method] = self._clock() + int(_UNSUPPORTED_S * 1e9)
            case Denied():
                pass
        if failure.blames:
            self.breaker.failure()
        else:
            self.breaker.success()

    def abandoned(self, duration_ns: int) -> None:
        """Note a call that was called off: another endpoint was faster. So slow it was at least."""
        self.calls += 1
        self.breaker.abandon()
        if duration_ns / NS_PER_MS > (self.latencies.average_ms or 0.0):
            self.latencies.add(duration_ns)

    def figures(self, slot: int, lag: int, *, lagging: bool) -> EndpointFigures:
        """Return everything that is shown."""
        return EndpointFigures(
            host=self.host,
            state=self.state(lagging=lagging),
            calls=self.calls,
            failures=self.failures,
            rate_limited=self.rate_limited,
            success_ratio=self.success_ratio,
            latency_ms=self.latencies.average_ms or 0.0,
            latency_p50_ms=self.latencies.quantile_ms(0.5) or 0.0,
            latency_p99_ms=self.latencies.quantile_ms(0.99) or 0.0,
            opened=self.breaker.opened,
            slot=slot,
            lag=lag,
        )

    def state(self, *, lagging: bool) -> str:
        """Return in one word whether the endpoint is used, or why not."""
        if self.other_chain:
            return "other_chain"
        if self.breaker.state is not BreakerState.CLOSED:
            return str(self.breaker.state.value)
        if lagging:
            return "lagging"
        return "limited" if self.bucket.wait_s() > 0 else "ready"

    def _ended(self, good: bool) -> None:
        self.calls += 1
        self.failures += not good
        self._outcomes.append(good)


def names_apart(settings: Sequence[EndpointSettings]) -> list[str]:
    """Return a name for each endpoint: the host, numbered where several have the same."""
    hosts = [one.host for one in settings]
    return [f"{host}#{hosts[:at].count(host) + 1}" if hosts.count(host) > 1 else host for at, host in enumerate(hosts)]
