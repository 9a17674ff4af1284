"""The shapes of the APIs: recorded answers are read right, and any other bytes are refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage import SLOT, SOL_USDC, StillMarket, providers_at

from localnet.provider_quotes import best_route, dflow, jupiter, raydium, unsplit
from markets.providers.answer import Answer, Ask, BadAnswer, Bounds, Known, Reason, Step, check, check_route
from markets.providers.jupiter import Jupiter
from markets.tokens import SOL_MINT, USDC_MINT, load_registry

BOUNDS = Bounds(1000, 150, 50)
SHAPES = ("jupiter_lite", "dflow", "raydium")
PROVIDERS = {provider.name: provider for provider in providers_at("http://localhost", SHAPES)}
JITOSOL = load_registry().by_symbol["JitoSOL"].mint


@pytest.mark.recorded
def test_recorded_answers_are_believed(recorded_data: Path) -> None:
    files = sorted((recorded_data / "api" / "jupiter").glob("*.json"))
    assert len(files) == 3
    for file in files:
        document = json.loads(file.read_bytes())
        ask = Ask(document["inputMint"], document["outputMint"], int(document["inAmount"]), document["slippageBps"])
        read = Jupiter("jupiter_lite", "https://lite-api.jup.ag").read(file.read_bytes(), ask)
        answer = check(read, ask, Known((int(document["outAmount"]) + 1,), document["contextSlot"] + 2), BOUNDS)
        assert answer.amount_out == int(document["outAmount"])
        assert answer.min_out == int(document["otherAmountThreshold"])
        assert answer.slot == document["contextSlot"]
        assert answer.price_impact_bps == pytest.approx(float(document["priceImpactPct"]) * 10_000)
        (step,) = answer.route
        assert step.pool == document["routePlan"][0]["swapInfo"]["ammKey"]
        assert step.venue in ("Meteora DLMM", "HumidiFi", "TesseraV")
        assert step.share_bps == 10_000


@pytest.mark.recorded
def test_a_recorded_answer_to_another_question_is_not_believed(recorded_data: Path) -> None:
    body = (recorded_data / "api" / "jupiter" / "docs__swap_v1_get-quote.mdx__1.json").read_bytes()
    provider = Jupiter("jupiter_lite", "https://lite-api.jup.ag")
    right = Ask(SOL_MINT, USDC_MINT, 100_000_000, 50)
    for ask, reason in (
        (Ask(USDC_MINT, SOL_MINT, 100_000_000, 50), Reason.WRONG_MINT),
        (Ask(SOL_MINT, USDC_MINT, 100_000_001, 50), Reason.WRONG_AMOUNT),
        (Ask(SOL_MINT, USDC_MINT, 100_000_000, 51), Reason.SLIPPAGE),
    ):
        with pytest.raises(BadAnswer) as refused:
            check(provider.read(body, ask), ask, Known(), BOUNDS)
        assert refused.value.reason is reason
    assert check(provider.read(body, right), right, Known(), BOUNDS).amount_out == 16198753


@pytest.mark.parametrize(
    ("token_in", "token_out"), [(SOL_MINT, USDC_MINT), (USDC_MINT, SOL_MINT), (JITOSOL, USDC_MINT)]
)
@pytest.mark.parametrize("amount", [1_000_000_000, 5_000_000_000_000])
def test_all_shapes_say_the_same(token_in: str, token_out: str, amount: int) -> None:
    pools = StillMarket().pools()
    ask = Ask(token_in, token_out, amount)
    quoted = best_route(pools, token_in, token_out, amount, SLOT)
    assert quoted is not None
    answers = {}
    for name, shape in (("jupiter_lite", jupiter), ("dflow", dflow)):
        read = PROVIDERS[name].read(json.dumps(shape(quoted, 50)).encode(), ask)
        answers[name] = check(read, ask, Known((quoted.amount_out,), SLOT), BOUNDS)
    assert answers["jupiter_lite"].amount_out == answers["dflow"].amount_out == quoted.amount_out
    assert [step.pool for step in answers["jupiter_lite"].route] == [step.pool for step in answers["dflow"].route]
    for one, other in zip(answers["jupiter_lite"].route, answers["dflow"].route, strict=True):
        assert one.share_bps == pytest.approx(other.share_bps, abs=1)
    single = unsplit(quoted, pools)
    assert single is not None
    assert single.amount_out <= quoted.amount_out
    read = PROVIDERS["raydium"].read(json.dumps(raydium(single, 50)).encode(), ask)
    assert check(read, ask, Known(), BOUNDS).amount_out == single.amount_out


def test_large_amounts_are_split_and_two_hops_are_found() -> None:
    pools = StillMarket().pools()
    split = best_route(pools, SOL_MINT, USDC_MINT, 5_000_000_000_000, SLOT)
    assert split is not None
    assert len(split.hops) == 2
    assert sum(hop.percent for hop in split.hops) == 100
    over_sol = best_route(pools, JITOSOL, USDC_MINT, 1_000_000_000, SLOT)
    assert over_sol is not None
    assert {hop.token_out for hop in over_sol.hops} == {SOL_MINT, USDC_MINT}


# Any bytes

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


def paths(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, inner in items:
        found += paths(inner, (*at, key))
    return found


def documents() -> dict[str, Any]:
    quoted = best_route(StillMarket().pools(), SOL_MINT, USDC_MINT, 5_000_000_000_000, SLOT)
    assert quoted is not None
    single = unsplit(quoted, StillMarket().pools())
    assert single is not None
    return {"jupiter_lite": jupiter(quoted, 50), "dflow": dflow(quoted, 50), "raydium": raydium(single, 50)}


DOCUMENTS = documents()
LARGE = Ask(SOL_MINT, USDC_MINT, 5_000_000_000_000)


def believed(name: str, body: bytes, ask: Ask) -> Answer | None:
    """Read and check; whatever is raised is a BadAnswer."""
    try:
        return check(PROVIDERS[name].read(body, ask), ask, Known((), SLOT), BOUNDS)
    except BadAnswer:
        return None


@given(st.sampled_from(SHAPES), st.binary(max_size=300))
def test_any_bytes_are_refused(name: str, body: bytes) -> None:
    assert believed(name, body, LARGE) is None
    assert isinstance(PROVIDERS[name].refused(400, body), BadAnswer)


@given(st.sampled_from(SHAPES), st.data())
def test_a_changed_answer_is_refused_or_holds_what_was_checked(name: str, data: st.DataObject) -> None:
    document = json.loads(json.dumps(DOCUMENTS[name]))
    *parents, last = data.draw(st.sampled_from(paths(document)))
    inner = document
    for key in parents:
        inner = inner[key]
    inner[last] = data.draw(values)
    answer = believed(name, json.dumps(document).encode(), LARGE)
    if answer is not None:
        assert (answer.token_in, answer.token_out, answer.amount_in) == (SOL_MINT, USDC_MINT, LARGE.amount_in)
        assert 0 < answer.min_out <= answer.amount_out < 2**64
        assert answer.price_impact_bps >= 0
        assert abs(answer.slot - SLOT) <= 150 or answer.slot == 0
        check_route(answer.route, LARGE)


@given(st.sampled_from(SHAPES), st.data())
def test_a_cut_answer_is_refused(name: str, data: st.DataObject) -> None:
    body = json.dumps(DOCUMENTS[name]).encode()
    assert believed(name, body, LARGE) is not None
    assert believed(name, body[: data.draw(st.integers(0, len(body) - 1))], LARGE) is None


# Routes

A, B, C, D = SOL_MINT, USDC_MINT, JITOSOL, load_registry().by_symbol["mSOL"].mint


def step(token_in: str, token_out: str, share_bps: int = 10_000) -> Step:
    return Step("", "venue", token_in, token_out, share_bps)


@pytest.mark.parametrize(
    "route",
    [
        (step(A, B),),
        (step(A, B, 6000), step(A, B, 4000)),
        (step(A, C), step(C, B)),
        (step(C, B), step(A, C)),
        (step(A, C, 5000), step(A, D, 5000), step(C, B), step(D, B)),
        (step(A, C, 5000), step(A, D, 5000), step(C, D), step(D, B)),
        (step(A, B, 3334), step(A, B, 3333), step(A, C, 3333), step(C, B)),
    ],
)
def test_routes_that_lead_there(route: tuple[Step, ...]) -> None:
    check_route(route, Ask(A, B, 1))


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        ((), Reason.ROUTE),
        ((step(A, B),) * 33, Reason.ROUTE),
        ((step(B, A),), Reason.ROUTE),
        ((step(A, C),), Reason.ROUTE),
        ((step(A, B, 5000), step(A, C, 5000)), Reason.ROUTE),
        ((step(A, B), step(C, B)), Reason.ROUTE),
        ((step(A, B, 5000), step(A, C, 5000), step(C, A)), Reason.ROUTE),
        # C and D feed each other: neither can be the first.
        ((step(A, C), step(C, D, 5000), step(C, B, 5000), step(D, C)), Reason.ROUTE),
        ((step(A, B, 9999),), Reason.SPLITS),
        ((step(A, B, 6000), step(A, B, 6000)), Reason.SPLITS),
        ((step(A, B, 0),), Reason.SPLITS),
        ((step(A, B, -1), step(A, B, 10_001)), Reason.SPLITS),
        ((Step("not an address", "venue", A, B),), Reason.ROUTE),
        ((Step("", "v" * 65, A, B),), Reason.ROUTE),
        ((Step("", "line\nbreak", A, B),), Reason.ROUTE),
    ],
)
def test_routes_that_do_not(route: tuple[Step, ...], reason: Reason) -> None:
    with pytest.raises(BadAnswer) as refused:
        check_route(route, Ask(A, B, 1))
    assert refused.value.reason is reason


def test_the_first_reference_counts() -> None:
    ask = SOL_USDC.forward
    answer = Answer("x", ask.token_in, ask.token_out, ask.amount_in, 110, 110, 0, 0.0, (step(A, B),), 0)
    zero = Ask(ask.token_in, ask.token_out, ask.amount_in, 0)
    assert check(answer, zero, Known((100, 1), 0), BOUNDS) is answer
    with pytest.raises(BadAnswer, match="price"):
        check(answer, zero, Known((99, 110), 0), BOUNDS)


@pytest.mark.parametrize(("in_", "out", "good"), [(1_000, 500, True), (1_001, 500, False), (1_000, 499, False)])
def test_no_more_goes_in_than_there_is_and_no_more_comes_out_than_the_steps_give(
    in_: int, out: int, good: bool
) -> None:
    ask = Ask(A, B, 1_000, 0)
    route = (Step("", "venue", A, B, 10_000, in_, out),)
    answer = Answer("x", A, B, 1_000, 500, 500, 0, 0.0, route)
    if good:
        assert check(answer, ask, Known(), BOUNDS) is answer
        return
    with pytest.raises(BadAnswer) as refused:
        check(answer, ask, Known(), BOUNDS)
    assert refused.value.reason is Reason.AMOUNTS
