"""Who is asked for what and when, with a clock that is set by hand: limits, pairs, retries, the breaker, the cache."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import PATIENCE, SOL_USDC, TERMS, providers_at

from localnet.provider_quotes import Hop, Quoted, jupiter
from markets.limits import BreakerState
from markets.providers.answer import Ask, BadAnswer, Known, Reason
from markets.providers.cache import SplitCache
from markets.providers.choose import Pair
from markets.providers.desk import Desk, PairSaid, Terms
from markets.providers.fetch import Body, Exchange
from markets.providers.provider import Request
from markets.providers.state import Patience
from markets.tokens import load_registry

S = 1_000_000_000
POOL = "HXpGFJGCEEFdV31tDmjDBaJMEB1fKLiAoKoWr3Fnonid"
# One request a second, two at once: the default.
SLOW = replace(PATIENCE, rate_per_s=1.0, burst=2)


@dataclass
class World:
    """A clock set by hand and a network that answers at once."""

    now_ns: int = 1_000 * S
    failing: dict[str, Reason] = field(default_factory=dict)
    sent: list[tuple[int, str, Ask, bool]] = field(default_factory=list)
    """When, whom, what, and whether along a known route."""
    delay_ns: dict[str, int] = field(default_factory=dict)
    extra_bytes: int = 0

    def clock(self) -> int:
        return self.now_ns

    async def pause(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)

    async def get(self, request: Request, timeout_s: float, exchange: Exchange) -> Body:
        name = request.url.split("/")[3]
        ask = Ask(
            request.params["inputMint"],
            request.params["outputMint"],
            int(request.params["amount"]),
            int(request.params["slippageBps"]),
        )
        exchange.sent_ns = self.now_ns + self.delay_ns.get(name, 0)
        self.sent.append((exchange.sent_ns, name, ask, "dexes" in request.params))
        if name in self.failing:
            raise BadAnswer(self.failing[name], retry_after_s=3.0)
        hop = Hop(POOL, "Whirlpool", ask.token_in, ask.token_out, ask.amount_in, 500, 100)
        quoted = Quoted(ask.token_in, ask.token_out, ask.amount_in, 500, 0.0, (hop,), 0, {})
        body = json.dumps(jupiter(quoted, ask.slippage_bps)).encode()
        exchange.wire_bytes = len(body) + (0 if "dexes" in request.params else self.extra_bytes)
        return Body(200, body)


def desk(
    world: World,
    names: Sequence[str] = ("jupiter_lite", "jupiter_pro"),
    patience: Patience = SLOW,
    terms: Terms = TERMS,
) -> Desk:
    return Desk(
        [(provider, patience) for provider in providers_at("http://host", names)],
        terms,
        SplitCache(world.clock, 30.0),
        world,
        clock=world.clock,
        draw=lambda: 1.0,
        pause=world.pause,
    )


def ask(desk: Desk, pair: Pair = SOL_USDC, *, urgent: bool = False) -> PairSaid | None:
    chosen = desk.take(pair, urgent=urgent)
    if chosen is None:
        return None
    return asyncio.run(desk.ask(pair, chosen, 10.0, lambda _ask: Known()))


def test_two_tokens_ask_both_directions_of_one_provider() -> None:
    world = World()
    said = ask(desk(world))
    assert said is not None
    assert said.whole
    assert said.forward.provider == said.reverse.provider
    assert {(sent.token_in, sent.token_out) for _, _, sent, _ in world.sent} == {
        (SOL_USDC.forward.token_in, SOL_USDC.forward.token_out),
        (SOL_USDC.forward.token_out, SOL_USDC.forward.token_in),
    }


def test_one_token_each_goes_to_two_providers_where_it_is_urgent_and_waits_where_it_is_not() -> None:
    world = World()
    there = desk(world)
    for state in there.states:
        assert state.take(1)
    assert ask(there) is None
    said = ask(there, urgent=True)
    assert said is not None
    assert said.whole
    assert said.forward.provider != said.reverse.provider
    assert there.counts.split == 1
    assert ask(there, urgent=True) is None, "nobody has a token left"


def test_a_single_provider_with_one_token_is_not_asked_for_half_a_pair() -> None:
    world = World()
    there = desk(world, ["jupiter_lite"])
    assert there.states[0].take(1)
    assert ask(there, urgent=True) is None
    assert world.sent == []
    world.now_ns += S
    assert ask(there, urgent=True) is not None


def test_directions_sent_too_far_apart_are_no_pair() -> None:
    world = World(delay_ns={"jupiter_pro": int(0.6 * S)})
    there = desk(world)
    for state in there.states:
        assert state.take(1)
    said = ask(there, urgent=True)
    assert said is not None
    assert said.forward.answer is not None
    assert said.reverse.answer is not None
    assert not said.whole
    assert there.counts.too_far_apart == 1


def test_a_retry_asks_for_both_directions_again_and_elsewhere() -> None:
    world = World(failing={"jupiter_lite": Reason.TIMEOUT})
    there = desk(world, terms=replace(TERMS, retries=1))
    said = ask(there)
    assert said is not None
    assert said.whole
    assert [name for _, name, _, _ in world.sent] == ["jupiter_lite"] * 2 + ["jupiter_pro"] * 2
    assert there.counts.retried == 1


def test_retries_keep_to_the_deadline_and_the_limits() -> None:
    world = World(failing={"jupiter_lite": Reason.LOST})
    plenty = replace(SLOW, rate_per_s=100.0, burst=100, breaker_failures=50, breaker_window=50)
    terms = replace(TERMS, retries=100, retry_wait_s=0.1, deadline_s=2.0, timeout_s=0.5)
    began = world.now_ns
    assert ask(desk(world, ["jupiter_lite"], plenty, terms)) is not None
    # Pauses of 0.1, 0.2, 0.4 and 0.8 s; the next request could end after the deadline.
    assert len(world.sent) == 2 * 5
    assert world.now_ns - began <= 1.5 * S
    world.sent.clear()
    assert ask(desk(world, ["jupiter_lite"], replace(SLOW, breaker_failures=10), terms)) is not None
    assert len(world.sent) == 2, "the bucket is empty after one pair"


def test_the_breaker_opens_tries_and_closes() -> None:
    world = World(failing={"jupiter_lite": Reason.STATUS})
    there = desk(
        world, ["jupiter_lite"], replace(PATIENCE, breaker_failures=4, breaker_open_s=5.0, breaker_open_max_s=15)
    )
    lite = there.states[0]
    assert ask(there) is not None
    assert lite.breaker.state is BreakerState.CLOSED
    assert ask(there) is not None
    assert lite.breaker.state is BreakerState.OPEN
    waits = []
    for _ in range(3):
        opened = world.now_ns
        while ask(there) is None:
            world.now_ns += S // 10
        waits.append(round((world.now_ns - opened) / S))
    assert waits == [5, 10, 15], "each trial that fails doubles the wait, up to the longest"
    assert lite.uptime < 0.2
    world.failing.clear()
    world.now_ns += 15 * S
    assert lite.breaker.state is BreakerState.HALF_OPEN
    said = ask(there)
    assert said is not None
    assert said.whole
    assert lite.breaker.state is BreakerState.CLOSED


def test_a_provider_that_may_be_back_is_tried_though_others_answer() -> None:
    world = World(failing={"jupiter_lite": Reason.STATUS})
    quick = replace(PATIENCE, breaker_failures=2, breaker_open_s=5.0, breaker_open_max_s=5.0)
    there = desk(world, patience=quick, terms=replace(TERMS, retries=1))
    lite, pro = there.states
    assert ask(there) is not None
    assert lite.breaker.state is BreakerState.OPEN
    world.failing.clear()
    for _ in range(4):
        said = ask(there)
        assert said is not None
        assert said.forward.provider == pro.name
    world.now_ns += 5 * S
    said = ask(there)
    assert said is not None
    assert said.forward.provider == lite.name
    assert lite.breaker.state is BreakerState.CLOSED


def test_429_holds_the_provider_for_as_long_as_it_says() -> None:
    world = World(failing={"jupiter_lite": Reason.RATE_LIMITED})
    there = desk(world, ["jupiter_lite"], PATIENCE)
    assert ask(there) is not None
    lite = there.states[0]
    assert lite.tokens == 0
    world.now_ns += int(2.9 * S)
    assert ask(there) is None
    world.now_ns += int(0.2 * S)
    assert ask(there) is not None


# The cache


def test_a_fresh_route_is_asked_for_its_price_only() -> None:
    world = World(extra_bytes=1000)
    there = desk(world, ["jupiter_lite"], PATIENCE)
    assert ask(there) is not None
    world.now_ns += 11 * S
    assert ask(there) is not None
    assert [along for *_, along in world.sent] == [False, False, True, True]
    world.now_ns += 18 * S
    assert ask(there) is not None
    assert [along for *_, along in world.sent[4:]] == [True, True]
    world.now_ns += 1 * S
    assert ask(there) is not None, "30 s after its route was looked for"
    assert [along for *_, along in world.sent[6:]] == [False, False]
    saved = there.cache.saved
    assert (saved.routes, saved.prices) == (4, 4)
    # The restricted question is in the query, not in the body: what is saved is what the body is smaller.
    assert saved.bytes_by_prices == 4 * 1000


def test_a_route_without_a_price_is_looked_for_anew() -> None:
    world = World()
    there = desk(world, ["jupiter_lite"], PATIENCE)
    assert ask(there) is not None
    world.now_ns += 11 * S
    world.failing["jupiter_lite"] = Reason.NO_ROUTE
    assert ask(there) is not None
    world.failing.clear()
    assert ask(there) is not None
    assert [along for *_, along in world.sent] == [False, False, True, True, False, False]


def test_the_own_last_answer_is_a_reference_for_a_minute() -> None:
    world = World()
    cache = desk(world, ["jupiter_lite"], PATIENCE)
    assert ask(cache) is not None
    assert cache.cache.last_good("jupiter_lite", SOL_USDC.forward, 60.0) == 500
    world.now_ns += 61 * S
    assert cache.cache.last_good("jupiter_lite", SOL_USDC.forward, 60.0) is None


# Properties

PAIRS = [
    Pair(Ask(pair.base.mint, pair.quote.mint, 1_000), Ask(pair.quote.mint, pair.base.mint, 1_000))
    for pair in load_registry().pairs[:4]
]
moves = st.lists(
    st.tuples(
        st.sampled_from(range(4)),
        st.booleans(),
        st.integers(0, 3 * S),
        st.sampled_from([None, "jupiter_lite", "jupiter_pro"]),
        st.sampled_from([Reason.TIMEOUT, Reason.PRICE, Reason.NO_ROUTE, Reason.RATE_LIMITED]),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(moves, st.integers(2, 4), st.sampled_from([0.5, 1.0, 3.0]), st.integers(0, 2))
def test_limits_are_kept_and_pairs_are_whole(
    moves: list[tuple[int, bool, int, str | None, Reason]], burst: int, rate: float, retries: int
) -> None:
    world = World()
    patience = replace(PATIENCE, rate_per_s=rate, burst=burst)
    there = desk(world, patience=patience, terms=replace(TERMS, retries=retries))
    for index, urgent, waited_ns, failing, reason in moves:
        world.now_ns += waited_ns
        world.failing = {} if failing is None else {failing: reason}
        before = len(world.sent)
        said = ask(there, PAIRS[index], urgent=urgent)
        sent = world.sent[before:]
        assert len(sent) % 2 == 0
        for (at, _, one, _), (also_at, _, other, _) in zip(sent[::2], sent[1::2], strict=True):
            assert at == also_at, "both directions are asked at once"
            assert (one, other) == PAIRS[index]
        if said is not None and said.whole:
            assert said.forward.answer is not None
            assert said.reverse.answer is not None
            assert said.sent_ns == sent[-1][0]
        else:
            assert said is None or said.forward.bad is not None or said.reverse.bad is not None
    for state in there.states:
        times = [at for at, name, *_ in world.sent if name == state.name]
        assert state.asked == len(times) == state.good + state.bad.total()
        for first in range(len(times)):
            for last in range(first, len(times)):
                spent, span_s = last - first + 1, (times[last] - times[first]) / S
                assert spent <= burst + rate * span_s + 1e-6


def test_nothing_is_lost_where_an_answer_is_called_off() -> None:
    """A part that is stopped in the middle gives the trial back."""
    world = World(failing={"jupiter_lite": Reason.STATUS})
    there = desk(world, ["jupiter_lite"], replace(PATIENCE, breaker_failures=2, breaker_open_s=1.0))
    assert ask(there) is not None
    world.now_ns += S

    async def never(*_: object) -> Body:
        await asyncio.sleep(3600)
        raise AssertionError

    async def call_off() -> None:
        chosen = there.take(SOL_USDC, urgent=False)
        assert chosen is not None
        task = asyncio.create_task(there.ask(SOL_USDC, chosen, 10.0, lambda _ask: Known()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    world.get = never
    asyncio.run(call_off())
    assert there.states[0].trial_due
