"""Lanes: the choice follows from the plan alone, and no wallet is ever spent below what it must keep."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from markets.solana.wallets.lanes import (
    RENT_OF_SYSTEM_ACCOUNT,
    Lane,
    Lanes,
    LaneSettings,
    NoLane,
    NoLaneReason,
    WalletBalance,
    rent_exempt,
    rent_exempt_minimum,
)

SOL, USDC = "So11111111111111111111111111111111111111112", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
WALLETS = [f"wallet{number}" for number in range(4)]
MIN = 20_000_000
FLOOR = RENT_OF_SYSTEM_ACCOUNT + MIN
RICH = WalletBalance(1, 10**12, {SOL: 10**12, USDC: 10**12})


def lanes(addresses: list[str] | None = None, *, max_plans: int = 16, balance: WalletBalance | None = RICH) -> Lanes:
    made = Lanes(WALLETS if addresses is None else addresses, LaneSettings(max_plans, MIN))
    for address in made.addresses if balance is not None else ():
        assert balance is not None
        made.learn(address, balance)
    return made


def picked(outcome: Lane | NoLane) -> Lane:
    assert isinstance(outcome, Lane), outcome
    return outcome


def refused(outcome: Lane | NoLane) -> NoLane:
    assert isinstance(outcome, NoLane), outcome
    return outcome


def test_rent_is_what_the_chain_asks_for() -> None:
    # As getMinimumBalanceForRentExemption answers for 0, 82 and 165 bytes.
    assert [rent_exempt_minimum(length) for length in (0, 82, 165)] == [890_880, 1_461_600, 2_039_280]
    assert [rent_exempt(lamports, 0) for lamports in (0, 1, 890_879, 890_880)] == [True, False, False, True]


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=30, unique=True), st.randoms())
def test_the_choice_follows_from_the_plan_and_not_from_what_came_before(plans: list[str], random: object) -> None:
    first = {plan: picked(lanes(max_plans=100).pick(plan, {SOL: 1}, 1)).address for plan in plans}
    together = lanes(max_plans=100)
    random.shuffle(plans)
    assert {plan: picked(together.pick(plan, {SOL: 1}, 1)).address for plan in plans} == first


def test_plans_spread_over_the_wallets_and_a_wallet_that_goes_moves_only_its_own() -> None:
    plans = [f"plan {number}" for number in range(400)]
    of_all = {plan: picked(lanes(max_plans=1000).pick(plan, {}, 0)).address for plan in plans}
    assert min(Counter(of_all.values()).values()) > 60
    of_three = {plan: picked(lanes(WALLETS[:3], max_plans=1000).pick(plan, {}, 0)).address for plan in plans}
    assert all(of_three[plan] == wallet for plan, wallet in of_all.items() if wallet != WALLETS[3])


def test_a_wallet_that_cannot_gives_way_to_the_next_in_the_plans_order() -> None:
    everyone = lanes()
    wallet = picked(everyone.pick("plan", {SOL: 10}, 5000)).address
    poor = lanes()
    poor.learn(wallet, WalletBalance(2, 10**12, {SOL: 9}))
    assert picked(poor.pick("plan", {SOL: 10}, 5000)).address != wallet


def test_a_plan_that_is_asked_for_again_holds_the_same_lane_once() -> None:
    one = lanes(["only"])
    first = picked(one.pick("plan", {SOL: 6 * 10**11}, 5000))
    assert one.pick("plan", {SOL: 6 * 10**11}, 5000) is first
    assert one.on_the_way("only") == 1
    assert refused(one.pick("other", {SOL: 6 * 10**11}, 5000)).reason is NoLaneReason.TOKENS_SHORT


@pytest.mark.parametrize(
    ("balance", "needs", "lamports", "reason", "words"),
    [
        (None, {}, 0, NoLaneReason.BALANCE_UNKNOWN, "not known yet"),
        (WalletBalance(1, 10**12, {}), {USDC: 0}, 0, NoLaneReason.ACCOUNT_MISSING, f"no account for {USDC}"),
        (WalletBalance(1, 10**12, {SOL: 9}), {SOL: 10}, 0, NoLaneReason.TOKENS_SHORT, "has 9 of .* 10 are needed"),
        (WalletBalance(1, FLOOR + 99, {}), {}, 100, NoLaneReason.LAMPORTS_SHORT, f"{FLOOR - 1} lamports"),
        (WalletBalance(1, 890_980, {}), {}, 101, NoLaneReason.RENT, "890879 lamports"),
        (WalletBalance(1, 100, {}), {}, 100, NoLaneReason.RENT, "left with 0 lamports"),
    ],
)
def test_what_a_wallet_lacks_is_named(
    balance: WalletBalance | None, needs: dict[str, int], lamports: int, reason: NoLaneReason, words: str
) -> None:
    no = refused(lanes(["wallet"], balance=balance).pick("plan", needs, lamports))
    assert no.reason is reason
    assert "wallet " in no.detail
    assert re.search(words, no.detail)


def test_exactly_enough_is_enough() -> None:
    one = lanes(["wallet"], balance=WalletBalance(1, FLOOR + 100, {SOL: 10, USDC: 0}))
    picked(one.pick("plan", {SOL: 10, USDC: 0}, 100))
    assert one.free_lamports("wallet") == 0


def test_no_wallets_and_nobody_free_are_told_apart() -> None:
    assert refused(lanes([]).pick("plan", {}, 0)).reason is NoLaneReason.NO_WALLET
    one = lanes(["wallet"], max_plans=2)
    picked(one.pick("a", {}, 0))
    picked(one.pick("b", {}, 0))
    no = refused(one.pick("c", {}, 0))
    assert no.reason is NoLaneReason.BUSY
    assert "2 plans" in no.detail
    one.release("a")
    picked(one.pick("c", {}, 0))


def test_what_passes_by_itself_is_named_before_what_needs_a_person() -> None:
    two = lanes(["a", "b"], max_plans=1, balance=None)
    two.learn("a", RICH)
    picked(two.pick("first", {SOL: 1}, 0))
    no = refused(two.pick("second", {SOL: 1}, 0))
    assert no.reason is NoLaneReason.BUSY
    assert no.detail == "a has 1 plans on their way; b has a balance that is not known yet"


def test_what_landed_stays_reserved_until_the_chain_tells_of_it() -> None:
    one = lanes(["wallet"], balance=WalletBalance(10, FLOOR + 100, {}))
    picked(one.pick("plan", {}, 100))
    one.release("plan", landed_slot=12)
    assert one.on_the_way("wallet") == 0
    assert refused(one.pick("next", {}, 1)).reason is NoLaneReason.LAMPORTS_SHORT
    one.learn("wallet", WalletBalance(11, FLOOR + 100, {}))
    assert refused(one.pick("next", {}, 1)).reason is NoLaneReason.LAMPORTS_SHORT
    one.learn("wallet", WalletBalance(12, FLOOR + 60, {}))
    picked(one.pick("next", {}, 60))
    assert not one.learn("wallet", WalletBalance(11, 10**12, {}))
    assert one.free_lamports("wallet") == 0


def test_what_an_earlier_process_took_is_held_and_given_back() -> None:
    one = lanes(["wallet"], max_plans=1)
    one.hold(Lane("wallet", "old", {SOL: 5}, 100))
    one.hold(Lane("a wallet that is not ours any more", "older", {}, 0))
    assert refused(one.pick("new", {}, 0)).reason is NoLaneReason.BUSY
    one.release("old", landed_slot=1)
    picked(one.pick("new", {}, 0))
    one.release("unknown")


def test_a_closed_lane_takes_no_plan_and_keeps_those_that_it_has() -> None:
    one = lanes(["wallet"], balance=WalletBalance(10, FLOOR + 100, {}))
    before = picked(one.pick("before", {}, 50))
    assert not one.settled("wallet")
    one.close("wallet")
    no = refused(one.pick("after", {}, 1))
    assert (no.reason, no.detail) == (NoLaneReason.BUSY, "wallet is being balanced")
    assert one.pick("before", {}, 50) is before
    one.release("before", landed_slot=12)
    assert not one.settled("wallet")  # what it cost is not told of yet
    one.learn("wallet", WalletBalance(12, FLOOR + 60, {}))
    assert one.settled("wallet")
    assert refused(one.pick("after", {}, 1)).reason is NoLaneReason.BUSY
    one.reopen("wallet")
    picked(one.pick("after", {}, 60))
    assert not lanes(["wallet"], balance=None).settled("wallet")


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        lanes(["a", "a"])
    for needs, lamports in (({SOL: -1}, 0), ({}, -1)):
        with pytest.raises(ValueError, match="negative"):
            lanes().pick("plan", needs, lamports)


@dataclass
class _True:
    """What really stands on the chain."""

    lamports: int = FLOOR + 1_000
    sol: int = 1_000
    told: list[tuple[int, int, int]] = field(default_factory=list)


class Chain(RuleBasedStateMachine):
    """A chain on which plans land at any time and in any order, told of late, and wallets that spend all they may."""

    def __init__(self) -> None:
        super().__init__()
        self.slot = 1
        self.lanes = lanes(WALLETS[:2], max_plans=4, balance=WalletBalance(1, FLOOR + 1_000, {SOL: 1_000}))
        self.wallets = {address: _True() for address in WALLETS[:2]}
        self.flying: dict[str, Lane] = {}
        self.landed: list[tuple[str, int]] = []
        self.count = 0
        self.note()

    def note(self) -> None:
        for wallet in self.wallets.values():
            wallet.told.append((self.slot, wallet.lamports, wallet.sol))

    @rule(sol=st.sampled_from([0, 300, 1000]), lamports=st.sampled_from([0, 300, 1000]))
    def plan(self, sol: int, lamports: int) -> None:
        self.count += 1
        outcome = self.lanes.pick(f"plan {self.count}", {SOL: sol}, lamports)
        if isinstance(outcome, Lane):
            self.flying[outcome.plan_id] = outcome

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), share=st.sampled_from([0, 0.5, 1]), lost=st.integers(0, 1))
    def land(self, data: st.DataObject, share: float, lost: int) -> None:
        """Cost at most what was reserved; a cycle gives its input back, unless somebody was wrong about it."""
        lane = self.flying.pop(data.draw(st.sampled_from(sorted(self.flying))))
        wallet = self.wallets[lane.address]
        self.slot += 1
        wallet.lamports -= int(lane.lamports * share)
        wallet.sol -= lane.tokens[SOL] * lost
        self.landed.append((lane.plan_id, self.slot))
        self.note()

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def never_land(self, data: st.DataObject) -> None:
        plan = data.draw(st.sampled_from(sorted(self.flying)))
        del self.flying[plan]
        self.lanes.release(plan)

    @precondition(lambda self: self.landed)
    @rule(data=st.data())
    def hear_of_a_landing(self, data: st.DataObject) -> None:
        plan, slot = self.landed.pop(data.draw(st.integers(0, len(self.landed) - 1)))
        self.lanes.release(plan, slot)

    @rule(data=st.data(), share=st.sampled_from([0, 1]))
    def balance_a_wallet(self, data: st.DataObject, share: int) -> None:
        """Between trades, what it holds is shifted from one form to the other."""
        address = data.draw(st.sampled_from(sorted(self.wallets)))
        self.lanes.close(address)
        outcome = self.lanes.pick("meanwhile", {SOL: 0}, 0)
        assert not isinstance(outcome, Lane) or outcome.address != address
        self.lanes.release("meanwhile")
        if self.lanes.settled(address):
            assert all(lane.address != address for lane in self.flying.values())
            wallet = self.wallets[address]
            whole = wallet.lamports - FLOOR + wallet.sol
            self.slot += 1
            wallet.sol = whole * share
            wallet.lamports = FLOOR + whole - wallet.sol
            self.note()
            self.lanes.learn(address, WalletBalance(self.slot, wallet.lamports, {SOL: wallet.sol}))
        self.lanes.reopen(address)

    @rule(data=st.data())
    def hear_a_balance(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.wallets)))
        slot, lamports, sol = data.draw(st.sampled_from(self.wallets[address].told))
        self.lanes.learn(address, WalletBalance(slot, lamports, {SOL: sol}))

    @invariant()
    def nobody_is_spent_below_what_is_kept(self) -> None:
        for address, wallet in self.wallets.items():
            flying = [lane for lane in self.flying.values() if lane.address == address]
            assert len(flying) <= 4
            # Whatever lands next, at its full cost.
            assert wallet.lamports - sum(lane.lamports for lane in flying) >= FLOOR
            assert wallet.sol - sum(lane.tokens[SOL] for lane in flying) >= 0

    @invariant()
    def what_is_over_is_given_back(self) -> None:
        if self.flying or self.landed:
            return
        for address, wallet in self.wallets.items():
            slot, lamports, sol = wallet.told[-1]
            self.lanes.learn(address, WalletBalance(slot, lamports, {SOL: sol}))
            assert self.lanes.free_lamports(address) == wallet.lamports - FLOOR


TestChain = Chain.TestCase
