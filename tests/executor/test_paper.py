"""The paper venue: plans land a slot later, in order, on what the ones before them left."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.costs import Costs
from markets.paper import PaperVenue, dropped, fill
from markets.pool_states import PoolStates
from markets.tokens import USDC_MINT
from markets.venue import Dropped, Filled, Landing, NeverBegun, Prepared, Reverted
from pipeline._core import Pool
from pipeline.messages import ExecutionPlan, ExecutionStatus, Mode
from workers.auditor.findings import examine
from workers.executor.result import Stamps, result_of

from . import plans
from .pools import CHEAP, DEAR, DEEP, DOLLAR, gap, pool_state, slot_update
from .pools import crossing as a_plan

STAMPS = Stamps(1, 2, 3, 4, 1, 5)


def a_venue(bps: int = 200, **changes: Any) -> PaperVenue:
    venue = PaperVenue(**({"landing_slots": 1, "seed": 1, "drop_ratio": 0.0, "landing_timeout_s": 5.0} | changes))
    for state in gap(bps):
        venue.take_pool(state)
    assert venue.take_slot(slot_update(10, changed=3))
    return venue


def ready(plan: ExecutionPlan) -> Prepared:
    return Prepared(f"paper:{plan.id}")


def submit(venue: PaperVenue, plan: ExecutionPlan) -> asyncio.Future[Landing]:
    ticket = venue.announce(plan)
    landing = venue.submit(plan, ready(plan))
    venue.decided(ticket)
    return landing


async def test_a_plan_lands_one_slot_later() -> None:
    venue, plan = a_venue(), a_plan()
    landing = submit(venue, plan)
    assert not landing.done()
    assert venue.take_slot(slot_update(11))
    found = landing.result()
    assert isinstance(found, Filled)
    assert (found.slot, venue.slot, venue.waiting) == (11, 11, 0)
    first, last = found.fills
    assert (first.pool, first.amount_in, last.pool) == (CHEAP, 10**9, DEAR)
    assert first.amount_out == last.amount_in
    # 1 SOL at 200 bps of gap less 2 bps of fees and the price impact
    assert 10**9 * 10_190 // 10_000 < found.amount_out < 10**9 * 10_200 // 10_000
    assert 149_000_000 < found.sol_price_usd_e6 < 150_000_000
    result = result_of(plan, found, STAMPS, mode=Mode.PAPER, producer="executor")
    assert result.net_profit == found.amount_out - 10**9 - 106_000


async def test_the_states_of_the_landing_slot_count() -> None:
    venue = a_venue()
    assert await venue.prepare(a_plan()) == ready(a_plan())
    landing = submit(venue, a_plan())
    venue.take_pool(pool_state(CHEAP, (DEEP, DEEP), slot=11))
    assert not landing.done()
    assert venue.take_slot(slot_update(11, changed=1))
    found = landing.result()
    assert isinstance(found, Reverted)
    # The first leg gives less than the second is told to take: that is where it fails, as on a chain.
    taken = a_plan().legs[1].amount_in
    assert (found.slot, found.leg) == (11, 0)
    assert f"under the minimum {taken}" in found.cause


async def test_the_last_leg_guards_the_cycle() -> None:
    venue = a_venue()
    landing = submit(venue, a_plan())
    venue.take_pool(pool_state(DEAR, (DEEP, DEEP * 102 // 100), slot=11))
    venue.take_slot(slot_update(11, changed=1))
    found = landing.result()
    assert isinstance(found, Reverted)
    assert (found.slot, found.leg) == (11, 1)
    assert "under the minimum 1000106000" in found.cause


async def test_what_a_leg_gives_beyond_the_plan_stays_in_the_wallet() -> None:
    venue, plan = a_venue(), a_plan()
    landing = submit(venue, plan)
    venue.take_pool(pool_state(CHEAP, (DEEP, DEEP * 103 // 100), slot=11))
    venue.take_slot(slot_update(11, changed=1))
    found = landing.result()
    assert isinstance(found, Filled)
    first, last = found.fills
    assert (last.amount_in, first.expected_amount_out) == (plan.legs[1].amount_in, plan.legs[1].amount_in)
    assert first.amount_out > last.amount_in
    # What the cycle brings is what was planned: the better price is in the other token.
    planned = submit(other := a_venue(), plan)
    other.take_slot(slot_update(11))
    assert isinstance(reference := planned.result(), Filled)
    assert found.amount_out == reference.amount_out
    result = result_of(plan, found, STAMPS, mode=Mode.PAPER, producer="executor")
    assert not examine(result)


async def test_a_revert_pays_fees_but_no_tip() -> None:
    plan = a_plan()
    result = result_of(
        plan, Reverted(11, 1, "no", 150_000_000, Costs(5_000, 1_000, 0)), STAMPS, mode=Mode.PAPER, producer="executor"
    )
    assert (result.status, result.detail) == (ExecutionStatus.REVERTED, "leg 1: no")
    assert (result.base_fee, result.priority_fee, result.tip) == (5_000, 1_000, 0)
    assert (result.cost, result.net_profit, result.gross_profit) == (6_000, -6_000, 0)
    assert not result.fills
    # In another token the fees' share of the plan's cost, rounded up.
    usdc = result_of(
        plan.replace(token=USDC_MINT, cost=15_901),
        Reverted(1, 0, "", 0, Costs(5_000, 1_000, 0)),
        STAMPS,
        mode=Mode.PAPER,
        producer="executor",
    )
    assert usdc.cost == 901


async def test_plans_of_a_slot_land_in_the_order_of_their_ids_whatever_the_order_of_arrival() -> None:
    outcomes = []
    for seed in range(3):
        venue, found = a_venue(), {}
        batch = [a_plan(number, amount_in=10**10, slack_bps=50) for number in range(5)]
        random.Random(seed).shuffle(batch)
        landings = {plan.id: submit(venue, plan) for plan in batch}
        venue.take_slot(slot_update(11))
        found = {plan_id: landing.result() for plan_id, landing in landings.items()}
        outcomes.append(found)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    in_order = [outcomes[0][plan_id] for plan_id in sorted(outcomes[0])]
    amounts = [landing.amount_out for landing in in_order if isinstance(landing, Filled)]
    # Each one takes from the gap that the ones before it left, until a leg gives less than planned and it reverts.
    assert amounts == sorted(amounts, reverse=True)
    assert len(amounts) >= 2
    assert isinstance(in_order[-1], Reverted)


async def test_our_own_impact_ends_with_the_slot() -> None:
    venue = a_venue()
    first = submit(venue, a_plan(1, amount_in=3 * 10**10))
    venue.take_slot(slot_update(11))
    second = submit(venue, a_plan(2, slot=11, amount_in=3 * 10**10))
    venue.take_slot(slot_update(12))
    one, two = first.result(), second.result()
    assert isinstance(one, Filled)
    assert isinstance(two, Filled)
    assert one.amount_out == two.amount_out


async def test_a_slot_waits_for_the_claims_of_the_plans_before_it() -> None:
    venue = a_venue()
    early, late = a_plan(1), a_plan(2)
    ticket = venue.announce(early)
    landing_late = submit(venue, late)
    venue.take_slot(slot_update(11))
    assert not landing_late.done()
    landing_early = venue.submit(early, ready(early))
    venue.decided(ticket)
    assert landing_late.done()
    assert landing_early.done()


async def test_a_plan_that_came_after_its_slot_lands_at_once() -> None:
    venue = a_venue()
    venue.take_slot(slot_update(11))
    landing = submit(venue, a_plan(1))
    assert landing.result().slot == 11


async def test_a_plan_that_is_not_submitted_holds_nothing_up() -> None:
    venue = a_venue()
    ticket = venue.announce(a_plan(1))
    landing = submit(venue, a_plan(2))
    venue.take_slot(slot_update(11))
    assert not landing.done()
    venue.decided(ticket)
    assert landing.done()


async def test_cancelled_submissions_do_not_happen() -> None:
    venue = a_venue()
    first, second = submit(venue, a_plan(1, amount_in=3 * 10**10)), submit(venue, a_plan(2, amount_in=3 * 10**10))
    (first if a_plan(1).id < a_plan(2).id else second).cancel()
    venue.take_slot(slot_update(11))
    left = second if first.cancelled() else first
    alone = submit(other := a_venue(), a_plan(1, amount_in=3 * 10**10))
    other.take_slot(slot_update(11))
    assert isinstance(found := left.result(), Filled)
    assert isinstance(reference := alone.result(), Filled)
    assert found.amount_out == reference.amount_out


async def test_no_slot_in_time() -> None:
    now = 0.0
    venue = a_venue(monotonic=lambda: now)
    landing = submit(venue, a_plan())
    now = 4.9
    assert venue.give_up() == 0
    now = 5.1
    assert venue.give_up() == 1
    assert isinstance(landing.result(), Dropped)


async def test_nothing_is_remembered_of_a_submission() -> None:
    venue = a_venue()
    assert isinstance(await venue.recover(a_plan(), "paper:x"), NeverBegun)


async def test_drops_depend_on_seed_and_plan_alone() -> None:
    ids = [a_plan(number).id for number in range(2_000)]
    lost = {plan_id for plan_id in ids if dropped(1, plan_id, 0.25)}
    assert 400 < len(lost) < 600
    assert lost == {plan_id for plan_id in reversed(ids) if dropped(1, plan_id, 0.25)}
    assert lost != {plan_id for plan_id in ids if dropped(2, plan_id, 0.25)}
    assert not any(dropped(1, plan_id, 0.0) for plan_id in ids)
    assert all(dropped(1, plan_id, 1.0) for plan_id in ids)
    venue = a_venue(drop_ratio=1.0)
    landing = submit(venue, a_plan())
    venue.take_slot(slot_update(11))
    assert isinstance(landing.result(), Dropped)


@pytest.mark.parametrize(
    ("legs", "leg", "cause"),
    [
        (("nowhere", DEAR), 0, "not known"),
        ((CHEAP, "nowhere"), 1, "not known"),
        ((CHEAP, DOLLAR), 1, "does not hold"),
    ],
)
async def test_legs_that_cannot_be_swapped(legs: tuple[str, str], leg: int, cause: str) -> None:
    venue = a_venue()
    landing = submit(venue, plans.a_plan(pools=legs))
    venue.take_slot(slot_update(11))
    found = landing.result()
    assert isinstance(found, Reverted)
    assert found.leg == leg
    assert cause in found.cause


async def test_a_pool_of_nonsense_reverts_its_plans() -> None:
    venue = a_venue()
    state = pool_state(CHEAP, (1, 1), slot=11)
    venue.take_pool(state.replace(accounts=[account.replace(data=b"\x00" * 9) for account in state.accounts]))
    landing = submit(venue, a_plan())
    venue.take_slot(slot_update(11, changed=1))
    assert isinstance(landing.result(), Reverted)


async def test_trouble_with_one_plan_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    venue, bad = a_venue(), a_plan(1).id
    land = venue._land

    def failing(plan: ExecutionPlan) -> Landing:
        if plan.id == bad:
            raise RuntimeError("nobody thought of this")
        return land(plan)

    monkeypatch.setattr(venue, "_land", failing)
    landings = [submit(venue, a_plan(1)), submit(venue, a_plan(2))]
    venue.take_slot(slot_update(11))
    assert isinstance(landings[0].exception(), RuntimeError)
    assert isinstance(landings[1].result(), Filled)


async def test_a_missed_state_is_noticed() -> None:
    venue = a_venue()
    assert venue.take_slot(slot_update(11))
    assert not venue.take_slot(slot_update(12, changed=1))
    venue.load([pool_state(CHEAP, (DEEP, DEEP), slot=12)], slot_update(12))
    assert venue.take_slot(slot_update(13))
    # A change on a keyframe that never came here.
    unknown = pool_state(DEAR, (DEEP, DEEP), slot=14, version=2)
    venue.take_pool(pool_state(DEAR, (DEEP, 1), slot=14, complete=False, base=unknown, version=3))
    assert not venue.take_slot(slot_update(14, changed=1))
    landing = submit(venue, a_plan(slot=14))
    venue.take_slot(slot_update(15))
    assert isinstance(landing.result(), Reverted)


async def test_another_market_begins_anew() -> None:
    venue = a_venue()
    assert not venue.take_slot(slot_update(2).replace(causation_id="another"))
    assert (venue.slot, venue.now_ns) == (2, slot_update(2).market_ns)
    assert venue.market.sol_price_usd_e6() == 0
    venue.load(gap(200, slot=2), slot_update(2).replace(causation_id="another"))
    landing = submit(venue, a_plan(slot=2))
    assert venue.take_slot(slot_update(3).replace(causation_id="another"))
    assert isinstance(landing.result(), Filled)


def test_changes_are_laid_over_their_keyframe() -> None:
    states = PoolStates()
    key = pool_state(CHEAP, (DEEP, DEEP))
    change = pool_state(CHEAP, (DEEP, 2 * DEEP), slot=11, complete=False, base=key, version=2)
    assert states.apply(change)
    assert states.get(CHEAP) is None
    assert states.broken() == [CHEAP]
    assert states.apply(key)
    pool = states.get(CHEAP)
    assert pool is not None
    assert pool.slot == 11
    assert pool.quote_in(True, 10**9).amount_out > 19 * 10**8
    assert states.get(CHEAP) is pool
    assert not states.apply(change)
    assert not states.apply(pool_state(CHEAP, (1, 1), slot=9, version=9))
    assert states.apply(pool_state(CHEAP, (DEEP, DEEP), slot=12, version=3))
    assert states.get(CHEAP) != pool
    assert states.addresses() == [CHEAP]


def test_a_change_whose_keyframe_is_nowhere_is_given_up_after_a_reload() -> None:
    venue = PaperVenue(landing_slots=1, seed=1, drop_ratio=0.0, landing_timeout_s=5.0)
    venue.take_pool(pool_state(CHEAP, (DEEP, DEEP), complete=False, base=pool_state(CHEAP, (1, 1))))
    assert not venue.take_slot(slot_update(10))
    venue.load([], slot_update(10))
    assert venue.take_slot(slot_update(11))


def test_without_pools_there_is_no_price() -> None:
    venue = PaperVenue(landing_slots=1, seed=1, drop_ratio=0.0, landing_timeout_s=5.0)
    assert venue.market.sol_price_usd_e6() == 0
    assert venue.take_slot(slot_update(3))


@settings(max_examples=100, deadline=None)
@given(
    bps=st.integers(0, 500),
    amounts=st.lists(st.integers(10**6, 10**13), min_size=1, max_size=5),
    floor=st.integers(0, 10**7),
    slack_bps=st.integers(0, 300),
)
def test_a_fill_never_loses_and_always_adds_up(bps: int, amounts: list[int], floor: int, slack_bps: int) -> None:
    states = PoolStates()
    for state in gap(bps):
        states.apply(state)
    left: dict[str, Pool] = {}

    def pool_of(address: str) -> Pool | None:
        return left.get(address) or states.get(address)

    for number, amount in enumerate(amounts):
        plan = a_plan(number, amount_in=amount, slack_bps=slack_bps, min_amount_out=amount + 106_000 + floor)
        before = dict(left)
        found = fill(plan, pool_of, slot=11, sol_price_usd_e6=0)
        assert left == before
        ending = found if isinstance(found, Reverted) else found[0]
        result = result_of(plan, ending, STAMPS, mode=Mode.PAPER, producer="executor")
        assert result.gross_profit == result.amount_out - result.amount_in
        assert result.net_profit == result.gross_profit - result.cost
        if isinstance(found, Reverted):
            assert result.net_profit == -6_000
            continue
        assert result.net_profit >= floor
        filled, pools = found
        assert [one.amount_in for one in filled.fills] == [amount, plan.legs[1].amount_in]
        assert filled.fills[0].amount_out >= filled.fills[1].amount_in
        for one in filled.fills:
            pool = pool_of(one.pool)
            assert pool is not None
            assert pool.quote_in(one.token_in == pool.token_a, one.amount_in).amount_out == one.amount_out
        left |= pools
