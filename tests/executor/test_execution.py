"""Exactly one result and at most one effect for each plan: the executor dies, answers get lost, others interfere."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

import workers.executor.execution as module
from markets.tokens import SOL_MINT
from markets.venue import NotPrepared, RefusedBySimulation, RefusedByWallet, Trace
from pipeline.bus import PublishFailed, Reject
from pipeline.messages import ExecutionStatus, Mode, PermitState, decode
from pipeline.permit import Refused, RefusedBy
from workers.executor.claim import Claimed, InvalidClaim, Settled, decode_claim, encode_claim
from workers.executor.result import result_id

from .execution_world import Died, World
from .plans import JITO, SLOT_NS, START_NS, a_plan

pytestmark = pytest.mark.usefixtures("no_pauses")


async def test_a_plan_becomes_one_result() -> None:
    world, plan = World(), a_plan()
    await world.deliver(plan)
    [result] = world.stream.results.values()
    assert result.id == result_id(plan.id, 1)
    assert (result.plan_id, result.correlation_id, result.causation_id) == (plan.id, plan.correlation_id, plan.id)
    assert (result.status, result.mode) == (ExecutionStatus.FILLED, Mode.PAPER)
    assert (result.amount_in, result.amount_out, result.gross_profit) == (10**9, 10**9 + 5_000_000, 5_000_000)
    assert (result.cost, result.net_profit, result.expected_profit) == (106_000, 4_894_000, 4_894_000)
    assert (result.base_fee, result.priority_fee, result.tip) == (5_000, 1_000, 100_000)
    assert (result.received_ns, result.claimed_ns, result.gated_ns, result.finished_ns) == (500, 1_000, 1_000, 1_000)
    assert (result.slot, result.attempt, result.permit_epoch, result.sol_price_usd_e6) == (11, 1, 7, 150_000_000)
    assert decode(result.encode()) == result
    claim = decode_claim(world.bucket.entries[plan.id].value)
    assert isinstance(claim, Settled)
    assert decode(claim.result) == result
    assert (world.execution.running, world.venue.open_tickets) == (0, 0)
    await world.deliver(plan)
    assert (len(world.stream.results), world.venue.submitted) == (1, [plan.id])


async def test_too_late_at_the_gate() -> None:
    world = World()
    world.venue.now_ns = START_NS + 13 * SLOT_NS + 1
    await world.deliver(a_plan())
    [result] = world.stream.results.values()
    assert (result.status, result.net_profit, result.cost) == (ExecutionStatus.EXPIRED, 0, 0)
    assert "1 ns" in result.detail
    assert world.venue.submitted == []


async def test_refused_at_the_gate() -> None:
    world = World()
    world.verdict = Refused(RefusedBy.HALTED, "by a test", PermitState.HALTED, 9)
    await world.deliver(a_plan())
    [result] = world.stream.results.values()
    assert (result.status, result.permit_epoch, result.net_profit) == (ExecutionStatus.REFUSED_BY_GATE, 9, 0)
    assert result.detail == "halted: by a test"
    assert (world.venue.submitted, world.venue.open_tickets) == ([], 0)


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (RefusedBySimulation(10, "slippage", Trace(built_ns=7)), ExecutionStatus.REFUSED_BY_SIMULATION),
        (RefusedByWallet(10, "no lane"), ExecutionStatus.REFUSED_BY_WALLET),
    ],
)
@pytest.mark.parametrize("step", ["", "prepared", "settled", "published"])
async def test_a_refusal_before_the_claim_is_the_result(
    refusal: NotPrepared, status: ExecutionStatus, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, plan = World(real_venue=True), a_plan()
    world.venue.refusal = refusal
    died = False

    def crashpoint(name: str) -> None:
        nonlocal died
        if name == step and not died:
            died = True
            raise Died

    monkeypatch.setattr(module, "crashpoint", crashpoint)
    if step:
        with pytest.raises(Died):
            await world.deliver(plan)
        world.start()
        world.venue.refusal = refusal
    await world.deliver(plan, again=bool(step))
    await world.deliver(plan, again=True)
    [result] = world.stream.results.values()
    assert (result.status, result.detail, result.net_profit) == (status, refusal.reason, 0)
    assert (result.built_ns, result.signature, result.gated_ns) == (refusal.trace.built_ns, "", 0)
    assert (world.venue.submitted, world.told, world.venue.open_tickets) == ([], [], 0)


@pytest.mark.parametrize("late", [False, True])
async def test_what_is_not_submitted_is_given_back(late: bool) -> None:
    world, plan = World(real_venue=True), a_plan()
    if late:
        world.bucket.written = lambda: setattr(world.venue, "now_ns", plan.expires_ns + 1)
    else:
        world.verdict = Refused(RefusedBy.HALTED, "by a test", PermitState.HALTED, 9)
    await world.deliver(plan)
    [result] = world.stream.results.values()
    assert result.status == (ExecutionStatus.EXPIRED if late else ExecutionStatus.REFUSED_BY_GATE)
    assert (world.venue.withdrawn, world.venue.submitted, world.told) == ([f"tx-{plan.id}"], [], [])


async def test_a_submission_is_told_with_its_transaction() -> None:
    world, plan = World(real_venue=True), a_plan()
    await world.deliver(plan)
    [told] = world.told
    assert (told.plan_id, told.correlation_id, told.causation_id) == (plan.id, plan.correlation_id, plan.id)
    assert (told.signature, told.wallet, told.last_valid_block_height) == (f"sig-{plan.id}", "wallet", 160)
    assert (told.token, told.slot, told.mode, told.created_ns) == (SOL_MINT, 10, Mode.PAPER, 1_000)
    assert decode(told.encode()) == told


async def test_what_could_not_be_claimed_in_time_gives_its_wallet_back() -> None:
    world, plan = World(real_venue=True), a_plan()
    world.bucket.lose = ["before create"] * 9
    world.bucket.written = lambda: setattr(world.venue, "now_ns", plan.expires_ns + 1)
    await world.deliver(plan)
    [result] = world.stream.results.values()
    assert (result.status, world.venue.withdrawn) == (ExecutionStatus.EXPIRED, [f"tx-{plan.id}"])


async def test_an_answer_that_no_repetition_mends_is_an_error() -> None:
    world = World()

    async def refused(_: Any) -> None:
        raise PublishFailed("too large", code=10054)

    world.stream.publish = refused
    world.start()
    with pytest.raises(PublishFailed):
        await world.deliver(a_plan())


@pytest.mark.parametrize("published", [False, True])
async def test_what_another_one_settled_meanwhile_is_published_all_the_same(published: bool) -> None:
    """Its outcome was lost to an error here; another executor settles it, and may die before it publishes."""
    world, plan = World(real_venue=True), a_plan()
    submit, first = world.venue.submit, world.execution

    def failing(plan: Any, prepared: Any) -> Any:
        submit(plan, prepared).cancel()
        broken = asyncio.get_running_loop().create_future()
        broken.set_exception(RuntimeError("no outcome"))
        return broken

    world.venue.submit = failing
    with pytest.raises(RuntimeError):
        await world.deliver(plan)
    recover = world.venue.recover

    async def meanwhile(plan: Any, reference: str) -> Any:
        if not published:
            world.stream.error = Died
        world.stream.failing = 0 if published else 1
        world.start()
        with suppress(Died):
            await world.deliver(plan, again=True)
        return await recover(plan, reference)

    world.venue.recover = meanwhile
    await first.take(plan, 500)
    [result] = world.stream.results.values()
    assert result.status == ExecutionStatus.FILLED
    assert world.chain is not None
    assert sum(world.chain.begun.values()) == 1


async def test_a_submission_that_fails_half_way_is_asked_of_the_venue() -> None:
    world, plan = World(real_venue=True), a_plan()
    submit = world.venue.submit

    def half_way(plan: Any, prepared: Any) -> Any:
        submit(plan, prepared).cancel()
        raise RuntimeError("the second connection")

    world.venue.submit = half_way
    with pytest.raises(RuntimeError):
        await world.deliver(plan)
    world.venue.now_ns = plan.expires_ns + 1
    await world.deliver(plan)
    [result] = world.stream.results.values()
    assert result.status == ExecutionStatus.FILLED
    assert world.venue.submitted == [plan.id]


@pytest.mark.parametrize("real_venue", [False, True])
async def test_an_outcome_that_is_lost_to_an_error_is_asked_of_the_venue(
    real_venue: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, plan = World(real_venue=real_venue), a_plan()
    submit = world.venue.submit

    def failing(plan: Any, reference: str) -> Any:
        submit(plan, reference).cancel()
        broken = asyncio.get_running_loop().create_future()
        broken.set_exception(RuntimeError("no outcome"))
        return broken

    monkeypatch.setattr(world.venue, "submit", failing)
    with pytest.raises(RuntimeError):
        await world.deliver(plan)
    await world.deliver(plan)
    [result] = world.stream.results.values()
    assert result.status == (ExecutionStatus.FILLED if real_venue else ExecutionStatus.ABANDONED)
    assert world.venue.submitted == [plan.id]


async def test_a_result_that_could_not_be_published_is_published_later() -> None:
    world, plan = World(), a_plan()
    world.stream.failing = 1_000_000
    waiting = world.execution.take(plan, 500)
    await asyncio.sleep(0.01)
    waiting.cancel()
    world.start()
    world.stream.failing = 2
    await world.deliver(plan)
    assert len(world.stream.results) == 1
    assert world.bucket.writes == 2


async def test_what_is_in_the_stream_is_not_published_again() -> None:
    world, plan = World(), a_plan()
    await world.deliver(plan)
    world.known = True
    world.start()
    await world.deliver(plan)
    assert world.stream.published == 1


async def test_an_executor_that_was_taken_for_dead_publishes_the_other_ones_result() -> None:
    world, plan = World(real_venue=True), a_plan()
    world.bucket.lose = ["before update"] * 1_000_000
    slow = world.execution.take(plan, 500)
    await asyncio.sleep(0.01)
    world.bucket.lose = []
    world.start()
    await world.deliver(plan)
    await slow
    [result] = world.stream.results.values()
    assert result.status == ExecutionStatus.FILLED
    assert world.chain is not None
    assert sum(world.chain.begun.values()) == 1


async def test_what_may_still_land_is_asked_again() -> None:
    world, plan = World(real_venue=True), a_plan()
    claimed = Claimed("another", f"tx-{plan.id}", 1, 400, 450)
    await world.bucket.create(plan.id, encode_claim(claimed))
    world.venue.undecided = 2
    await world.deliver(plan, again=True)
    assert (world.venue.undecided, world.venue.prepared) == (0, [])
    assert [message.signature for message in world.told] == [f"sig-{plan.id}"] * 2
    assert len({message.id for message in world.told}) == 1
    [result] = world.stream.results.values()
    assert (result.status, result.received_ns, result.claimed_ns) == (ExecutionStatus.ABANDONED, 400, 450)
    assert "another" in result.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": Mode.LIVE},
        {"amount_in": 0, "min_amount_out": 10**9},
        {"legs": []},
        {"legs": [a_plan().legs[0]]},
        {"legs": [a_plan().legs[1], a_plan().legs[0]]},
        {"legs": [a_plan().legs[0].replace(amount_in=1), a_plan().legs[1]]},
        {"legs": [a_plan().legs[0], a_plan().legs[1].replace(min_amount_out=10**9)]},
        {"legs": [a_plan().legs[0], a_plan().legs[1].replace(token_out=JITO)]},
        {"token": JITO},
        {"min_amount_out": 10**9 + 105_999},
        {"cost": 2**63},
    ],
)
async def test_a_plan_that_breaks_a_promise_is_a_dead_letter(changes: dict[str, Any]) -> None:
    world = World()
    with pytest.raises(Reject):
        await world.deliver(a_plan().replace(**changes))
    assert not world.bucket.entries
    assert world.venue.open_tickets == 0


def test_claims_are_read_back() -> None:
    for claim in (Claimed("o", "r", 1, 2, 3), Settled("o", 5, b"\x00\xff")):
        assert decode_claim(encode_claim(claim)) == claim


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"version":2,"state":"claimed"}',
        b'{"version":1,"state":"begun"}',
        b'{"version":1,"state":"claimed","owner":"o"}',
        b'{"version":1,"state":"settled","owner":"o","settled_ns":1,"result":"*"}',
        b'{"version":1,"state":"settled","owner":"o","settled_ns":"x","result":""}',
    ],
)
async def test_a_claim_that_cannot_be_read_stops_its_plan(value: bytes) -> None:
    with pytest.raises(InvalidClaim):
        decode_claim(value)
    world = World()
    await world.bucket.create(a_plan().id, value)
    with pytest.raises(Reject):
        await world.deliver(a_plan())
    assert world.venue.submitted == []


async def test_a_claim_with_the_wrong_result() -> None:
    world, other = World(), World()
    await other.deliver(a_plan(2))
    [result] = other.stream.results.values()
    for payload in (b"", b"junk" * 9, a_plan().encode(), result.encode()):
        world.bucket.entries.clear()
        await world.bucket.create(a_plan().id, encode_claim(Settled("o", 1, payload)))
        with pytest.raises(Reject):
            await world.deliver(a_plan())
    assert not world.stream.results
