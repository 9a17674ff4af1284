"""The stand-in for Marinade against the core: amounts, accounts, lamports, and what it refuses."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localnet.layouts import token_account, token_amount
from markets.solana.venues import marinade
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, Meta, address_at, key
from pipeline.messages import Protocol
from tests.pools import stake_build

from .compare import compare
from .rig import RICH, USER, Raw, Rig, address, authority_of, owned_by, patched, plain_mint

PROGRAM = marinade.PROGRAM
CODES: dict[str, object] = {
    "calculation_failure": 6013,
    "insufficient_liquidity": 6026,
    "staking_is_capped": 6034,
    "withdraw_amount_is_too_low": 6038,
    "deposit_amount_is_too_low": 6039,
    "unregistered_msol_minted": 6071,
}


def derived(state: str, seed: bytes) -> tuple[str, int]:
    return authority_of(PROGRAM, key(state), seed)


def assembled(raws: list[Any], *, minted: int | None = None) -> Rig:
    """Return the state with its mint, its treasury's account and its reserve, all where the program derives them."""
    state, msol_leg, sol_leg = raws
    pool, mint = state[0], address_at(state[2], 8)
    for at, seed in ((136, b"reserve"), (137, b"st_mint"), (419, b"liq_st_sol_authority")):
        state = patched(state, at, bytes([derived(pool, seed)[1]]))
    authority = derived(pool, b"liq_st_sol_authority")[0]
    supply = struct.unpack_from("<Q", state[2], 504)[0]
    # As much as the state knows of, unless some was minted beside it.
    made_mint = plain_mint(mint, supply=supply if minted is None else minted, authority=derived(pool, b"st_mint")[0])
    treasury = token_account(address_at(state[2], 104), mint, address("treasury"), 0)
    beside: list[Raw] = [(derived(pool, b"reserve")[0], SYSTEM_PROGRAM, b"", 10**12)]
    rows = [state, owned_by(msol_leg, authority), sol_leg, made_mint, treasury]
    made = Rig(Protocol.MARINADE, pool, rows, beside)
    made.unfollowed |= {mint, treasury[0]}
    return made


