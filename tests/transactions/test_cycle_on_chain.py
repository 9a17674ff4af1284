"""Cycles on the offline chain, against the stand-in programs: what was predicted is what happens, to the lamport."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from solders.message import MessageV0, to_bytes_versioned
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from localnet.chain_world import ChainTerms, ChainWorld, open_chain
from localnet.market import Order
from localnet.traders import swap_transaction, trader
from markets.solana.transactions.cycle import CycleOrder, build_cycle, needs_of
from markets.solana.transactions.fees import priority_fee
from markets.solana.transactions.lookup_tables import TABLE_PROGRAM, parse_table
from markets.solana.transactions.tips import TIP_ACCOUNTS
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues import VENUES, Accounts
from markets.solana.venues.shape import SYSTEM_PROGRAM
from markets.solana.wallets.keys import offline_keypair
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline._core import Pool
from pipeline.messages import Leg, Protocol

SEED = 5
WALLET = offline_keypair(SEED, 0)
OWNER = str(WALLET.pubkey())
LIMIT, PRICE, TIP = 500_000, 10_000, 150_000
AMOUNT = 3 * 10**9


@dataclass
class Stage:
    """A chain where nobody trades but the test."""

    world: ChainWorld

    def pool(self, protocol: Protocol, which: int = 0) -> Pool:
        """A pool of SOL and USDC as it is now."""
        held = (one.pool for _, one in sorted(self.world.pools.items()))
        return [
            pool
            for pool in held
            if int(pool.protocol) == protocol and {pool.token_a, pool.token_b} == {SOL_MINT, USDC_MINT}
        ][which]

    def known(self, *pools: Pool) -> Accounts:
        found: dict[str, tuple[str, bytes]] = {}
        for pool in pools:
            account = self.world.chain.account(pool.address)
            assert account is not None
            needed = VENUES[Protocol(int(pool.protocol))].accounts_needed(pool.address, account.data, {})
            for address in (pool.address, *(need.address for need in needed)):
                if (one := self.world.chain.account(address)) is not None:
                    found[address] = one.owner, one.data
        return found

    def trade(self, pool: Pool, a_to_b: bool, amount: int) -> bytes:
        """Somebody else's swap, to be sent."""
        order = Order("noise", a_to_b, amount)
        blockhash = self.world.chain.latest_blockhash("processed")[0]
        made = swap_transaction(
            trader(SEED, "noise"),
            pool,
            order,
            least=1,
            accounts=self.known(pool),
            blockhash=blockhash,
            label=(amount, self.world.slot),
        )
        return bytes(made)

    def open_gap(self, pool: Pool) -> None:
        """Have somebody buy SOL dearly: it is worth a percent more USDC there."""
        usdc = pool.token_a == USDC_MINT
        sol = 10_000 if int(pool.protocol) == Protocol.WHIRLPOOL else 200
        depth = pool.quote_in(not usdc, 10**9).amount_out * sol
        self.world.chain.send(self.trade(pool, usdc, depth))
        self.world.advance()

    def built(self, dear: Pool, cheap: Pool) -> tuple[CycleOrder, MessageV0]:
        """SOL for USDC where it is dear, and back where it is cheap."""
        middle = dear.quote_in(dear.token_a == SOL_MINT, AMOUNT).amount_out
        out = cheap.quote_in(cheap.token_a == USDC_MINT, middle).amount_out
        legs = [
            Leg(pool=dear.address, protocol=Protocol(int(dear.protocol)), token_in=SOL_MINT, token_out=USDC_MINT,
                amount_in=AMOUNT, amount_out=middle),
            Leg(pool=cheap.address, protocol=Protocol(int(cheap.protocol)), token_in=USDC_MINT, token_out=SOL_MINT,
                amount_in=middle, amount_out=out),
        ]  # fmt: skip
        order = CycleOrder(
            legs=legs,
            token=SOL_MINT,
            amount_in=AMOUNT,
            min_amount_out=AMOUNT + 5_000 + priority_fee(LIMIT, PRICE) + TIP,
            wallet=OWNER,
            compute_limit=LIMIT,
            micro_lamports=PRICE,
            tip=TIP,
            tip_account=TIP_ACCOUNTS[1],
        )
        tables = [
            parse_table(address, account.owner, account.data)
            for address, account in self.world.chain.views.newest.accounts.items()
            if account.owner == TABLE_PROGRAM
        ]
        blockhash = self.world.chain.latest_blockhash("processed")[0]
        return order, build_cycle(order, self.known(dear, cheap), tables, blockhash)

    def balances(self) -> dict[str, int]:
        """All that the wallet owns: lamports under its address, tokens by mint."""
        system = self.world.chain.account(OWNER)
        assert system is not None
        found = {SYSTEM_PROGRAM: system.lamports}
        for mint in (SOL_MINT, USDC_MINT):
            account = self.world.chain.account(associated_address(OWNER, mint))
            assert account is not None
            found[mint] = int.from_bytes(account.data[64:72], "little")
        return found


