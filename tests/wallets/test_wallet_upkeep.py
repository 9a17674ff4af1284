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
from markets.solana.wallets.upkeep import FEE, Step, lamports_short, open_steps, table_steps, wrap_step
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

    kept = RENT_OF_SYSTEM_ACCOUNT + 100
    assert lamports_short(balance(kept + 50), [step(50)], 100) == 0
    assert lamports_short(balance(kept + 50), [step(51)], 100) == 1
    # What comes back later does not help the step before it.
    assert lamports_short(balance(kept), [step(10), step(-500)], 100) == 10


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
