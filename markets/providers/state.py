"""How a provider is doing: its tokens, its breaker, its health. Pure; the clock is passed in."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from markets.limits import BreakerState, CircuitBreaker, TokenBucket
from markets.providers.answer import NOT_ITS_FAULT, BadAnswer, Reason
from markets.providers.provider import Provider

NS_PER_S = 1_000_000_000
WINDOW_S = 300
MAX_OUTCOMES = 512
# Of a server that does not say when to come back.
DEFAULT_HOLD_S = 1.0
MAX_HOLD_S = 60.0


@dataclass(frozen=True, slots=True)
class Patience:
    """What a provider bears, and how much of it is borne."""

    rate_per_s: float
    burst: int
    breaker_failures: int
    breaker_window: int
    breaker_open_s: float
    breaker_open_max_s: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    at_ns: int
    good: bool
    latency_ns: int


class ProviderState:
    """One provider and what is known of it."""

    def __init__(self, provider: Provider, patience: Patience, clock: Callable[[], int]) -> None:
        """Begin with a full bucket, a closed breaker and no record."""
        self.provider = provider
        self.bucket = TokenBucket(patience.rate_per_s, patience.burst, clock)
        self.breaker = CircuitBreaker(
            failures=patience.breaker_failures,
            window=patience.breaker_window,
            open_s=patience.breaker_open_s,
            open_max_s=patience.breaker_open_max_s,
            clock=clock,
        )
        self.good = 0
        self.bad: Counter[Reason] = Counter()
        self.asked = 0
        self.bytes_received = 0
        self._clock = clock
        self._recent: deque[_Outcome] = deque()
        self._recent_good = 0
        self._since_ns = self._seen_ns = clock()
        self._up_ns = 0
        self._was_closed = True

    @property
    def name(self) -> str:
        """Return the provider's name."""
        return self.provider.name

    @property
    def tokens(self) -> int:
        """Return how many requests the limit allows now."""
        # Waiting times grow with the number of tokens.
        return bisect_left(range(1, self.bucket.burst + 1), True, key=lambda n: self.bucket.wait_s(n) > 0)

    @property
    def capacity(self) -> int:
        """Return how many of a pair's two requests may be made now. Both are one trial of an open breaker."""
        if not self.breaker.ready:
            return 0
        if self.bucket.burst >= 2 and self.bucket.wait_s(2) <= 0:
            return 2
        return 1 if self.bucket.wait_s(1) <= 0 else 0

    @property
    def trial_due(self) -> bool:
        """Tell whether it is time to see if the provider is back."""
        return self.breaker.state is BreakerState.HALF_OPEN and self.breaker.ready

    def take(self, n: int) -> bool:
        """Take tokens for `n` requests that are made now."""
        if self.capacity < n or not self.breaker.allow():
            return False
        taken = self.bucket.take(n)
        assert taken, "the capacity counts tokens"
        self.asked += n
        return True

    def answered(self, latency_ns: int) -> None:
        """Note an answer that was believed."""
        self.good += 1
        self._note(good=True, latency_ns=latency_ns)
        self.breaker.success()
        self.look()

    def failed(self, bad: BadAnswer, latency_ns: int) -> None:
        """Note an answer that was not, or that did not come."""
        self.bad[bad.reason] += 1
        if bad.reason is Reason.RATE_LIMITED:
            self.bucket.hold(min(max(bad.retry_after_s, DEFAULT_HOLD_S), MAX_HOLD_S))
        if bad.reason in NOT_ITS_FAULT:
            # It answered; whether it answers well is not known from this.
            self.breaker.abandon()
        else:
            self._note(good=False, latency_ns=latency_ns)
            self.breaker.failure()
        self.look()

    def called_off(self) -> None:
        """Note a request that was given up for no fault of the provider."""
        self.breaker.abandon()

    def look(self) -> None:
        """Take note of the time: up while the breaker is closed."""
        now = self._clock()
        if self._was_closed:
            self._up_ns += now - self._seen_ns
        self._seen_ns = now
        self._was_closed = self.breaker.state is BreakerState.CLOSED

    @property
    def uptime(self) -> float:
        """Return the share of the time since the start in which the breaker was closed."""
        self.look()
        total = self._seen_ns - self._since_ns
        return self._up_ns / total if total else 1.0

    @property
    def reliability(self) -> float:
        """Return the share of good answers among those of the last minutes; 0 where there are none."""
        self._forget_old()
        return self._recent_good / len(self._recent) if self._recent else 0.0

    @property
    def known(self) -> bool:
        """Tell whether there is any recent answer."""
        self._forget_old()
        return bool(self._recent)

    def latency_ms(self, share: float) -> float:
        """Return a quantile of the good answers' times in the last minutes; 0 where there are none."""
        self._forget_old()
        times = sorted(outcome.latency_ns for outcome in self._recent if outcome.good)
        return times[min(int(share * len(times)), len(times) - 1)] / 1e6 if times else 0.0

    def _note(self, *, good: bool, latency_ns: int) -> None:
        if len(self._recent) == MAX_OUTCOMES:
            self._recent_good -= self._recent.popleft().good
        self._recent.append(_Outcome(self._clock(), good, latency_ns))
        self._recent_good += good

    def _forget_old(self) -> None:
        oldest = self._clock() - WINDOW_S * NS_PER_S
        while self._recent and self._recent[0].at_ns < oldest:
            self._recent_good -= self._recent.popleft().good
