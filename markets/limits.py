"""Staying within a server's patience: a token bucket and a circuit breaker. Pure; the clock is passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

Clock = Callable[[], int]
"""A monotonic clock in ns, such as `time.monotonic_ns`."""

NS_PER_S = 1_000_000_000


class TokenBucket:
    """At most `burst` at once and `rate_per_s` in the long run.

    In every span of `t` seconds it gives at most `burst + rate_per_s * t` tokens. A clock that goes back gives nothing.
    """

    def __init__(self, rate_per_s: float, burst: int, clock: Clock) -> None:
        """Start with a full bucket."""
        if not rate_per_s > 0 or burst < 1:
            raise ValueError(f"a rate is positive and a burst at least 1, not {rate_per_s} and {burst}")
        # The time that one token takes to grow, rounded against us.
        self._token_ns = -int(-NS_PER_S // rate_per_s)
        self._burst_ns = self._token_ns * burst
        self.burst = burst
        self._clock = clock
        # When the bucket will be full again: the whole state.
        self._full_ns = clock()

    def take(self, n: int = 1) -> bool:
        """Take `n` tokens if there are so many; else take none."""
        if self.wait_s(n) > 0:
            return False
        self._full_ns = max(self._full_ns, self._clock()) + n * self._token_ns
        return True

    @property
    def roomy(self) -> bool:
        """Tell whether more than half of the burst is left: what can wait takes its tokens from that half alone."""
        return self.burst > 1 and self.wait_s(self.burst // 2 + 1) == 0

    def wait_s(self, n: int = 1) -> float:
        """Return how long it takes until there are `n` tokens, if nobody takes any: 0 when they are there."""
        if not 1 <= n <= self.burst:
            raise ValueError(f"{n} tokens never are in a bucket of {self.burst}")
        now = self._clock()
        return max(0, max(self._full_ns, now) + n * self._token_ns - now - self._burst_ns) / NS_PER_S

    def hold(self, seconds: float) -> None:
        """Give nothing for so long: the server said when it will answer again. What has grown until now is lost."""
        self._full_ns = max(self._full_ns, self._clock() + int(seconds * NS_PER_S) + self._burst_ns - self._token_ns)


class BreakerState(Enum):
    """Whether calls may be made."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    """One call at a time may try whether the server is back."""


class CircuitBreaker:
    """Stops calls to a server that fails, and lets one try after a while.

    It opens at `failures` failures among the last `window` outcomes, for `open_s`; each trial that fails doubles that,
    up to `open_max_s`. A trial that succeeds closes it. A trial whose outcome is never told counts for `open_s` only.
    """

    def __init__(self, *, failures: int, window: int, open_s: float, open_max_s: float, clock: Clock) -> None:
        """Start closed."""
        if not 1 <= failures <= window or not 0 < open_s <= open_max_s:
            raise ValueError(f"a breaker of {failures} failures in {window}, {open_s} to {open_max_s} s")
        self._failures = failures
        self._outcomes: deque[bool] = deque(maxlen=window)
        self._open_s = open_s
        self._open_max_s = open_max_s
        self._clock = clock
        self._wait_s = open_s
        self._opened_ns: int | None = None
        self._trial_ns: int | None = None
        self.opened = 0
        """How often it opened."""

    @property
    def state(self) -> BreakerState:
        """Return the present state."""
        if self._opened_ns is None:
            return BreakerState.CLOSED
        waited = self._clock() - self._opened_ns >= self._wait_s * NS_PER_S
        return BreakerState.HALF_OPEN if waited else BreakerState.OPEN

    @property
    def ready(self) -> bool:
        """Tell whether `allow` would say yes, without taking the trial."""
        state = self.state
        if state is not BreakerState.HALF_OPEN:
            return state is BreakerState.CLOSED
        return self._trial_ns is None or self._clock() - self._trial_ns >= self._open_s * NS_PER_S

    @property
    def wait_s(self) -> float:
        """Return how long it takes until `ready` can be true: 0 when it is."""
        if self.ready or self._opened_ns is None:
            return 0.0
        begun, pause_s = (self._opened_ns, self._wait_s) if self._trial_ns is None else (self._trial_ns, self._open_s)
        return max(0.0, pause_s - (self._clock() - begun) / NS_PER_S)

    def allow(self) -> bool:
        """Tell whether a call may be made now; in the half-open state a yes is for one caller."""
        if not self.ready:
            return False
        if self.state is BreakerState.HALF_OPEN:
            self._trial_ns = self._clock()
        return True

    def success(self) -> None:
        """Note a call that succeeded. Of a call begun before the breaker opened, it changes nothing."""
        match self.state:
            case BreakerState.CLOSED:
                self._outcomes.append(True)
            case BreakerState.HALF_OPEN:
                self._opened_ns = self._trial_ns = None
                self._wait_s = self._open_s
                self._outcomes.clear()

    def failure(self) -> None:
        """Note a call that failed."""
        match self.state:
            case BreakerState.CLOSED:
                self._outcomes.append(False)
                if self._outcomes.count(False) >= self._failures:
                    self._open()
            case BreakerState.HALF_OPEN:
                self._wait_s = min(self._wait_s * 2, self._open_max_s)
                self._open()

    def abandon(self) -> None:
        """Give a trial back that was neither: the call was called off."""
        self._trial_ns = None

    def _open(self) -> None:
        self._opened_ns = self._clock()
        self._trial_ns = None
        self._outcomes.clear()
        self.opened += 1
