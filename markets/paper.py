"""The paper venue: fills are computed on a copy of the market's pools, nothing is sent.

Plans land whole slots after they were planned, all plans of a slot one after the other in the order of their ids, each
on what the ones before it left. What a fill changes lasts until the next slot, where the market's own states say what
became of the pools; an offline market applies the same fills in the same order, a market that does not know of us never
will, and would then show the same gap again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from markets.costs import Costs
from markets.market_view import MarketView
from markets.venue import Dropped, Filled, Landing, NeverBegun, Prepared, Recovery, Reverted
from pipeline._core import Pool, QuoteError
from pipeline.messages import ExecutionPlan, Fill, Mode, PoolState, SlotUpdate


@dataclass(slots=True)
class _Submission:
    plan: ExecutionPlan
    outcome: asyncio.Future[Landing]
    submitted_s: float


class PaperVenue:
    """A market to trade in without trading."""

    mode = Mode.PAPER

    def __init__(
        self,
        *,
        landing_slots: int,
        seed: int,
        drop_ratio: float,
        landing_timeout_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without pools; they come with `take_pool` and `take_slot`."""
        self._landing_slots = landing_slots
        self._seed = seed
        self._drop_ratio = drop_ratio
        self._landing_timeout_s = landing_timeout_s
        self._monotonic = monotonic
        self.market = MarketView()
        self._filled_pools: dict[str, Pool] = {}
        self._submissions: dict[str, _Submission] = {}
        self._undecided: dict[int, int] = {}
        self._ticket = 0
        self._late = False

    @property
    def slot(self) -> int:
        """Return the newest slot seen."""
        return self.market.slot

    @property
    def now_ns(self) -> int:
        """Return market time of that slot, ns."""
        return self.market.now_ns

    @property
    def waiting(self) -> int:
        """Return how many submissions have not landed."""
        return len(self._submissions)

    def take_pool(self, state: PoolState) -> None:
        """Keep a pool's state until its slot is whole."""
        self.market.take_pool(state)

    def take_slot(self, update: SlotUpdate) -> bool:
        """Make the states of a slot the present ones, all at once; return False where a state was missed."""
        whole = self.market.take_slot(update)
        if whole is None:
            return True
        self._filled_pools.clear()
        # Plans announced before this slot belong to it, even where their claim is still on its way.
        self._ticket += 1
        self._land_when_decided()
        return whole

    def load(self, states: list[PoolState], update: SlotUpdate | None) -> None:
        """Take over states read from the stream: the start, or after a state was missed."""
        self.market.load(states, update)
        self._filled_pools.clear()

    def announce(self, plan: ExecutionPlan) -> int:
        """Return the number of the slot's turn in which the plan came in."""
        self._undecided[self._ticket] = self._undecided.get(self._ticket, 0) + 1
        return self._ticket

    def decided(self, ticket: int) -> None:
        """Let the slot land once nothing that came in before it is undecided."""
        left = self._undecided[ticket] - 1
        if left:
            self._undecided[ticket] = left
        else:
            del self._undecided[ticket]
        if self._late or (not left and ticket < self._ticket):
            self._land_when_decided()

    async def prepare(self, plan: ExecutionPlan) -> Prepared:
        """Return the reference of a submission, at once."""
        return Prepared(f"paper:{plan.id}")

    def submit(self, plan: ExecutionPlan, prepared: Prepared) -> asyncio.Future[Landing]:
        """Queue a plan for its landing slot."""
        assert prepared.reference == f"paper:{plan.id}"
        outcome: asyncio.Future[Landing] = asyncio.get_running_loop().create_future()
        self._submissions[plan.id] = _Submission(plan, outcome, self._monotonic())
        self._late = self._late or plan.slot + self._landing_slots <= self.market.slot
        return outcome

    def withdraw(self, prepared: Prepared) -> None:
        """Do nothing: nothing is set aside."""

    async def recover(self, plan: ExecutionPlan, reference: str) -> Recovery:
        """Return NeverBegun: a paper submission lives in the memory of its process and ended with it."""
        return NeverBegun()

    def give_up(self) -> int:
        """Drop what no slot came for in time; return how many."""
        oldest = self._monotonic() - self._landing_timeout_s
        late = [plan_id for plan_id, submission in self._submissions.items() if submission.submitted_s < oldest]
        for plan_id in sorted(late):
            submission = self._submissions.pop(plan_id)
            if not submission.outcome.done():
                cause = f"no slot within {self._landing_timeout_s:g} s"
                submission.outcome.set_result(Dropped(self.market.slot, cause))
        return len(late)

    def _land_when_decided(self) -> None:
        """Land every plan whose slot has come, in the order of their ids, unless one may still join them."""
        if any(ticket < self._ticket for ticket in self._undecided):
            return
        self._late = False
        waiting = self._submissions.items()
        due = [plan_id for plan_id, found in waiting if found.plan.slot + self._landing_slots <= self.market.slot]
        for plan_id in sorted(due):
            submission = self._submissions.pop(plan_id)
            # Cancelled where the executor shuts down: then nobody books it, and it has not happened.
            if submission.outcome.done():
                continue
            try:
                submission.outcome.set_result(self._land(submission.plan))
            except Exception as error:
                # One plan's trouble is its own: it must not keep the others from landing.
                submission.outcome.set_exception(error)

    def _land(self, plan: ExecutionPlan) -> Landing:
        if dropped(self._seed, plan.id, self._drop_ratio):
            return Dropped(self.market.slot, "dropped on its way, as paper_drop_ratio asks for")
        found = fill(plan, self._pool, slot=self.market.slot, sol_price_usd_e6=self.market.sol_price_usd_e6())
        if isinstance(found, Reverted):
            return found
        filled, pools = found
        self._filled_pools |= pools
        return filled

    def _pool(self, address: str) -> Pool | None:
        return self._filled_pools.get(address) or self.market.pool(address)


