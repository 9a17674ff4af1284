"""Lanes: which wallet a plan trades from, and what each can still afford.

Every wallet is a lane of its own. A plan's wallets are tried in an order that follows from its id alone, so that the
same plans take the same wallets in every run, and a wallet that comes or goes moves no other plan. What a plan may need
is reserved when it takes a lane: the input, and the lamports it can cost at most. Balances are the chain's word; what
was spent since is subtracted until the chain has told of it. Pure: no I/O, no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "RENT_OF_SYSTEM_ACCOUNT",
    "Lane",
    "LaneSettings",
    "Lanes",
    "NoLane",
    "NoLaneReason",
    "WalletBalance",
    "rent_exempt",
    "rent_exempt_minimum",
]

# Rent as the chain has it: two years of 3,480 lamports for each byte and year, with 128 bytes for the account itself.
_LAMPORTS_PER_BYTE = 2 * 3480
_OVERHEAD_BYTES = 128


def rent_exempt_minimum(data_length: int) -> int:
    """Return the lamports that an account with so many bytes of data has to hold."""
    return (_OVERHEAD_BYTES + data_length) * _LAMPORTS_PER_BYTE


RENT_OF_SYSTEM_ACCOUNT = rent_exempt_minimum(0)


def rent_exempt(lamports: int, data_length: int) -> bool:
    """Tell whether an account may be left with so much: nothing at all, or its minimum and more.

    The chain fails every transaction that leaves an account in between.
    """
    return lamports == 0 or lamports >= rent_exempt_minimum(data_length)


class NoLaneReason(StrEnum):
    """Why no wallet takes a plan. The values are stable: they stand in results and metrics."""

    NO_WALLET = "no_wallet"
    BUSY = "busy"
    BALANCE_UNKNOWN = "balance_unknown"
    ACCOUNT_MISSING = "account_missing"
    TOKENS_SHORT = "tokens_short"
    LAMPORTS_SHORT = "lamports_short"
    RENT = "rent"


@dataclass(frozen=True, slots=True)
class NoLane:
    """No wallet takes the plan."""

    reason: NoLaneReason
    """of the wallet that came nearest to taking it"""
    detail: str
    """for people: every wallet and what it lacks"""


@dataclass(frozen=True, slots=True)
class WalletBalance:
    """What a wallet held at one slot, as the chain told it."""

    slot: int
    lamports: int
    """of its system account, from which fees and tips are paid"""
    tokens: Mapping[str, int]
    """base units by mint; a mint without an entry has no account. Wrapped SOL stands under its mint"""


@dataclass(frozen=True, slots=True)
class Lane:
    """The wallet that a plan trades from, and what is reserved for it."""

    address: str
    plan_id: str
    tokens: Mapping[str, int]
    """base units by mint"""
    lamports: int
    """for fees and tip at most"""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """Bounds of every lane."""

    max_plans: int
    """on their way at once"""
    min_lamports: int
    """kept in the system account beyond its rent"""


@dataclass(slots=True)
class _Standing:
    """One wallet: what the chain says, what is on its way, and what is spent and not yet told of."""

    address: str
    balance: WalletBalance | None = None
    on_the_way: dict[str, Lane] = field(default_factory=dict)
    spent: list[tuple[int, Lane]] = field(default_factory=list)
    """reservations of plans that landed, with their slot, until a balance of that slot or a later one is known"""
    closed: bool = False
    """takes no plans while something else is done with it"""

    def reserved_lamports(self) -> int:
        return sum(lane.lamports for lane in self._held())

    def reserved_tokens(self, mint: str) -> int:
        return sum(lane.tokens.get(mint, 0) for lane in self._held())

    def _held(self) -> list[Lane]:
        return [*self.on_the_way.values(), *(lane for _, lane in self.spent)]


class Lanes:
    """All wallets and what is on its way from each."""

    def __init__(self, addresses: Sequence[str], settings: LaneSettings) -> None:
        """Begin with balances unknown: nothing is taken before `learn`."""
        if len(set(addresses)) != len(addresses):
            raise ValueError("a wallet stands among the lanes twice")
        self._settings = settings
        self._standings = {address: _Standing(address) for address in addresses}
        self._of_plan: dict[str, str] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the wallets."""
        return tuple(self._standings)

    def learn(self, address: str, balance: WalletBalance) -> bool:
        """Take the chain's word on a wallet; return False for one older than what is known."""
        standing = self._standings[address]
        if standing.balance is not None and balance.slot < standing.balance.slot:
            return False
        standing.balance = balance
        standing.spent = [(slot, lane) for slot, lane in standing.spent if slot > balance.slot]
        return True

    def balance(self, address: str) -> WalletBalance | None:
        """Return what the chain last told of a wallet."""
        return self._standings[address].balance

    def on_the_way(self, address: str) -> int:
        """Return how many plans are on their way from a wallet."""
        return len(self._standings[address].on_the_way)

    def lane_of(self, plan_id: str) -> Lane | None:
        """Return the lane that a plan on its way holds."""
        address = self._of_plan.get(plan_id)
        return self._standings[address].on_the_way[plan_id] if address is not None else None

    def pick(self, plan_id: str, needs: Mapping[str, int], lamports: int) -> Lane | NoLane:
        """Take a lane for a plan and reserve what it needs: tokens by mint, and lamports for fees and tip at most.

        A mint with a need of 0 needs an account and no balance. A plan that holds a lane already gets that one.
        """
        if lamports < 0 or any(amount < 0 for amount in needs.values()):
            raise ValueError("a plan needs no negative amounts")
        held = self.lane_of(plan_id)
        if held is not None:
            return held
        refusals: list[tuple[_Standing, NoLaneReason, str]] = []
        for standing in self._order(plan_id):
            refused = self._refused(standing, needs, lamports)
            if refused is None:
                return self._take(standing, Lane(standing.address, plan_id, dict(needs), lamports))
            refusals.append((standing, *refused))
        if not refusals:
            return NoLane(NoLaneReason.NO_WALLET, "there is no wallet")
        told = "; ".join(f"{standing.address} {words}" for standing, _, words in sorted(refusals, key=_by_address))
        return NoLane(min((reason for _, reason, _ in refusals), key=_NEAREST.index), told)

    def hold(self, lane: Lane) -> None:
        """Reserve what an earlier process took, for a plan that is still on its way. Refuses nothing."""
        if self._of_plan.get(lane.plan_id) is None and lane.address in self._standings:
            self._take(self._standings[lane.address], lane)

    def release(self, plan_id: str, landed_slot: int | None = None) -> None:
        """Give a plan's lane back.

        With the slot that it landed in, its reservation stays until a balance of that slot or a later one is known;
        without one it never landed, and cost nothing. A plan that holds no lane is no error.
        """
        address = self._of_plan.pop(plan_id, None)
        if address is None:
            return
        standing = self._standings[address]
        lane = standing.on_the_way.pop(plan_id)
        if landed_slot is not None and (standing.balance is None or standing.balance.slot < landed_slot):
            standing.spent.append((landed_slot, lane))

    def close(self, address: str) -> None:
        """Take no plan from a wallet until it is opened again; those on their way go on."""
        self._standings[address].closed = True

    def reopen(self, address: str) -> None:
        """Take plans from a wallet again."""
        self._standings[address].closed = False

    def settled(self, address: str) -> bool:
        """Tell whether nothing is on its way from a wallet, and the chain has told of everything that landed."""
        standing = self._standings[address]
        return standing.balance is not None and not standing.on_the_way and not standing.spent

    def told(self, address: str) -> bool:
        """Tell whether the chain has told of everything that landed from a wallet."""
        return not self._standings[address].spent

    def free_lamports(self, address: str) -> int:
        """Return what a wallet can still spend on fees and tips; 0 or less: nothing."""
        standing = self._standings[address]
        if standing.balance is None:
            return 0
        kept = RENT_OF_SYSTEM_ACCOUNT + self._settings.min_lamports
        return standing.balance.lamports - standing.reserved_lamports() - kept

    def _order(self, plan_id: str) -> list[_Standing]:
        """Return the wallets in the plan's order: the highest hash of plan and wallet first."""
        return sorted(self._standings.values(), key=lambda standing: _weight(plan_id, standing.address), reverse=True)

    def _take(self, standing: _Standing, lane: Lane) -> Lane:
        standing.on_the_way[lane.plan_id] = lane
        self._of_plan[lane.plan_id] = standing.address
        return lane

    def _refused(self, standing: _Standing, needs: Mapping[str, int], lamports: int) -> tuple[NoLaneReason, str] | None:
        """Return why a wallet cannot take a plan, None where it can."""
        balance = standing.balance
        if standing.closed:
            return NoLaneReason.BUSY, "is being balanced"
        if len(standing.on_the_way) >= self._settings.max_plans:
            return NoLaneReason.BUSY, f"has {len(standing.on_the_way)} plans on their way"
        if balance is None:
            return NoLaneReason.BALANCE_UNKNOWN, "has a balance that is not known yet"
        for mint, needed in sorted(needs.items()):
            if mint not in balance.tokens:
                return NoLaneReason.ACCOUNT_MISSING, f"has no account for {mint}"
            free = balance.tokens[mint] - standing.reserved_tokens(mint)
            if free < needed:
                return NoLaneReason.TOKENS_SHORT, f"has {max(free, 0)} of {mint} free, {needed} are needed"
        left = balance.lamports - standing.reserved_lamports() - lamports
        if not rent_exempt(left, 0) or left == 0:  # a wallet that is emptied pays for nothing any more
            return NoLaneReason.RENT, f"would be left with {left} lamports, under its rent of {RENT_OF_SYSTEM_ACCOUNT}"
        if left < RENT_OF_SYSTEM_ACCOUNT + self._settings.min_lamports:
            kept = self._settings.min_lamports
            return NoLaneReason.LAMPORTS_SHORT, f"would be left with {left} lamports; {kept} over its rent are kept"
        return None


# From what passes by itself to what needs a person.
_NEAREST = (
    NoLaneReason.BUSY,
    NoLaneReason.TOKENS_SHORT,
    NoLaneReason.LAMPORTS_SHORT,
    NoLaneReason.RENT,
    NoLaneReason.BALANCE_UNKNOWN,
    NoLaneReason.ACCOUNT_MISSING,
    NoLaneReason.NO_WALLET,
)


def _weight(plan_id: str, address: str) -> bytes:
    return hashlib.blake2b(f"{plan_id}/{address}".encode(), digest_size=16).digest()


def _by_address(refusal: tuple[_Standing, NoLaneReason, str]) -> str:
    return refusal[0].address
