"""Which pair is asked for next."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.providers.answer import Ask, Step
from markets.providers.choose import Pair
from markets.providers.schedule import Pace, Schedule
from markets.tokens import load_registry
from pipeline.config import ConfigError, load_config
from pipeline.errors import UsageFailure
from workers.quote_core.external import longest_way, pairs_of
from workers.quote_core.external_settings import patience_of, providers_of

S = 1_000_000_000
PACE = Pace(price_ttl_s=10.0, fast_ttl_s=2.0, move_bps=10.0, again_s=1.0, again_max_s=8.0)
REGISTRY = load_registry()
PAIRS = [
    Pair(Ask(pair.base.mint, pair.quote.mint, 1_000_000), Ask(pair.quote.mint, pair.base.mint, 1_000_000))
    for pair in REGISTRY.pairs[:5]
]
FAST = PAIRS[0]


@dataclass
class Clock:
    ns: int = 0

    def __call__(self) -> int:
        return self.ns


def schedule(clock: Clock) -> Schedule:
    return Schedule({pair: pair is FAST for pair in PAIRS}, PACE, clock)


def quoted(there: Schedule, clock: Clock, *pairs: Pair) -> None:
    for pair in pairs:
        there.begin(pair)
        there.got(pair, clock.ns)


def order(there: Schedule) -> list[Pair]:
    return [due.pair for due in there.due()]


def test_everything_is_due_and_urgent_at_first() -> None:
    there = schedule(Clock())
    assert set(order(there)) == set(PAIRS)
    assert all(due.urgent for due in there.due())


def test_the_oldest_comes_first_and_fast_pairs_grow_old_sooner() -> None:
    clock = Clock()
    there = schedule(clock)
    for pair in PAIRS:
        quoted(there, clock, pair)
        clock.ns += S // 10
    assert order(there) == []
    clock.ns += 2 * S
    assert order(there) == [FAST]
    clock.ns += 9 * S
    assert order(there) == PAIRS, (
        "the fast one is several of its lifetimes old, the others in the order of their quotes"
    )
    assert [due.urgent for due in there.due()] == [True, False, False, False, False]


def test_a_moved_price_comes_before_an_old_quote() -> None:
    clock = Clock()
    there = schedule(clock)
    quoted(there, clock, *PAIRS)
    moved = PAIRS[3]
    there.local_price(moved.forward.token_in, moved.forward.token_out, 1_000_000, 2_000_000)
    clock.ns += S
    still_good = there.local_price(moved.forward.token_in, moved.forward.token_out, 1_000_000, 2_001_000)
    assert still_good == [moved], "5 bps: the quote is still good"
    assert order(there) == []
    assert there.local_price(moved.forward.token_in, moved.forward.token_out, 1_000_000, 2_010_000) == []
    (due,) = there.due()
    assert due.pair == moved
    assert due.urgent
    clock.ns += 11 * S
    assert order(there)[0] in (FAST, moved)
    quoted(there, clock, moved)
    assert moved not in order(there)


def test_what_moves_while_a_quote_is_under_way_counts_against_it() -> None:
    clock = Clock()
    there = schedule(clock)
    pair = PAIRS[1]
    there.local_price(pair.forward.token_in, pair.forward.token_out, 100, 10_000)
    there.begin(pair)
    there.local_price(pair.forward.token_in, pair.forward.token_out, 100, 10_100)
    there.got(pair, clock.ns)
    assert pair in order(there), "it moved 100 bps after the question"


def test_a_pair_under_way_is_not_asked_for_twice() -> None:
    there = schedule(Clock())
    there.begin(PAIRS[2])
    assert PAIRS[2] not in order(there)
    there.failed(PAIRS[2])
    assert PAIRS[2] not in order(there)


def test_a_pair_that_fails_waits_longer_each_time_up_to_a_limit() -> None:
    clock = Clock()
    there = schedule(clock)
    waits = []
    for _ in range(6):
        there.begin(PAIRS[2])
        there.failed(PAIRS[2])
        began = clock.ns
        while PAIRS[2] not in order(there):
            clock.ns += S // 4
        waits.append((clock.ns - began) / S)
    assert waits == [1, 2, 4, 8, 8, 8]
    quoted(there, clock, PAIRS[2])
    clock.ns += 11 * S
    there.begin(PAIRS[2])
    there.failed(PAIRS[2])
    clock.ns += S
    assert PAIRS[2] in order(there)


def test_the_local_price_tells_what_an_amount_gives() -> None:
    there = schedule(Clock())
    ask = PAIRS[0].forward
    assert there.local_out(ask.token_in, ask.token_out, 10) is None
    there.local_price(ask.token_in, ask.token_out, 3, 7)
    assert there.local_out(ask.token_in, ask.token_out, 10) == 23
    assert there.local_price(ask.token_in, ask.token_out, 3, 0) == ()
    assert there.local_out(ask.token_in, ask.token_out, 10) == 23


steps = st.lists(
    st.tuples(st.sampled_from(range(5)), st.sampled_from(["got", "failed", "move"]), st.integers(0, 5 * S)), max_size=40
)


@settings(max_examples=80)
@given(steps)
def test_every_pair_is_due_exactly_when_its_quote_is_no_good(steps: list[tuple[int, str, int]]) -> None:
    clock = Clock()
    there = schedule(clock)
    got: dict[Pair, int] = {}
    held: dict[Pair, int] = {}
    for index, what, waited_ns in steps:
        clock.ns += waited_ns
        pair = PAIRS[index]
        if what == "got":
            quoted(there, clock, pair)
            got[pair] = clock.ns
            held.pop(pair, None)
        elif what == "failed":
            there.begin(pair)
            there.failed(pair)
            held[pair] = clock.ns
        found = order(there)
        assert len(found) == len(set(found))
        for each in PAIRS:
            old = each not in got or clock.ns - got[each] >= there.ttl_s(each) * S
            if each not in held or clock.ns - held[each] >= 8 * S:
                assert (each in found) == old


# What the configuration makes of it


def test_pairs_and_amounts_come_from_the_configuration() -> None:
    config = load_config(environment={})
    assert sorted(set(pairs_of(config, REGISTRY).values())) == sorted(pair.name for pair in REGISTRY.pairs)
    two = load_config({"external.pairs": "SOL/USDC", "external.amounts": "100000000,1000000000"}, environment={})
    found = pairs_of(two, REGISTRY)
    assert set(found.values()) == {"SOL/USDC"}
    assert sorted(pair.forward.amount_in for pair in found) == [100_000_000, 1_000_000_000]
    for pair in found:
        assert (pair.forward.token_in, pair.forward.token_out) == (pair.reverse.token_out, pair.reverse.token_in)
    for key, value in (("external.pairs", "SOL/NONE"), ("external.amounts", "12345")):
        with pytest.raises(UsageFailure):
            pairs_of(load_config({key: value}, environment={}), REGISTRY)


def test_simulated_providers_never_get_a_key_and_are_named_so() -> None:
    config = load_config({"external.jupiter_pro.api_key": "a-secret-key"}, environment={})
    simulated = providers_of(config.external, "http://127.0.0.1:1")
    assert [provider.name for provider in simulated] == [
        "simulated-jupiter_lite",
        "simulated-jupiter_pro",
        "simulated-dflow",
        "simulated-raydium",
    ]
    for provider in simulated:
        assert provider.host == "127.0.0.1"
        assert dict(provider.request(FAST.forward).headers) == {}
        assert patience_of(config.external, provider.name).rate_per_s == config.external.simulated.rate_per_s


def test_live_providers_are_those_that_can_be_asked() -> None:
    keyless = load_config({"external.source": "live"}, environment={})
    assert [provider.name for provider in providers_of(keyless.external, "")] == ["jupiter_lite", "dflow", "raydium"]
    some = load_config(
        {
            "external.source": "live",
            "external.jupiter_pro.api_key": "a-secret-key",
            "external.dflow.enabled": "false",
        },
        environment={},
    )
    found = providers_of(some.external, "")
    assert [provider.name for provider in found] == ["jupiter_lite", "jupiter_pro", "raydium"]
    lite, pro, _ = (provider.request(FAST.forward) for provider in found)
    assert (dict(lite.headers), dict(pro.headers)) == ({}, {"x-api-key": "a-secret-key"})
    assert lite.url == "https://lite-api.jup.ag/swap/v1/quote"
    assert pro.url == "https://api.jup.ag/swap/v1/quote"
    assert lite.params["slippageBps"] == "50"
    assert patience_of(some.external, "dflow").rate_per_s == 0.15


@pytest.mark.parametrize(
    "setting",
    [
        {"external.timeout_ms": 2000},
        {"external.price_ttl_s": 40},
        {"external.fast_ttl_s": 11},
        {"external.breaker_failures": 11},
        {"external.breaker_open_s": 500},
        {"external.again_s": 500},
        {"external.dflow.burst": 1},
        {"external.dflow.url": "ftp://host"},
        {"external.dflow.url": "https://user:word@host"},
        {"external.dflow.url": "https://host/?key=1"},
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        load_config(setting, environment={})


def test_hops_are_those_of_the_longest_way() -> None:
    def step(token_in: str, token_out: str) -> Step:
        return Step("", "", token_in, token_out)

    assert longest_way((step("a", "b"),), "a") == 1
    assert longest_way((step("a", "b"), step("a", "b")), "a") == 1
    assert longest_way((step("a", "c"), step("c", "d"), step("a", "b"), step("d", "b")), "a") == 3
