"""Which endpoint has come how far: slots as the endpoints tell them. Pure; the clock is passed in."""

from __future__ import annotations

from dataclasses import dataclass

from markets.limits import NS_PER_S, Clock

# A slot takes 0.4 s; nobody is this far ahead of everybody else (a quarter of an hour).
MAX_AHEAD = 2_000
# Alone, an endpoint is held against its own last word and the time since, with two slots where one is usual.
_SLOT_NS = 200_000_000
_INSISTENCE = 5
"""Times in a row that an endpoint tells what cannot be until it is believed: the clock may have stood still."""


@dataclass(frozen=True, slots=True)
class _Seen:
    slot: int
    lag: int
    """Behind the best of the others when it said so: later the others' words are newer, which is no lag."""
    at_ns: int


class SlotBoard:
    """The newest slot of each endpoint. What was said longer ago than `fresh_s` counts no more."""

    def __init__(self, *, max_lag: int, fresh_s: float, clock: Clock) -> None:
        """Begin with nothing known."""
        self.max_lag = max_lag
        self._fresh_ns = int(fresh_s * NS_PER_S)
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._odd: dict[str, int] = {}

    def note(self, host: str, slot: int) -> bool:
        """Take in what an endpoint says; False for a slot so far ahead of all others that it cannot be.

        An endpoint may go back: it was asked through a balancer, or is another node now. Its last word counts.
        """
        others = max((seen.slot for name, seen in self._fresh().items() if name != host), default=None)
        before = self._seen.get(host)
        if others is not None and slot > others + MAX_AHEAD:
            return False
        if others is None and before is not None:
            passed = (self._clock() - before.at_ns) // _SLOT_NS
            odd = self._odd[host] = self._odd.get(host, 0) + 1 if slot > before.slot + passed + MAX_AHEAD else 0
            if 0 < odd < _INSISTENCE:
                return False
        self._odd.pop(host, None)
        self._seen[host] = _Seen(slot, max(0, (others or 0) - slot), self._clock())
        return True

    def forget(self, host: str) -> None:
        """Forget what an endpoint said: it is on another chain."""
        self._seen.pop(host, None)
        self._odd.pop(host, None)

    def slot(self, host: str) -> int:
        """Return the last slot of an endpoint, or 0."""
        seen = self._seen.get(host)
        return seen.slot if seen is not None else 0

    def best(self) -> int:
        """Return the newest slot of all, or 0."""
        return max((seen.slot for seen in self._fresh().values()), default=0)

    def lag(self, host: str) -> int:
        """Return how many slots an endpoint was behind the best; 0 where it said nothing lately."""
        seen = self._fresh().get(host)
        return seen.lag if seen is not None else 0

    def lagging(self, host: str) -> bool:
        """Tell whether an endpoint is too far behind to be read from."""
        return self.lag(host) > self.max_lag

    def _fresh(self) -> dict[str, _Seen]:
        horizon = self._clock() - self._fresh_ns
        return {host: seen for host, seen in self._seen.items() if seen.at_ns >= horizon}
