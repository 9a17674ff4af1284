"""The market's whole state from slot to slot, and how it is taken up again after the process died. Pure.

What a restarted market finds is the last state of each pool. The slot that was being published when the old process
died may be there in part: such pools are done already, the others still get their turn. See `localnet.market` for why
that is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from localnet.chain.records import Block
from localnet.market import Engine, OwnFill, Trade, own_fills
from localnet.publication import HeldState
from markets.pool_states import PoolStates
from pipeline._core import Pool
from pipeline.clock import NS_PER_MS, NS_PER_S
from pipeline.ids import deterministic_id
from pipeline.messages import ExecutionResult, ExecutionStatus, PoolState, SlotUpdate

# Market time of slot 0 of a market that begins: 2026-01-01.
BEGINNING_NS = 1_767_225_600_000_000_000


@dataclass(frozen=True, slots=True)
class Advance:
    """What one slot brought."""

    slot: int
    market_ns: int
    changed: tuple[HeldState, ...]
    """Pools that this slot changed, in the order of their addresses."""
    trades: tuple[Trade, ...]
    differing: tuple[OwnFill, ...]
    """Fills that came out otherwise here than in the executor's books."""
    closing: bool
    differences: tuple[str, ...] = ()
    """On a chain: trades that the programs carried out otherwise than the core's math says, in words."""
    block: Block | None = None
    """On a chain: the slot's block."""


@dataclass(slots=True)
class World:
    """Pools, slot and market time; advances one slot at a time."""

    engine: Engine
    slot: int
    """The last slot that is complete."""
    market_ns: int
    slot_ns: int
    pools: dict[str, HeldState]
    id: str
    """Names this market: another beginning is another market, whose pools have nothing to do with these."""
    closing: bool = False
    _fills: dict[int, list[OwnFill]] = field(default_factory=dict)
    _plans: dict[str, int] = field(default_factory=dict)

    def result(self, result: ExecutionResult, *, applied: bool = False) -> None:
        """Note the fills of a result; they move the pools in the slot after the one they landed in.

        `applied` says that they did so before this process began.
        """
        if result.status != ExecutionStatus.FILLED or result.plan_id in self._plans:
            return
        self._plans[result.plan_id] = result.slot
        if applied:
            return
        self._fills.setdefault(result.slot, []).extend(
            OwnFill(result.plan_id, fill.pool, fill.token_in, fill.amount_in, fill.amount_out) for fill in result.fills
        )

    def advance(self, *, last: bool = False) -> Advance:
        """Go on by one slot.

        `last` begins the closing: our fills of the slot before still move the pools, the traders rest. In the slots
        after it nothing moves.
        """
        frozen = self.closing
        self.closing = self.closing or last
        slot, market_ns = self.slot + 1, self.market_ns + self.slot_ns
        fills = own_fills(self._due())
        changed: list[HeldState] = []
        trades: list[Trade] = []
        differing: list[OwnFill] = []
        for address in () if frozen else sorted(self.pools):
            held = self.pools[address]
            if held.slot < slot:
                pool = held.pool.at(slot, held.write_version + 1, market_ns // NS_PER_S)
                step = self.engine.step(pool, slot, fills.get(address, ()), trading=not self.closing)
                trades += step.trades
                differing += step.differing
                if step.pool is pool:
                    continue
                held = self.pools[address] = HeldState(step.pool, slot, held.write_version + 1, market_ns)
            changed.append(held)
        self.slot, self.market_ns = slot, market_ns
        return Advance(slot, market_ns, tuple(changed), tuple(trades), tuple(differing), self.closing)

    def _due(self) -> list[OwnFill]:
        """Return the fills that landed up to the present slot and were not applied yet."""
        due = [fill for slot in sorted(self._fills) if slot <= self.slot for fill in self._fills[slot]]
        self._fills = {slot: fills for slot, fills in self._fills.items() if slot > self.slot}
        self._plans = {plan: slot for plan, slot in self._plans.items() if slot > self.slot - 50}
        return due


def begin(engine: Engine, pools: Mapping[str, Pool], *, first_slot: int, slot_ms: int) -> World:
    """Return a market whose first slot is still to come."""
    id_ = deterministic_id("market", engine.seed, first_slot, *sorted(pools))
    slot_ns = slot_ms * NS_PER_MS
    before = first_slot - 1
    market_ns = BEGINNING_NS + before * slot_ns
    held = {address: HeldState(pool, before, 0, market_ns) for address, pool in pools.items()}
    return World(engine, before, market_ns, slot_ns, held, id_)


def resume(
    engine: Engine, addresses: Iterable[str], states: Iterable[PoolState], update: SlotUpdate, *, slot_ms: int
) -> World | None:
    """Return the market as its messages left it; None where they are not those of this market, or not all there."""
    known = PoolStates()
    for state in states:
        known.apply(state)
    held: dict[str, HeldState] = {}
    for address in addresses:
        pool, newest = known.get(address), known.newest(address)
        if pool is None or newest is None or newest.slot > update.slot + 1:
            return None
        held[address] = HeldState(pool, newest.slot, newest.write_version, newest.observed_ns)
    if set(known.addresses()) != set(held):
        return None
    return World(engine, update.slot, update.market_ns, slot_ms * NS_PER_MS, held, update.causation_id)
