"""The stand-in for the SPL stake pool against the core: amounts, accounts, lamports, and what it refuses."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localnet import stake_pools
from localnet.layouts import token_account, token_amount
from localnet.stake_pools import Terms
from markets.solana.venues import spl_stake_pool
from markets.solana.venues.shape import STAKE_PROGRAM, SYSTEM_PROGRAM, TOKEN_PROGRAM, Meta, address_at, key
from markets.tokens import LAMPORTS_PER_SOL
from pipeline.messages import Protocol
from tests.pools import stake_build

from .compare import compare
from .rig import NOW, RICH, SLOT, USER, Raw, Rig, address, authority_of, owned_by, patched, plain_mint

POOL, MINT = address("stake-pool"), address("staked")
PROGRAM = spl_stake_pool.PROGRAMS[0]
EPOCH = SLOT // 432_000
AUTHORITY = spl_stake_pool.withdraw_authority(PROGRAM, POOL)
CODES: dict[str, object] = {
    "deposit_too_small": 29,
    "withdrawal_too_small": 28,
    "sol_withdrawal_too_large": 35,
    "stake_list_and_pool_out_of_date": 17,
    "invalid_sol_deposit_authority": 31,
    "invalid_sol_withdraw_authority": 34,
    "calculation_failure": 3,
}


def assembled(raws: list[Any], pool: str = POOL, program: str = PROGRAM) -> Rig:
    """Return the pool with its mint, whose supply is what the user has and what the pool says."""
    mint, _ = spl_stake_pool.mints(raws[0][2])
    authority = spl_stake_pool.withdraw_authority(program, pool)
    made = Rig(Protocol.SPL_STAKE_POOL, pool, raws, [plain_mint(mint, supply=2**62, authority=authority)])
    made.unfollowed.add(address_at(raws[0][2], 194))
    made.put(token_account(made.wallets[0], mint, USER, 2**60))
    return made


def genesis_like(reserve: int = 50 * LAMPORTS_PER_SOL, lamports: int = 1_150_000_000, fee: int = 700) -> Rig:
    raws = stake_pools.stake_pool(POOL, MINT, Terms(lamports, fee, 0), tokens=400_000, reserve=reserve)
    return assembled([patched(raws[0], 274, struct.pack("<Q", EPOCH)), *raws[1:]])


def drawn(dice: random.Random) -> Rig:
    """Return a pool with any figures, and optional fields of every shape before its fees."""

    def fee() -> tuple[int, int]:
        return dice.choice([(0, 0), (0, 7), (1_000, 1), (10_000, dice.randrange(10_001)), (2**64 - 1, 1)])

    total = dice.randrange(1_000, 10 ** dice.randrange(4, 17))
    supply = total * dice.randrange(1, 1_000) // dice.randrange(1, 1_000) + 1
    validators = [None, address("validator")]
    raws = stake_build.stake_pool_accounts(
        total,
        supply,
        dice.randrange(stake_build.RENT, stake_build.RENT + 10 ** dice.randrange(1, 16)),
        deposit_fee=fee(),
        withdrawal_fee=fee(),
        epoch=EPOCH,
        optional=(dice.randrange(3), dice.choice(validators), dice.choice(validators), dice.randrange(3)),
        referral=dice.randrange(101),
    )
    program = dice.choice(spl_stake_pool.PROGRAMS)
    authority, bump = _withdraw(program)
    pool = patched((POOL, program, raws[0][2]), 97, bytes([bump]))
    pool = patched(pool, 226, key(TOKEN_PROGRAM))
    reserve = patched(raws[1], 12, key(authority) * 2)
    manager = token_account(stake_build.MANAGER, stake_build.MINT_A, address("manager"), 0)
    return assembled([pool, reserve, manager], POOL, program)


def _withdraw(program: str) -> tuple[str, int]:
    return authority_of(program, key(POOL), b"withdraw")


def compare_both(made: Rig, a_to_b: bool, amount: int) -> Any:
    """Compare, and see that manager and mint get what the user does not."""
    pool = made.data(made.pool)
    fees, mint = address_at(pool, 194), made.mints[0]
    before = token_amount(made.data(fees)), struct.unpack_from("<Q", made.data(mint), 36)[0], made.holdings()[0]
    done = compare(made, a_to_b, amount, codes=CODES)
    after = token_amount(made.data(fees)), struct.unpack_from("<Q", made.data(mint), 36)[0], made.holdings()[0]
    gained, minted, held = (now - then for now, then in zip(after, before, strict=True))
    assert minted == gained + held
    supplies = [struct.unpack_from("<Q", data, 266)[0] for data in (pool, made.data(made.pool))]
    assert minted == supplies[1] - supplies[0]
    return done


def test_chains_of_swaps_are_those_of_the_core() -> None:
    dice = random.Random(1)
    filled = failed = most = 0
    for number in range(80):
        made = drawn(dice) if number % 2 else genesis_like(fee=dice.randrange(2_000))
        for _ in range(8):
            done = compare_both(made, dice.random() < 0.5, dice.randrange(1, 10 ** dice.randrange(1, 15)))
            filled, failed = filled + (done.error is None), failed + (done.error is not None)
            most = max(most, done.units)
    assert filled > 300
    assert failed > 50
    assert most < 30_000


@pytest.mark.recorded
@pytest.mark.parametrize("name", ["bsol", "picosol"])
def test_recorded_pools_trade_as_the_core_says(recorded_data: Path, name: str) -> None:
    pool, reserve, manager, mint = (
        stake_build.recorded(recorded_data, f"{name}-{part}")
        for part in ("stake-pool", "reserve", "manager-fee", "mint")
    )
    epoch = struct.pack("<Q", EPOCH)
    raws = [patched(pool, 274, epoch), reserve, manager]
    made = assembled(raws, pool[0], pool[1])
    # The real mint: its authority is the address that the program derives.
    made.put(mint)
    supply = struct.unpack_from("<Q", mint[2], 36)[0]
    made.put(token_account(made.wallets[0], mint[0], USER, supply // 2))
    dice = random.Random(4)
    filled = sum(
        compare_both(made, dice.random() < 0.4, dice.randrange(10**3, 10**11)).error is None for _ in range(60)
    )
    assert filled > 40


def test_the_least_amount_holds() -> None:
    made = genesis_like()
    for a_to_b in (True, False):
        out = made.model().quote_in(a_to_b, 10**9).amount_out
        before = made.holdings()
        assert made.swap(a_to_b, 10**9, out + 1).code == 39
        assert made.holdings() == before
        assert made.swap(a_to_b, 10**9, out).error is None


def test_a_reserve_keeps_its_rent() -> None:
    made = genesis_like(reserve=10**9, lamports=10**9, fee=0)
    assert made.swap(True, 1_002 * 10**6).code == 35
    assert compare(made, True, 10**9).error is None


@pytest.mark.parametrize("lockup", [(NOW + 1, 0), (0, EPOCH + 1)])
def test_a_locked_reserve_gives_nothing(lockup: tuple[int, int]) -> None:
    made = genesis_like()
    raw = made.accounts[1]
    made.put(patched(raw, 76, struct.pack("<qQ", *lockup)))
    # The stake program's own refusal.
    assert made.swap(True, 10**9).code == 1
    assert compare(made, False, 10**9).error is None


def test_a_pool_that_waits_for_its_update_does_nothing() -> None:
    made = genesis_like()
    both = [made.instruction(a_to_b, 10**9) for a_to_b in (True, False)]
    made.put(patched((POOL, PROGRAM, made.data(POOL)), 274, struct.pack("<Q", EPOCH - 1)))
    assert [made.run(instruction).code for instruction in both] == [17, 17]


def test_pools_that_others_must_sign_for() -> None:
    for which, a_to_b, code in (("deposit_authority", False, 31), ("withdraw_authority", True, 34)):
        raws = stake_build.stake_pool_accounts(10**15, 10**15, 10**13, epoch=EPOCH, **{which: address("gate")})
        authority, bump = _withdraw(PROGRAM)
        pool = patched(patched((POOL, PROGRAM, raws[0][2]), 97, bytes([bump])), 226, key(TOKEN_PROGRAM))
        manager = token_account(stake_build.MANAGER, stake_build.MINT_A, address("manager"), 0)
        made = assembled([pool, patched(raws[1], 12, key(authority) * 2), manager])
        assert compare(made, a_to_b, 10**9, codes=CODES).code == code
        instruction = made.instruction(a_to_b, 10**9)
        made.put((address("gate"), SYSTEM_PROGRAM, b"", RICH))
        unsigned = replace(instruction, metas=(*instruction.metas, Meta(address("gate"))))
        assert made.run(unsigned).code == 7
        signed = replace(instruction, metas=(*instruction.metas, Meta(address("gate"), signer=True)))
        assert made.run(signed).error is None
        assert compare(made, not a_to_b, 10**9, codes=CODES).error is None


OTHER = address("other")
FAKE_RESERVE, TWIN = address("reserve-x"), address("twin")
# Direction (True withdraws), position, what stands there, the failure where it is a program's own.
HOSTILE = {
    "withdraw from a pool of nobody": (True, 0, Meta(OTHER, writable=True), None),
    "deposit into a pool of nobody": (False, 0, Meta(OTHER, writable=True), None),
    "another account of the program": (False, 0, Meta(address("list"), writable=True), 2),
    "withdraw by another authority": (True, 1, Meta(OTHER), 1),
    "deposit with another authority": (False, 1, Meta(OTHER), 1),
    "withdraw without the owner": (True, 2, Meta(OTHER), None),
    "withdraw another's tokens": (True, 3, Meta(address("victim"), writable=True), 4),
    "withdraw from another reserve": (True, 4, Meta(FAKE_RESERVE, writable=True), 1),
    "deposit into a reserve of our own": (False, 2, Meta(FAKE_RESERVE, writable=True), 1),
    "deposit another's lamports": (False, 3, Meta(OTHER, writable=True), None),
    "mint into an account of another token": (False, 4, Meta(TWIN, writable=True), 3),
    "another account for the manager's fee": (False, 5, Meta(address("wallet-0"), writable=True), 9),
    "withdraw with another account for fees": (True, 6, Meta(address("wallet-0"), writable=True), 9),
    "withdraw with another mint": (True, 7, Meta(OTHER, writable=True), 10),
    "deposit with another mint": (False, 7, Meta(OTHER, writable=True), 10),
    "no stake program": (True, 10, Meta(OTHER), None),
    "no system program": (False, 8, Meta(OTHER), None),
    "no token program": (False, 9, Meta(OTHER), None),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_accounts_are_refused(case: str) -> None:
    a_to_b, position, meta, code = HOSTILE[case]
    made = genesis_like()
    reserve = made.accounts[1]
    made.put((FAKE_RESERVE, STAKE_PROGRAM, reserve[2], 10**12))
    made.put((address("list"), PROGRAM, b"\x02" + bytes(700)))
    made.put((OTHER, SYSTEM_PROGRAM, b"", 10**12))
    made.put(token_account(TWIN, address("another mint"), USER, 0))
    victim: Raw = token_account(address("victim"), MINT, USER, 10**12)
    made.put(owned_by(victim, OTHER))
    made.tampered[position] = meta
    watched = (POOL, reserve[0], OTHER, FAKE_RESERVE, TWIN, address("victim"), MINT)
    before = [(made.data(of), made.lamports(of)) for of in watched]
    done = made.swap(a_to_b, 10**9)
    assert done.error is not None
    assert code is None or done.code == code, done
    assert [(made.data(of), made.lamports(of)) for of in watched] == before
    made.tampered.clear()
    assert made.swap(a_to_b, 10**9).error is None


def test_other_instructions_are_refused() -> None:
    made = genesis_like()
    instruction = made.instruction(True, 10**9)
    for data, code in ((b"", 77001), (b"\x0a" + bytes(8), 77001)):
        assert made.run(replace(instruction, data=data)).code == code
    for short in (instruction.data[:8], b"\x1a" + bytes(15)):
        assert made.run(replace(instruction, data=short)).error is not None
    assert made.run(replace(instruction, metas=instruction.metas[:11])).error is not None
