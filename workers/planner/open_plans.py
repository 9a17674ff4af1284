"""Plans that have no result yet, or whose effect the market does not show yet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

# Results that came before their plan was known: at a restart the two streams are read one after the other.
_EARLY_MAX = 50_000
_DECIDED_AFTER = 1_000
"""Slots after which the chain takes no transaction of a plan any more: a blockhash lives for 150 blocks."""


@dataclass(frozen=True, slots=True)
class Swap:
    """What a plan will do to one pool."""

    pool: str
    token_in: str
    amount_in: int


@dataclass(slots=True)
class Pending:
    """Swaps of open plans on one pool, in the order they were planned.

    While `generation` is the same, swaps are only appended: who has applied some need apply the others alone.
    """

    generation: int = 0
    swaps: list[Swap] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Open:
    slot: int
    token: str
    amount_in: int
    swaps: tuple[Swap, ...]


class OpenPlans:
    """What is at stake, and what it will do to the pools.

    A plan is open until its result is in, and counts for every opportunity of a slot up to and with the result's slot;
    the pools of the slot after that one show its fills. The answer thus depends on slots alone, not on how fast the
    result travelled. A plan whose result never comes, as of one that became a dead letter, is open until nothing of it
    can land any more: else it would bar its pools and use up its token's limit for ever.
    """

    def __init__(self) -> None:
        """Start with nothing open."""
        self._open: dict[str, _Open] = {}
        self._amounts: dict[str, int] = {}
        self._pending: dict[str, Pending] = {}
        self._closing: dict[int, list[str]] = {}
        self._early: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        """Return how many plans are open."""
        return len(self._open)

    def add(self, plan_id: str, token: str, amount_in: int, swaps: Iterable[Swap] = (), *, slot: int) -> bool:
        """Open a plan that was made at a slot; return False where it is open already."""
        if plan_id in self._open:
            return False
        plan = self._open[plan_id] = _Open(slot, token, amount_in, tuple(swaps))
        self._amounts[token] = self._amounts.get(token, 0) + amount_in
        for swap in plan.swaps:
            self._pending.setdefault(swap.pool, Pending()).swaps.append(swap)
        if (ended := self._early.pop(plan_id, None)) is not None:
            self._closing.setdefault(ended, []).append(plan_id)
        return True

    def settle(self, plan_id: str, slot: int) -> None:
        """Note a plan's result; it is closed for opportunities of later slots."""
        if plan_id in self._open:
            self._closing.setdefault(slot, []).append(plan_id)
            return
        self._early[plan_id] = slot
        if len(self._early) > _EARLY_MAX:
            self._early.popitem(last=False)

    def advance(self, slot: int) -> None:
        """Close what had its result before this slot, or can have none any more."""
        while self._open:
            plan_id, oldest = next(iter(self._open.items()))
            if oldest.slot + _DECIDED_AFTER >= slot:
                break
            self._close(self._open.pop(plan_id))
        for ended in [closing for closing in self._closing if closing < slot]:
            for plan_id in self._closing.pop(ended):
                # A repeated result finds its plan closed already.
                if (plan := self._open.pop(plan_id, None)) is not None:
                    self._close(plan)

    def amount(self, token: str) -> int:
        """Return what is open in a token, base units."""
        return self._amounts.get(token, 0)

    def pending(self, pool: str) -> Pending | None:
        """Return what open plans will do to a pool, or None where none does anything."""
        found = self._pending.get(pool)
        return found if found is not None and found.swaps else None

    def _close(self, plan: _Open) -> None:
        self._amounts[plan.token] -= plan.amount_in
        for swap in plan.swaps:
            pending = self._pending[swap.pool]
            pending.generation += 1
            pending.swaps = [kept for kept in pending.swaps if kept is not swap]
