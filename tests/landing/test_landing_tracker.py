"""What is concluded from what nodes and block engine say, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from markets.solana.landing.engine import BlockEngine
from markets.solana.landing.settings import LandingSettings
from markets.solana.landing.tracker import Followed, Tracker
from markets.solana.rpc.errors import AttemptFailed, Unanswered
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.slots import SlotBoard

SIGNATURE = "5" * 88


class World:
    """A node and a block engine that say what the test wants."""

    def __init__(self) -> None:
        self.statuses: list[str | None] = [None]
        """One for each time it is asked; the last one from then on."""
        self.height = 0
        self.slot = 100
        self.bundle: str | None = None
        self.bundle_slot = 100
        self.failing: set[str] = set()
        self.asked: list[tuple[str, Any]] = []
        self.slots = SlotBoard(max_lag=20, fresh_s=15.0, clock=lambda: 0)

    async def call(self, method: str, params: Any = (), *, read: Callable[[Any], Any], **options: Any) -> Any:
        self.asked.append((method, options.get("min_slot", 0)))
        if method in self.failing:
            raise Unanswered(method, [], {})
        if method == "getBlockHeight":
            assert params == [{"commitment": "finalized"}]
            return read(self.height)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        value = None if status is None else {"confirmationStatus": status, "slot": self.slot}
        return read({"context": {"slot": self.slot}, "value": [value] * len(params[0])})

    async def get_slot(self, **_: Any) -> int:
        return self.slot

    async def states(self, bundles: list[str]) -> tuple[int, dict[str, str]]:
        if "engine" in self.failing:
            raise AttemptFailed("engine", "is down")
        return self.bundle_slot, {one: self.bundle for one in bundles if self.bundle is not None}


def tracker(world: World, *, most: int | None = None, **settings: Any) -> Tracker:
    return Tracker(
        cast(RpcPool, world),
        cast(BlockEngine, world),
        LandingSettings(**settings),
        wall_ns=lambda: 77,
        height=lambda: world.height + 31 if most is None else most,
    )


def followed(**changes: Any) -> Followed:
    fate = asyncio.get_running_loop().create_future()
    return Followed(SIGNATURE, 1_000, fate, **({"bundle": "b"} | changes))


async def looked(world: World, one: Followed, **settings: Any) -> str | None:
    made = tracker(world, **settings)
    made.follow(one)
    await made.look()
    assert made.count == (0 if one.fate.done() else 1)
    return one.fate.result() if one.fate.done() else None


@pytest.mark.parametrize(
    ("commitment", "status", "landed"),
    [
        ("processed", "processed", True),
        ("confirmed", "processed", False),
        ("confirmed", "confirmed", True),
        ("confirmed", "finalized", True),
        ("finalized", "confirmed", False),
        ("finalized", "finalized", True),
    ],
)
async def test_landed_at_the_commitment(commitment: str, status: str, landed: bool) -> None:
    world, one = World(), followed()
    world.statuses = [status]
    assert await looked(world, one, commitment=commitment) == ("landed" if landed else None)
    assert one.seen_ns == 77


async def test_a_status_that_is_gone_was_taken_back() -> None:
    world, one = World(), followed(seen_ns=5)
    assert await looked(world, one) is None
    assert one.seen_ns == 0


async def test_a_failed_bundle_ends_it_where_the_nodes_agree() -> None:
    world, one = World(), followed()
    world.bundle = "Failed"
    assert await looked(world, one) == "bundle_failed"
    # Asked again for it, of a node that is as far as the engine.
    assert world.asked[-1] == ("getSignatureStatuses", 100)


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        ("Failed", {"by_rpc": True}),
        ("Invalid", {}),
        ("Pending", {}),
        ("Landed", {}),
        (None, {"exhausted": True}),
    ],
)
async def test_what_does_not_end_it(state: str | None, changes: dict[str, Any]) -> None:
    world, one = World(), followed(**changes)
    world.bundle = state
    assert await looked(world, one) is None


async def test_a_bundle_that_nobody_knows_and_nobody_passes_on_is_lost() -> None:
    world, one = World(), followed(exhausted=True)
    world.bundle = "Invalid"
    assert await looked(world, one) == "bundle_failed"


async def test_a_bundle_sent_twice_may_have_landed_and_failed() -> None:
    world, one = World(), followed()
    world.bundle, world.statuses = "Failed", [None, "processed"]
    assert await looked(world, one) is None


async def test_a_node_that_is_behind_the_engine_decides_nothing() -> None:
    world, one = World(), followed()
    world.bundle = "Failed"
    made = tracker(world)
    made.follow(one)
    call = world.call

    async def behind(method: str, params: Any = (), **options: Any) -> Any:
        if options.get("min_slot"):
            raise Unanswered(method, [], {})
        return await call(method, params, **options)

    world.call = behind
    await made.look()
    assert not one.fate.done()


async def test_no_word_from_the_nodes_decides_nothing() -> None:
    world, one = World(), followed(seen_ns=5)
    world.bundle, world.height = "Failed", 5_000
    world.failing = {"getSignatureStatuses"}
    assert await looked(world, one) is None
    assert one.seen_ns == 5
    world.failing = {"engine", "getBlockHeight"}
    assert await looked(world, one) is None


async def test_it_ran_out_when_its_last_block_is_final() -> None:
    world, one = World(), followed(by_rpc=True)
    world.height = 1_000
    assert await looked(world, one) is None
    world.height = 1_001
    world.slots.note("another", 130)
    assert await looked(world, one) == "ran_out"
    # Its absence is told by a node that is as far as any.
    assert world.asked[-1] == ("getSignatureStatuses", 130)


async def test_what_landed_late_did_not_run_out() -> None:
    world, one = World(), followed(by_rpc=True)
    world.height, world.statuses = 2_000, [None, "processed"]
    assert await looked(world, one) is None


async def test_a_height_that_this_chain_cannot_have_decides_nothing() -> None:
    world, one = World(), followed(by_rpc=True)
    world.height = 9_000_000
    made = tracker(world, most=1_500)
    made.follow(one)
    await made.look()
    assert not one.fate.done()
    assert [method for method, _ in world.asked] == ["getSignatureStatuses", "getBlockHeight"]


async def test_it_goes_on_looking_after_an_answer_that_nobody_thought_of(caplog: pytest.LogCaptureFixture) -> None:
    world, one = World(), followed()
    made = tracker(world)
    call, failures = world.call, [ValueError("an answer that nobody thought of")]

    async def odd(method: str, params: Any = (), **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return await call(method, params, **options)

    world.call, world.statuses = odd, ["confirmed"]
    running = asyncio.create_task(made.run())
    made.follow(one)
    assert await asyncio.wait_for(one.fate, 2.0) == "landed"
    assert "nobody thought of" in caplog.text
    running.cancel()


async def test_it_looks_by_itself_and_when_it_is_poked() -> None:
    world, one = World(), followed()
    made = tracker(world)
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0.02)
    made.poke()
    await asyncio.sleep(0.02)
    assert world.asked == []
    made.follow(one)
    await asyncio.sleep(0)
    made.poke()
    await asyncio.sleep(0.02)
    assert len(world.asked) == 1
    world.statuses = ["finalized"]
    await asyncio.wait_for(one.fate, 1.0)
    running.cancel()