@pytest.fixture
def stage() -> Stage:
    return Stage(open_chain(load_registry(), ChainTerms(SEED, 400, traders=False)))


def signed(message: MessageV0) -> bytes:
    return bytes(VersionedTransaction.populate(message, [WALLET.sign_message(to_bytes_versioned(message))]))


def changed(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    return {name: now[name] - before[name] for name in before}


KINDS = [
    (Protocol.RAYDIUM_AMM_V4, Protocol.RAYDIUM_CPMM),
    (Protocol.RAYDIUM_CPMM, Protocol.WHIRLPOOL),
    (Protocol.WHIRLPOOL, Protocol.RAYDIUM_AMM_V4),
]


@pytest.mark.parametrize(("dear_kind", "cheap_kind"), KINDS)
def test_predicted_simulated_and_realised_are_the_same(stage: Stage, dear_kind: Protocol, cheap_kind: Protocol):
    stage.open_gap(stage.pool(dear_kind))
    order, message = stage.built(stage.pool(dear_kind), stage.pool(cheap_kind))
    before = stage.balances()
    wrapped = associated_address(OWNER, SOL_MINT)
    unsigned = VersionedTransaction.populate(message, [Signature.default()])
    tried = stage.world.chain.simulate(unsigned, addresses=[wrapped])
    assert tried.error is None, tried.logs
    assert needs_of(order).tokens == {SOL_MINT: AMOUNT}
    bundle = stage.world.chain.send_bundle([signed(message)])
    stage.world.advance()
    status = stage.world.chain.bundle(bundle)
    assert status is not None
    assert status.state == "Landed", status
    profit = order.legs[1].amount_out - AMOUNT
    assert profit > order.min_amount_out - AMOUNT
    fees = 5_000 + priority_fee(LIMIT, PRICE) + TIP
    assert changed(before, stage.balances()) == {SYSTEM_PROGRAM: -fees, SOL_MINT: profit, USDC_MINT: 0}
    after = tried.accounts[wrapped]
    assert after is not None
    assert int.from_bytes(after.data[64:72], "little") == before[SOL_MINT] + profit


def disturbed(stage: Stage, dear_kind: Protocol, cheap_kind: Protocol, disturb: Callable[[Pool], bytes]) -> tuple:
    """Somebody trades on the first leg's pool between plan and landing; the cycle goes by RPC, without a bundle."""
    stage.open_gap(stage.pool(dear_kind))
    dear = stage.pool(dear_kind)
    order, message = stage.built(dear, stage.pool(cheap_kind))
    before = stage.balances()
    stage.world.chain.send(disturb(dear))
    stage.world.advance()
    raw = signed(message)
    signature = stage.world.chain.send(raw, preflight=False)
    block = stage.world.advance().block
    assert block is not None
    (record,) = [one for one in block.records if one.signature == signature]
    return order, record, changed(before, stage.balances())


@pytest.mark.parametrize(("dear_kind", "cheap_kind"), KINDS)
def test_a_first_leg_that_gives_less_reverts_all_and_costs_the_fee(
    stage: Stage, dear_kind: Protocol, cheap_kind: Protocol
):
    # The wallet holds 150,000 USDC, which could well cover what is lacking; they are not touched.
    _, record, moved = disturbed(
        stage, dear_kind, cheap_kind, lambda pool: stage.trade(pool, pool.token_a == SOL_MINT, 10**7)
    )
    assert record.error is not None
    fee = 5_000 + priority_fee(LIMIT, PRICE)
    assert moved == {SYSTEM_PROGRAM: -fee, SOL_MINT: 0, USDC_MINT: 0}


@pytest.mark.parametrize(("dear_kind", "cheap_kind"), KINDS)
def test_a_first_leg_that_gives_more_leaves_the_surplus_in_the_wallet(
    stage: Stage, dear_kind: Protocol, cheap_kind: Protocol
):
    order, record, moved = disturbed(
        stage, dear_kind, cheap_kind, lambda pool: stage.trade(pool, pool.token_a == USDC_MINT, 10**9)
    )
    assert record.error is None, record.logs
    assert moved[SOL_MINT] == order.legs[1].amount_out - AMOUNT
    assert moved[USDC_MINT] > 0
    assert moved[SYSTEM_PROGRAM] == -5_000 - priority_fee(LIMIT, PRICE) - TIP
