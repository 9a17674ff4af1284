"""Who is asked for which direction of a pair. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from markets.providers.answer import Ask
from markets.providers.cache import Kept
from markets.providers.state import ProviderState

# A provider of which nothing is known yet deserves a try.
UNKNOWN_RELIABILITY = 0.5
RELIABILITY_STEPS = 4


class Pair(NamedTuple):
    """Both directions of two tokens, each for its own amount."""

    forward: Ask
    reverse: Ask

    @property
    def name(self) -> str:
        """Return a name for logs: the two mints."""
        return f"{self.forward.token_in}/{self.forward.token_out}"


class Chosen(NamedTuple):
    """Who is asked what; the tokens are not taken yet."""

    forward: ProviderState
    reverse: ProviderState


def choose(
    pair: Pair,
    states: Sequence[ProviderState],
    kept: Callable[[str, Ask], Kept | None],
    *,
    urgent: bool,
    avoid: frozenset[str] = frozenset(),
) -> Chosen | None:
    """Return who is to be asked now, or None where both directions cannot be asked at once.

    Both go to one provider that has two tokens. Where none has, a pair that is urgent goes to two providers, one
    direction each; one that is not waits. `kept` tells what is known with a fresh route; `avoid` names who has just
    failed: they are asked last.
    """
    ready = [(state, capacity) for state in states if (capacity := state.capacity) > 0]
    able = [state for state, capacity in ready if capacity >= 2]
    split = not able
    if split and not (urgent and len(ready) >= 2):
        return None
    ranked = sorted(able or [state for state, _ in ready], key=lambda state: _rank(pair, state, kept, avoid))
    return Chosen(ranked[0], ranked[1] if split else ranked[0])


def _rank(
    pair: Pair, state: ProviderState, kept: Callable[[str, Ask], Kept | None], avoid: frozenset[str]
) -> tuple[bool, int, float, int, str]:
    """Return what providers are sorted by; the first is asked.

    A provider whose breaker waits for a trial comes first, or it would never be tried while others answer. A route
    that is fresh is followed where it gives most. Else the more reliable ones, and among these whoever was asked least.
    """
    forward, reverse = kept(state.name, pair.forward), kept(state.name, pair.reverse)
    avoided = state.name in avoid
    if state.trial_due:
        return avoided, 0, 0.0, state.asked, state.name
    if forward is not None and reverse is not None:
        gives = float(forward.answer.amount_out) * float(reverse.answer.amount_out)
        return avoided, 1, -gives, state.asked, state.name
    reliability = state.reliability if state.known else UNKNOWN_RELIABILITY
    # In steps, so that one bad answer in a hundred does not send everything elsewhere.
    return avoided, 2, -round(reliability * RELIABILITY_STEPS), state.asked, state.name
