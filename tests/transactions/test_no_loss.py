"""A loss is impossible, to the lamport and to the base unit, whatever the pools have become.

The transaction is read back from its bytes and executed on a model of the chain: every swap takes its exact input, or
less where a pool runs out, gives whatever the example says, and fails under its minimum. Whatever a pool gives, the
wallet is never left with less of any token than it had, and in the cycle's token at least with the costs more.
"""

import struct
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from markets.solana.transactions.cycle import CycleOrder, build_cycle
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues import raydium_amm_v4, raydium_cpmm, spl_stake_pool, whirlpool
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAM
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.messages import Leg
from tests.transactions.built_cycles import (
    BLOCKHASH,
    OWNER,
    Read,
    chain,
    leg,
    order,
    other_mint,
    pools,
    read_back,
    tables,
    two_legs,
)

COSTS = 120_000


class Failed(Exception):
    """The transaction reverts."""


@dataclass
class Wallet:
    """Token accounts by address, and lamports under the wallet's own address."""

    held: dict[str, int]
    swaps: list[tuple[int, int]] = field(default_factory=list)
    """What each swap takes at most, and gives."""

    def move(self, source: str, destination: str, taken: int, given: int) -> None:
        if self.held.get(source, 0) < taken:
            raise Failed("insufficient funds")
        self.held[source] -= taken
        self.held[destination] = self.held.get(destination, 0) + given

    def execute(self, one: Read) -> None:
        if one.program == SYSTEM_PROGRAM:
            (lamports,) = struct.unpack("<Q", one.data[4:])
            self.move(one.accounts[0], one.accounts[1], lamports, lamports)
        elif one.program in SWAPS:
            amount_in, minimum, source, destination = SWAPS[one.program](one)
            most, given = self.swaps.pop(0)
            if given < minimum:
                raise Failed("slippage")
            self.move(source, destination, min(amount_in, most), given)


def amounts(one: Read, offset: int) -> tuple[int, int]:
    found: tuple[int, int] = struct.unpack_from("<QQ", one.data, offset)
    return found


def whirl(one: Read) -> tuple[int, int, str, str]:
    sides = one.accounts[7], one.accounts[9]
    return *amounts(one, 8), *(sides if one.data[41] else sides[::-1])


def stake(one: Read) -> tuple[int, int, str, str]:
    # DepositSol takes the user's lamports, WithdrawSol gives them lamports.
    sides = (OWNER, one.accounts[4]) if one.data[0] == 25 else (one.accounts[3], OWNER)
    return *amounts(one, 1), *sides


SWAPS = {
    whirlpool.PROGRAM: whirl,
    raydium_amm_v4.PROGRAM: lambda one: (*amounts(one, 1), one.accounts[5], one.accounts[6]),
    raydium_cpmm.PROGRAM: lambda one: (*amounts(one, 8), one.accounts[4], one.accounts[5]),
    spl_stake_pool.PROGRAMS[0]: stake,
}


def cycles() -> list[list[Leg]]:
    """Every kind of pool first and last, and three legs."""
    some = [pool for pool in pools()["SOL/JitoSOL"] if pool.venue != "marinade"]
    found = [two_legs(first, second) for first in some for second in some if first is not second]
    cpmm = next(pool for pools_ in pools().values() for pool in pools_ if pool.venue == "raydium_cpmm")
    same = [pool for pool in pools()[cpmm.pair.name] if pool.venue == "whirlpool"]
    token = next(mint for mint in (cpmm.pair.base.mint, cpmm.pair.quote.mint) if mint != USDC_MINT)
    other = ({cpmm.pair.base.mint, cpmm.pair.quote.mint} - {token}).pop()
    found.append([leg(cpmm, token, 10**9, 150_000_000), leg(same[0], other, 150_000_000, 10**9 + 10**6)])
    usdc = [pool for pool in pools()["SOL/USDC"] if pool.venue == "whirlpool"]
    jito = other_mint(some[0])
    stakes = [pool for pool in some if pool.venue == "spl_stake_pool"]
    found.append(
        [
            leg(usdc[0], USDC_MINT, 150_000_000, 10**9),
            leg(stakes[0], SOL_MINT, 10**9, 800_000_000),
            leg(some[0], jito, 800_000_000, 10**9 + 10**6),
            leg(usdc[1], SOL_MINT, 10**9 + 10**6, 151_000_000),
        ]
    )
    return found


