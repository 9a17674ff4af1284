"""The simulated traders' orders as transactions: one swap each, signed by a key that anybody can make. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.transaction import VersionedTransaction

from localnet.chain_genesis import TraderRole, trader_keypair
from localnet.draws import Draws
from localnet.market import Order
from markets.solana.transactions.cycle import compiled
from markets.solana.transactions.keys import pubkey
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues import VENUES, Accounts, Swap
from pipeline._core import Pool
from pipeline.messages import Protocol

COMPUTE_LIMIT = 400_000
"""Far more than a swap takes: nobody counts a simulated trader's fees."""
_PRICES = (1_000, 30_000)
"""Priority price that a trader offers, micro-lamports per compute unit."""


@dataclass(frozen=True, slots=True)
class Trader:
    """Somebody who trades: a key, and the address it stands for."""

    key: Keypair
    address: str


def trader(seed: int, role: TraderRole) -> Trader:
    """Return one of the simulated traders."""
    key = trader_keypair(seed, role)
    return Trader(key, str(key.pubkey()))


def swap_transaction(
    who: Trader,
    pool: Pool,
    order: Order,
    *,
    least: int,
    accounts: Accounts,
    blockhash: str,
    label: tuple[int | str, ...],
) -> VersionedTransaction:
    """Return the transaction of an order, signed.

    `least` is the minimum it accepts, base units; `accounts` hold the pool and what its venue's swap needs. The label,
    which the seed belongs to, decides what is offered for a place in the block.
    """
    venue = VENUES[Protocol(int(pool.protocol))]
    token_in, token_out = (pool.token_a, pool.token_b) if order.a_to_b else (pool.token_b, pool.token_a)
    made = venue.swap_instruction(
        pool.address,
        accounts,
        Swap(
            order.a_to_b,
            order.amount_in,
            least if venue.ENFORCES_MINIMUM else 0,
            who.address,
            associated_address(who.address, token_in),
            associated_address(who.address, token_out),
        ),
    )
    metas = [AccountMeta(pubkey(meta.address), meta.signer, meta.writable) for meta in made.metas]
    instructions = [
        set_compute_unit_limit(COMPUTE_LIMIT),
        set_compute_unit_price(Draws("price", *label).between(*_PRICES)),
        Instruction(pubkey(made.program), made.data, metas),
    ]
    return VersionedTransaction(compiled(who.address, instructions, (), blockhash), [who.key])
