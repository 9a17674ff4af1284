"""What wallets lack: the steps that give it to them, and what those cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_price
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from markets.solana.transactions.cycle import compiled, transaction_bytes
from markets.solana.transactions.lookup_tables import TABLE_MAX
from markets.solana.venues.shape import TOKEN_PROGRAM
from markets.solana.wallets.lanes import RENT_OF_SYSTEM_ACCOUNT, WalletBalance
from markets.solana.wallets.upkeep import (
    FEE,
    Bounds,
    Step,
    balance_step,
    lamports_short,
    open_steps,
    table_steps,
    wrap_step,
)
from markets.tokens import SOL_MINT, load_registry

WALLET = str(Keypair.from_seed(bytes(32)).pubkey())
MINTS = {token.mint: TOKEN_PROGRAM for token in load_registry().tokens}


def balance(lamports: int = 10**12, **tokens: int) -> WalletBalance:
    return WalletBalance(1, lamports, {SOL_MINT: tokens["sol"]} if tokens else {})


def addresses(count: int, start: int = 0) -> list[str]:
    return [str(Pubkey((start + number).to_bytes(32, "big"))) for number in range(1, count + 1)]


def test_only_missing_accounts_are_opened_a_few_at_a_time() -> None:
    steps = open_steps(WALLET, balance(sol=5), MINTS, {})
    assert sum(len(step.instructions) for step in steps) == len(MINTS) - 1
    assert all(len(step.instructions) <= 10 for step in steps)
    assert sum(step.lamports for step in steps) == (len(MINTS) - 1) * 2_039_280 + len(steps) * FEE
    everything = WalletBalance(1, 0, dict.fromkeys(MINTS, 0))
    assert open_steps(WALLET, everything, MINTS, {}) == []


@pytest.mark.parametrize(
    ("held", "wrapped", "exactly", "lamports", "words"),
    [
        (0, 2_500_000_000, False, 2_500_005_000, "wrap 2.5 SOL"),
        (1_000_000_000, 1_000_000_001, False, 5_001, "wrap 0.000000001 SOL"),
        (7, 7, True, None, ""),
        (3_000_000_000, 1_000_000_000, False, None, ""),
        (3_000_000_000, 1_000_000_000, True, 5_000 - 2_000_000_000, "unwrap 2 SOL"),
    ],
)
def test_wrapped_sol_is_brought_to_what_is_wanted(
    held: int, wrapped: int, exactly: bool, lamports: int | None, words: str
) -> None:
    step = wrap_step(WALLET, balance(sol=held), wrapped, exactly=exactly)
    if lamports is None:
        assert step is None
        return
    assert step is not None
    assert (step.does, step.lamports) == (words, lamports)


AMOUNT = st.integers(0, 10**14) | st.integers(0, 10**8) | st.integers(0, 2 * RENT_OF_SYSTEM_ACCOUNT)
BOUNDS = st.builds(
    Bounds, plan=st.integers(0, 10**12), kept=st.integers(0, 10**9), cost=st.integers(FEE, FEE + 100_000)
)


def after(held: WalletBalance, step: Step, fee: int) -> WalletBalance:
    """What a wallet holds once a step has landed that shifts SOL between its forms; `fee` is paid beyond the base fee.

    Worked out from the step's own instructions.
    """
    *_, moved, _sync = step.instructions
    shifted = int.from_bytes(bytes(moved.data)[4:12], "little")
    # One that unwraps closes the account first, and wraps what is left from nothing.
    wrapped = shifted + (held.tokens[SOL_MINT] if len(step.instructions) == 2 else 0)
    lamports = held.lamports + held.tokens[SOL_MINT] - wrapped - FEE - fee
    return WalletBalance(held.slot + 1, lamports, {SOL_MINT: wrapped})


@given(AMOUNT, AMOUNT, BOUNDS, st.floats(0, 1))
def test_a_wallet_is_balanced_once_and_stays_above_what_it_keeps(
    lamports: int, wrapped: int, bounds: Bounds, paid: float
) -> None:
    held = WalletBalance(1, lamports, {SOL_MINT: wrapped})
    step = balance_step(WALLET, held, bounds)
    floor = RENT_OF_SYSTEM_ACCOUNT + bounds.kept
    whole = lamports - floor + wrapped
    if step is None:
        # Nothing has to be done, is worth it, or can be done.
        least = min(bounds.plan, (whole - bounds.cost) // 4)
        assert (
            min(lamports - floor, wrapped) >= least
            or least < 1000 * bounds.cost
            or lamports < RENT_OF_SYSTEM_ACCOUNT + bounds.cost
        )
        return
    fee = int((bounds.cost - FEE) * paid)
    then = after(held, step, fee)
    left = held.lamports - step.lamports - fee
    assert (then.lamports, step.wallet) == (left, WALLET)
    # Nothing is lost but the fees, and both halves are nearly the same.
    assert then.lamports - floor + then.tokens[SOL_MINT] == whole - FEE - fee
    assert 0 <= then.lamports - floor - then.tokens[SOL_MINT] <= bounds.cost + 1
    assert then.lamports > floor
    assert balance_step(WALLET, then, bounds) is None
    # What is moved is far more than what moving it costs.
    assert abs(then.tokens[SOL_MINT] - wrapped) >= 1000 * bounds.cost


@given(AMOUNT, AMOUNT, BOUNDS, st.integers(-(10**14), 10**14))
def test_a_balanced_wallet_is_left_alone_until_a_quarter_of_it_was_traded_away(
    lamports: int, wrapped: int, bounds: Bounds, traded: int
) -> None:
    held = WalletBalance(1, lamports, {SOL_MINT: wrapped})
    step = balance_step(WALLET, held, bounds)
    if step is None:
        return
    then = after(held, step, 0)
    whole = then.lamports + then.tokens[SOL_MINT] - RENT_OF_SYSTEM_ACCOUNT - bounds.kept
    # Trades take from one form and give to the other.
    traded = max(-then.tokens[SOL_MINT], min(then.lamports - RENT_OF_SYSTEM_ACCOUNT - bounds.cost, traded))
    later = WalletBalance(3, then.lamports - traded, {SOL_MINT: then.tokens[SOL_MINT] + traded})
    if balance_step(WALLET, later, bounds) is not None:
        assert abs(traded) >= whole // 4 - bounds.cost


@pytest.mark.parametrize(
    ("lamports", "wrapped", "words"),
    [
        # As the offline chain begins: both pay for the largest plan.
        (20_000, 600, None),
        (249, 20_000, "unwrap 9,875.500003 SOL"),
        (20_000, 249, "wrap 9,875.499997 SOL"),
        (0, 100, "unwrap 50.000003 SOL"),
        (30, 70, None),
        (24, 76, "unwrap 26.000003 SOL"),
        (76, 24, "wrap 25.999997 SOL"),
    ],
)
def test_a_form_that_cannot_pay_for_the_largest_plan_is_filled(lamports: int, wrapped: int, words: str | None) -> None:
    sol, kept = 10**9, 20_000_000
    held = balance(RENT_OF_SYSTEM_ACCOUNT + kept + lamports * sol, sol=wrapped * sol)
    step = balance_step(WALLET, held, Bounds(250 * sol, kept, 6_000))
    if words is None:
        assert step is None
    else:
        assert step is not None
        assert step.does == words


def test_a_wallet_that_cannot_pay_or_has_no_account_is_left_to_a_person() -> None:
    bounds = Bounds(10**9, 20_000_000, 6_000)
    enough = RENT_OF_SYSTEM_ACCOUNT + bounds.cost
    assert balance_step(WALLET, balance(enough, sol=10**10), bounds) is not None
    assert balance_step(WALLET, balance(enough - 1, sol=10**10), bounds) is None
    assert balance_step(WALLET, balance(10**10), bounds) is None


def test_addresses_go_where_there_is_room_and_then_into_new_tables() -> None:
    room = AddressLookupTableAccount(
        Pubkey.from_string(addresses(1, 10**6)[0]), [Pubkey.from_string(one) for one in addresses(250)]
    )
    there, small, large = addresses(5), addresses(6, 1000), addresses(300, 2000)
    steps = table_steps(WALLET, [room], [there, small, large], 1234)
    assert steps[0].does == f"add 6 addresses to {room.key}"
    made = [step.does.rsplit(" ", 1)[1] for step in steps if step.does.startswith("create")]
    assert len(made) == len(set(made)) == 2
    added = [step for step in steps if step.does.startswith("add")]
    # Rent of 32 bytes each.
    assert sum(step.lamports for step in added) == 306 * 32 * 6960 + FEE * len(added)
    assert table_steps(WALLET, [room], [there], 1234) == []


@given(st.lists(st.integers(1, 400), min_size=1, max_size=5), st.integers(0, TABLE_MAX))
def test_every_address_comes_into_one_table_and_none_is_overfull(groups: list[int], filled: int) -> None:
    table = AddressLookupTableAccount(
        Pubkey.from_string(addresses(1, 10**6)[0]), [Pubkey.from_string(one) for one in addresses(filled, 5 * 10**5)]
    )
    wanted = [addresses(count, 1000 * number) for number, count in enumerate(groups)]
    held = {str(table.key): filled}
    for step in table_steps(WALLET, [table], wanted, 1234):
        name = step.does.rsplit(" ", 1)[1]
        if step.does.startswith("create"):
            assert name not in held
            held[name] = 0
        else:
            held[name] += int(step.does.split(" ")[1])
    assert sum(held.values()) == filled + sum(groups)
    assert max(held.values()) <= TABLE_MAX


def test_a_wallet_keeps_its_rent_and_its_minimum_at_every_step() -> None:
    def step(lamports: int) -> Step:
        return Step(WALLET, "", (), lamports)

    kept = RENT_OF_SYSTEM_ACCOUNT + 10**7
    assert lamports_short(balance(kept + 50), [step(50)], 10**7) == 0
    assert lamports_short(balance(kept + 50), [step(51)], 10**7) == 1
    # What comes back later does not help the step before it.
    assert lamports_short(balance(kept), [step(10), step(-500)], 10**7) == 10


def test_a_wallet_that_was_spent_too_low_may_unwrap_what_it_has() -> None:
    gives = Step(WALLET, "", (), FEE - 10**9)
    assert lamports_short(balance(RENT_OF_SYSTEM_ACCOUNT + FEE), [gives], 10**7) == 0
    # But not below its rent: the chain takes no fee from such a wallet.
    assert lamports_short(balance(RENT_OF_SYSTEM_ACCOUNT + FEE - 1), [gives], 10**7) == 1
    # And a step that takes something has to leave what is kept, whatever came before it.
    takes = Step(WALLET, "", (), 10**9)
    enough = RENT_OF_SYSTEM_ACCOUNT + 10**7 + FEE
    assert lamports_short(balance(enough), [gives, takes], 10**7) == 0
    assert lamports_short(balance(enough - 1), [gives, takes], 10**7) == 1


def test_every_step_fits_into_a_packet_with_its_price() -> None:
    blockhash = str(Pubkey.default())
    steps = [
        *open_steps(WALLET, balance(), MINTS, {}),
        *table_steps(WALLET, [], [addresses(300)], 1234),
    ]
    for step in steps:
        message = compiled(WALLET, [set_compute_unit_price(1), *step.instructions], [], blockhash)
        assert transaction_bytes(message) <= 1232
    assert len(steps) == 2 + 2 + 10 + 2