CYCLES = cycles()
around = st.one_of(st.integers(-3, 3), st.integers(-(10**8), 10**8), st.integers(0, 10**12))


@st.composite
def situations(draw: st.DrawFn) -> tuple[CycleOrder, Wallet]:
    legs = draw(st.sampled_from(CYCLES))
    wanted = order(legs, min_amount_out=legs[0].amount_in + COSTS)
    mints = {one.token_in for one in legs}
    # What the wallet holds of the tokens between: nothing, dust, or a lot that a shortfall could eat.
    held = {
        associated_address(OWNER, mint): draw(st.one_of(st.just(0), st.integers(0, 10), st.integers(0, 10**12)))
        for mint in sorted(mints)
    }
    start = associated_address(OWNER, legs[0].token_in)
    held[start] = draw(st.one_of(st.just(held[start]), st.just(legs[0].amount_in)))
    held[OWNER] = draw(st.sampled_from([0, 100_000, 10**9, 3 * 10**9, 10**12]))
    swaps = []
    for at, one in enumerate(legs):
        wanted_out = legs[at + 1].amount_in if at + 1 < len(legs) else wanted.min_amount_out
        most = draw(st.one_of(st.just(one.amount_in), st.integers(0, one.amount_in)))
        swaps.append((most, max(0, wanted_out + draw(around))))
    return wanted, Wallet(held, swaps)


def tokens_of(held: dict[str, int], mints: set[str]) -> dict[str, int]:
    """What the wallet owns by mint; lamports are SOL, wrapped or not."""
    found = {mint: held.get(associated_address(OWNER, mint), 0) for mint in mints | {SOL_MINT}}
    found[SOL_MINT] += held.get(OWNER, 0)
    return found


@settings(max_examples=400)
@given(situations())
def test_no_token_is_ever_lost(situation: tuple[CycleOrder, Wallet]):
    wanted, wallet = situation
    before = dict(wallet.held)
    message = build_cycle(wanted, chain(), tables(), BLOCKHASH)
    try:
        for one in read_back(message, tables()):
            wallet.execute(one)
    except Failed:
        return  # all is as it was, by the chain's own rule
    mints = {one.token_in for one in wanted.legs}
    then, now = tokens_of(before, mints), tokens_of(wallet.held, mints)
    gained = {mint: now[mint] - then[mint] for mint in then}
    gained[SOL_MINT] += wanted.tip  # paid in lamports, and counted among the costs
    assert min(gained.values()) >= 0
    assert gained[wanted.token] >= COSTS
    assert not wallet.swaps


def test_one_unit_less_reverts_and_one_more_stays_in_the_wallet():
    wanted = order(CYCLES[0])
    between = associated_address(OWNER, wanted.legs[1].token_in)
    given_out = wanted.legs[1].amount_in

    def outcome(first_gives: int) -> int | None:
        held = {associated_address(OWNER, SOL_MINT): 10**9, OWNER: 10**9, between: 500}
        wallet = Wallet(held, [(10**9, first_gives), (10**12, wanted.min_amount_out)])
        try:
            for one in read_back(build_cycle(wanted, chain(), tables(), BLOCKHASH), tables()):
                wallet.execute(one)
        except Failed:
            return None
        return wallet.held[between]

    # The 500 that were there would cover a shortfall of one: they must not.
    assert outcome(given_out - 1) is None
    assert outcome(given_out) == 500
    assert outcome(given_out + 1) == 501


def test_the_model_reads_every_kind_of_swap():
    programs = set()
    for legs in CYCLES:
        message = build_cycle(order(legs), chain(), tables(), BLOCKHASH)
        swaps = [one for one in read_back(message, tables()) if one.program in SWAPS]
        programs |= {one.program for one in swaps}
        assert len(swaps) == len(legs)
        for one, swap in zip(legs, swaps, strict=True):
            amount_in, _, source, destination = SWAPS[swap.program](swap)
            assert amount_in == one.amount_in
            own = associated_address(OWNER, one.token_in), associated_address(OWNER, one.token_out)
            native = swap.program in spl_stake_pool.PROGRAMS
            assert source == (OWNER if native and one.token_in == SOL_MINT else own[0])
            assert destination == (OWNER if native and one.token_out == SOL_MINT else own[1])
    assert programs == set(SWAPS)
    assert TOKEN_PROGRAM not in programs