def dropped(seed: int, plan_id: str, ratio: float) -> bool:
    """Decide by seed and id alone whether a plan is lost on its way: the same for any order of plans."""
    if ratio <= 0:
        return False
    digest = blake2b(f"{seed}:{plan_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < ratio * 2**64


def fill(
    plan: ExecutionPlan, pool_of: Callable[[str], Pool | None], *, slot: int, sol_price_usd_e6: int
) -> tuple[Filled, dict[str, Pool]] | Reverted:
    """Swap a plan's legs one after the other, each the amount that the plan says, as on a chain: all of them, or none.

    A leg must give what the next one takes; what it gives beyond that stays with us, in its own token.

    Returns the fills and the pools as they are left, or the leg that could not give its minimum.
    """
    fees = Costs(plan.base_fee, plan.priority_fee, 0)
    left: dict[str, Pool] = {}
    fills: list[Fill] = []
    amounts = [plan.amount_in, *(leg.amount_in for leg in plan.legs[1:])]
    needed = [*amounts[1:], plan.min_amount_out]
    for index, (leg, amount) in enumerate(zip(plan.legs, amounts, strict=True)):
        pool = left.get(leg.pool) or pool_of(leg.pool)
        if pool is None:
            return Reverted(slot, index, f"pool {leg.pool} is not known", sol_price_usd_e6, fees)
        token_a = pool.token_a
        if {token_a, pool.token_b} != {leg.token_in, leg.token_out} or leg.token_in == leg.token_out:
            return Reverted(slot, index, f"pool {leg.pool} does not hold the leg's tokens", sol_price_usd_e6, fees)
        try:
            left[leg.pool], quote = pool.swap(leg.token_in == token_a, amount)
        except QuoteError as error:
            return Reverted(slot, index, str(error), sol_price_usd_e6, fees)
        least = max(leg.min_amount_out, needed[index])
        if quote.amount_out < least:
            return Reverted(slot, index, f"gives {quote.amount_out}, under the minimum {least}", sol_price_usd_e6, fees)
        fills.append(
            Fill(
                pool=leg.pool,
                protocol=leg.protocol,
                token_in=leg.token_in,
                token_out=leg.token_out,
                amount_in=amount,
                amount_out=quote.amount_out,
                expected_amount_out=leg.amount_out,
                slot=slot,
            )
        )
    costs = Costs(plan.base_fee, plan.priority_fee, plan.tip)
    return Filled(slot, tuple(fills), sol_price_usd_e6, costs), left
