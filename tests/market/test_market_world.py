"""The market's messages, and taking it up again from them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localnet.market import Temper, offline_engine
from localnet.publication import HeldState, Publication
from localnet.world import Advance, World, begin, resume
from markets.pool_states import PoolStates
from markets.tokens import load_registry
from pipeline.messages import ExecutionResult, ExecutionStatus, Fill, PoolState, SlotUpdate

ENGINE, POOLS = offline_engine(load_registry(), 6, Temper(noise_chance=300_000))
ADDRESSES = sorted(POOLS)


class Told:
    """What a server keeps: the last message of each subject, in the order of the publishes."""

    def __init__(self) -> None:
        self.keyframes: dict[str, PoolState] = {}
        self.changes: dict[str, PoolState] = {}
        self.update: SlotUpdate | None = None

    def states(self) -> list[PoolState]:
        return [*self.keyframes.values(), *self.changes.values()]


def new_world() -> World:
    return begin(ENGINE, POOLS, first_slot=1, slot_ms=100)


def tell(told: Told, publication: Publication, world: World, advance: Advance, stop_after: int | None = None) -> bool:
    """Publish a slot as the worker does; `stop_after` messages the process dies. Return whether it came to the end."""
    changed = {held.pool.address for held in advance.changed}
    messages: list[PoolState | SlotUpdate] = []
    for position, address in enumerate(sorted(world.pools)):
        if advance.slot == 1 or (advance.slot + position) % 7 == 0:
            messages.append(publication.keyframe(world.pools[address], 0))
        elif address in changed:
            messages.append(publication.change(world.pools[address], 0))
    count = sum(isinstance(message, PoolState) and message.slot == advance.slot for message in messages)
    messages.append(
        publication.slot(
            advance.slot, advance.market_ns, 0, market=world.id, pools_changed=count, closing=advance.closing
        )
    )
    for number, message in enumerate(messages):
        if number == stop_after:
            return False
        match message:
            case SlotUpdate():
                told.update = message
            case PoolState(complete=True):
                told.keyframes[message.pool] = message
            case PoolState():
                told.changes[message.pool] = message
    return True


def result(world: World, plan: str, address: str, amount: int) -> ExecutionResult:
    pool = world.pools[address].pool
    fill = Fill(
        pool=address,
        token_in=pool.token_a,
        token_out=pool.token_b,
        amount_in=amount,
        amount_out=pool.quote_in(True, amount).amount_out,
        slot=world.slot,
    )
    return ExecutionResult(
        id=plan, plan_id=plan, status=ExecutionStatus.FILLED, slot=world.slot, fills=[fill], token=pool.token_a
    )


def picture(world: World) -> dict[str, tuple[int, int, int, bytes]]:
    return {
        address: (
            held.slot,
            held.write_version,
            held.observed_ns,
            b"".join(repr(account).encode() for account in held.pool.accounts()),
        )
        for address, held in world.pools.items()
    }


@settings(max_examples=25, deadline=None)
@given(died_in=st.integers(2, 12), after=st.integers(0, 25), fills=st.sets(st.integers(1, 12), max_size=6))
def test_a_market_that_died_at_any_message_goes_on_as_if_it_had_not(died_in: int, after: int, fills: set[int]):
    told, publication = Told(), Publication("market")
    world, steady = new_world(), new_world()
    results: list[ExecutionResult] = []
    died = False
    while world.slot < 14:
        if world.slot in fills and len(results) < len(fills):
            results.append(result(world, f"plan-{world.slot}", ADDRESSES[world.slot % len(ADDRESSES)], 10**9))
            world.result(results[-1])
        for known in results:
            steady.result(known)
        advance = world.advance()
        whole = tell(told, publication, world, advance, after if advance.slot == died_in and not died else None)
        if whole:
            steady.advance()
            continue
        died = True
        assert told.update is not None
        resumed = resume(ENGINE, ADDRESSES, told.states(), told.update, slot_ms=100)
        assert resumed is not None
        world, publication = resumed, Publication("market")
        for keyframe in told.keyframes.values():
            publication.resume(keyframe)
        for known in results:
            world.result(known, applied=known.slot < world.slot)
    assert picture(world) == picture(steady)
    assert world.id == steady.id


def test_a_reader_that_starts_late_sees_the_same_pools():
    told, publication, world = Told(), Publication("market"), new_world()
    for _ in range(20):
        tell(told, publication, world, world.advance())
    known = PoolStates()
    for state in told.states():
        known.apply(state)
    for address, held in world.pools.items():
        pool = known.get(address)
        assert pool is not None
        assert pool.accounts() == held.pool.accounts()


def test_a_change_holds_only_what_differs_and_names_its_keyframe():
    publication, world = Publication("market"), new_world()
    address = ADDRESSES[0]
    keyframe = publication.keyframe(world.pools[address], 0)
    moved, _ = world.pools[address].pool.swap(True, 10**6)
    change = publication.change(HeldState(moved, 1, 1, 5), 0)
    assert keyframe.complete
    assert not change.complete
    assert change.causation_id == keyframe.id
    assert 0 < len(change.accounts) < len(keyframe.accounts)
    assert change.observed_ns == 5


def test_messages_of_another_market_are_not_resumed():
    told, publication, world = Told(), Publication("market"), new_world()
    tell(told, publication, world, world.advance())
    assert told.update is not None
    other = offline_engine(load_registry(), 7)[1]
    assert resume(ENGINE, other, told.states(), told.update, slot_ms=100) is None
    assert resume(ENGINE, ADDRESSES[1:], told.states(), told.update, slot_ms=100) is None
    assert resume(ENGINE, ADDRESSES, told.states()[1:], told.update, slot_ms=100) is None


def test_a_result_counts_once_and_only_when_filled():
    world = new_world()
    world.advance()
    filled = result(world, "plan", ADDRESSES[0], 10**9)
    world.result(filled)
    world.result(filled)
    world.result(filled.replace(id="other", plan_id="other", status=ExecutionStatus.REVERTED))
    ours = [trade for trade in world.advance().trades if trade.trader == "ours"]
    assert [trade.amount_in for trade in ours] == [10**9]
    assert not [trade for trade in world.advance().trades if trade.trader == "ours"]


@pytest.mark.parametrize("slot_ms", [1, 400])
def test_market_time_follows_the_length_of_a_slot(slot_ms: int):
    world = begin(ENGINE, POOLS, first_slot=5, slot_ms=slot_ms)
    first = world.advance()
    assert first.slot == 5
    assert world.advance().market_ns - first.market_ns == slot_ms * 1_000_000