def drawn(dice: random.Random) -> Rig:
    target = dice.randrange(10**6, 10**14)
    least = dice.randrange(200)
    supply = dice.randrange(10**6, 10**16)
    return assembled(
        stake_build.marinade_accounts(
            active=supply * dice.randrange(500, 2_000) // 1_000,
            supply=supply,
            msol_leg=dice.choice([0, dice.randrange(10 ** dice.randrange(1, 14))]),
            sol_leg=stake_build.LEG_RENT + dice.randrange(10 ** dice.randrange(4, 15)),
            fees=(dice.randrange(least, 1_000), least, dice.randrange(10_001)),
            target=target,
            reserve=dice.randrange(10**12),
            tickets=dice.randrange(supply // 1_000),
            least=(dice.choice([1, 10**6]), dice.choice([1, 10**6])),
            cap=dice.choice([2**64 - 1, 2**64 - 1, supply * 2]),
        )
    )


def compare_both(made: Rig, a_to_b: bool, amount: int) -> Any:
    """Compare, and see that no mSOL and no lamport is lost: what one has not, another has."""
    mint, treasury = made.accounts[3][0], made.accounts[4][0]
    reserve, leg = derived(made.pool, b"reserve")[0], made.accounts[1][0]

    def sums() -> tuple[int, int, int]:
        supply = struct.unpack_from("<Q", made.data(mint), 36)[0]
        held = sum(token_amount(made.data(of)) for of in (leg, treasury)) + made.holdings()[0]
        return supply - held, made.lamports(reserve) + made.lamports(made.accounts[2][0]) + made.holdings()[1], supply

    before, state = sums(), made.data(made.pool)
    done = compare(made, a_to_b, amount, codes=CODES)
    after, now = sums(), made.data(made.pool)
    assert before[:2] == after[:2]
    assert after[2] - before[2] == struct.unpack_from("<Q", now, 504)[0] - struct.unpack_from("<Q", state, 504)[0]
    return done


def test_chains_of_swaps_are_those_of_the_core() -> None:
    dice = random.Random(1)
    filled = failed = most = 0
    for _ in range(80):
        made = drawn(dice)
        for _ in range(8):
            done = compare_both(made, dice.random() < 0.5, dice.randrange(1, 10 ** dice.randrange(1, 16)))
            filled, failed = filled + (done.error is None), failed + (done.error is not None)
            most = max(most, done.units)
    assert filled > 300
    assert failed > 50
    assert most < 20_000


@pytest.mark.recorded
def test_the_recorded_state_trades_as_the_core_says(recorded_data: Path) -> None:
    names = ("marinade-state", "marinade-liq-pool-msol-leg", "marinade-treasury-msol-account", "msol-mint")
    state, msol_leg, treasury, mint = (stake_build.recorded(recorded_data, name) for name in names)
    leg = (marinade.sol_leg(state[0]), SYSTEM_PROGRAM, b"", 25 * 10**12)
    reserve: Raw = (marinade.reserve(state[0]), SYSTEM_PROGRAM, b"", 10**12)
    made = Rig(Protocol.MARINADE, state[0], [state, msol_leg, leg, mint, treasury], [reserve])
    made.unfollowed |= {mint[0], treasury[0]}
    dice = random.Random(2)
    for _ in range(80):
        assert compare_both(made, dice.random() < 0.5, dice.randrange(10**6, 10**11)).error is None


def plain() -> Rig:
    return assembled(stake_build.marinade_accounts())


def test_more_than_the_user_has_is_refused() -> None:
    made = plain()
    made.put(token_account(made.wallets[0], made.mints[0], USER, 10**9))
    assert made.swap(True, 10**9 + 1).code == 6040
    made.put((USER, SYSTEM_PROGRAM, b"", 10**9))
    assert made.swap(False, 10**9).error is not None


def test_a_delegate_may_unstake_what_it_was_given() -> None:
    made = plain()
    gate = address("delegate")
    made.put((gate, SYSTEM_PROGRAM, b"", RICH))
    account: Raw = token_account(made.wallets[0], made.mints[0], USER, 10**12)
    account = patched(patched(account, 72, b"\1\0\0\0" + key(gate)), 121, (10**9).to_bytes(8, "little"))
    made.put(account)
    made.tampered[6] = Meta(gate, signer=True)
    assert made.swap(True, 10**9 + 1).code == 6040
    assert made.swap(True, 10**9).error is None


def test_a_paused_state_does_nothing() -> None:
    made = plain()
    both = [made.instruction(a_to_b, 10**9) for a_to_b in (True, False)]
    made.put(patched((made.pool, PROGRAM, made.data(made.pool)), 608, b"\1"))
    assert [made.run(instruction).code for instruction in both] == [6077, 6077]


def test_msol_minted_beside_the_state_closes_deposits() -> None:
    made = assembled(stake_build.marinade_accounts(supply=10**15), minted=10**15 + 1)
    assert compare(made, False, 10**9, codes=CODES).code == 6071
    assert compare(made, True, 10**9).error is None


OTHER, TWIN = address("other"), address("twin")
# Direction (True unstakes), position, what stands there, the failure where it is a program's own.
HOSTILE = {
    "unstake: a state of nobody": (True, 0, Meta(OTHER, writable=True), 3007),
    "deposit: another account of the program": (False, 0, Meta(address("ticket"), writable=True), 3002),
    "unstake: another mint": (True, 1, Meta(address("mint-x"), writable=True), 2001),
    "unstake: a SOL leg of our own": (True, 2, Meta(OTHER, writable=True), 2006),
    "deposit: a SOL leg of our own": (False, 2, Meta(OTHER, writable=True), 2006),
    "unstake: an mSOL leg of our own": (True, 3, Meta(TWIN, writable=True), 2012),
    "deposit: an mSOL leg of our own": (False, 3, Meta(TWIN, writable=True), 2012),
    "unstake: another treasury": (True, 4, Meta(TWIN, writable=True), 2001),
    "deposit: another authority of the leg": (False, 4, Meta(OTHER), 2006),
    "unstake: another's mSOL": (True, 5, Meta(address("victim"), writable=True), 6041),
    "deposit: a reserve of our own": (False, 5, Meta(OTHER, writable=True), 2006),
    "unstake: the owner does not sign": (True, 6, Meta(OTHER), 3010),
    "deposit: another's lamports": (False, 6, Meta(OTHER, writable=True), 3010),
    "unstake: paid into a program's account": (True, 7, Meta(TWIN, writable=True), 3011),
    "deposit: into an account of another token": (False, 7, Meta(address("foreign"), writable=True), 2014),
    "unstake: no system program": (True, 8, Meta(OTHER), 3008),
    "deposit: another minter": (False, 8, Meta(OTHER), 2006),
    "unstake: the other token program": (True, 9, Meta(TOKEN_2022_PROGRAM), 3008),
    "deposit: no token program": (False, 10, Meta(OTHER), 3008),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_accounts_are_refused(case: str) -> None:
    a_to_b, position, meta, code = HOSTILE[case]
    made = plain()
    mint = made.mints[0]
    made.put((OTHER, SYSTEM_PROGRAM, b"", 10**14))
    made.put((address("ticket"), PROGRAM, bytes(700)))
    made.put(plain_mint(address("mint-x")))
    made.put(token_account(TWIN, mint, USER, 0))
    made.put(token_account(address("foreign"), address("mint-x"), USER, 0))
    made.put(owned_by(token_account(address("victim"), mint, USER, 10**12), OTHER))
    made.tampered[position] = meta
    watched = [raw[0] for raw in made.accounts] + [OTHER, TWIN, address("victim"), address("foreign")]
    before = [(made.data(of), made.lamports(of)) for of in watched]
    assert made.swap(a_to_b, 10**9).code == code
    assert [(made.data(of), made.lamports(of)) for of in watched] == before
    made.tampered.clear()
    assert made.swap(a_to_b, 10**9).error is None


def test_other_instructions_are_refused() -> None:
    made = plain()
    instruction = made.instruction(True, 10**9)
    for data, code in ((b"", 77001), (b"\1" * 16, 77001), (instruction.data[:15], 102)):
        assert made.run(replace(instruction, data=data)).code == code
    assert made.run(replace(instruction, metas=instruction.metas[:9])).code == 3005
