"""Every account of a swap, replaced by every other that lies at hand: nobody gains by it, and nobody else loses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from solders.account import Account
from solders.pubkey import Pubkey

from localnet.layouts import token_account, token_amount
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAM, Meta, address_at
from tests.pools import stake_build

from . import test_marinade_program, test_raydium_amm_v4_program, test_raydium_cpmm_program, test_stake_pool_program
from .rig import RICH, USER, Rig, address, owned_by
from .whirlpools import made_up

VICTIM, OTHER = address("victim-owner"), address("other")
POOLS: dict[str, Callable[[], Rig]] = {
    "raydium_cpmm": test_raydium_cpmm_program.rig,
    "raydium_amm_v4": test_raydium_amm_v4_program.rig,
    "whirlpool": lambda: made_up([(-64 * 40, 64 * 40, 10**14)]),
    "spl_stake_pool": test_stake_pool_program.genesis_like,
    "marinade": lambda: test_marinade_program.assembled(stake_build.marinade_accounts()),
}
AMOUNT = 10**8
# Whoever brings a deposit into a stake pool may say who gets the referrer's share, themselves as well.
REFERRER = ("spl_stake_pool", False, 6)


def wealth(made: Rig, owner: str, accounts: list[str]) -> tuple[int, int]:
    """Return what somebody has of both tokens, in all of these accounts, lamports counted as SOL."""
    held = [0, 0]
    for of in set(accounts):
        data = made.data(of)
        if len(data) >= 165 and made.owner_of(of) == TOKEN_PROGRAM and address_at(data, 32) == owner:
            mint = address_at(data, 0)
            if mint in made.mints:
                held[made.mints.index(mint)] += token_amount(data)
    held[1] += made.lamports(owner) + (made.paid if owner == USER else 0)
    return held[0], held[1]


@pytest.mark.parametrize("name", POOLS)
def test_no_account_can_be_swapped_to_anybodys_gain(name: str) -> None:
    made = POOLS[name]()
    made.put((VICTIM, SYSTEM_PROGRAM, b"", RICH))
    made.put((OTHER, SYSTEM_PROGRAM, b"", RICH))
    extra = [VICTIM, OTHER]
    for side, mint in enumerate(made.mints):
        victims, twin = address(f"victim-{side}"), address(f"twin-{side}")
        made.put(owned_by(token_account(victims, mint, USER, 10**15), VICTIM))
        made.put(token_account(twin, mint, USER, 10**15))
        extra += [victims, twin]
    # Twins of the pool: under another program, and under the same one with whatever it says.
    data = made.data(made.pool)
    made.put((address("pool-copy"), OTHER, data))
    made.put((address("pool-twin"), made.owner_of(made.pool), data))
    extra += [address("pool-copy"), address("pool-twin"), *made.wallets]
    done = failed = 0
    for a_to_b in (True, False):
        honest = made.instruction(a_to_b, AMOUNT)
        candidates = list(dict.fromkeys([*(meta.address for meta in honest.metas), *extra]))
        keys = [Pubkey.from_string(of) for of in candidates]
        saved = [(of, account) for of in keys if (account := made.svm.get_account(of)) and not account.executable]

        def restore(saved: list[tuple[Pubkey, Account]] = saved) -> None:
            for of, account in saved:
                made.svm.set_account(of, account)

        def measure(candidates: list[str] = candidates) -> tuple[tuple[int, int], tuple[int, int]]:
            return wealth(made, USER, candidates), wealth(made, VICTIM, candidates)

        restore()
        paid = made.paid
        before = measure()
        assert made.run(honest).error is None
        fair = measure()
        assert fair[1] == before[1]
        change = [now - then for now, then in zip(fair[0], before[0], strict=True)]
        for position, meta in enumerate(honest.metas):
            for candidate in candidates:
                if candidate == meta.address or (name, a_to_b, position) == REFERRER:
                    continue
                restore()
                made.paid = paid
                swapped = Meta(candidate, signer=False, writable=meta.writable)
                metas = (*honest.metas[:position], swapped, *honest.metas[position + 1 :])
                result = made.run(replace(honest, metas=metas))
                user, victim = measure()
                assert all(now >= then for now, then in zip(victim, before[1], strict=True)), (position, candidate)
                if result.error is not None:
                    failed += 1
                    assert user == before[0], (position, candidate, result)
                    continue
                done += 1
                gained = [now - then for now, then in zip(user, before[0], strict=True)]
                assert all(got <= due for got, due in zip(gained, change, strict=True)), (position, candidate, gained)
        restore()
        made.paid = paid
    assert failed > 5 * done
