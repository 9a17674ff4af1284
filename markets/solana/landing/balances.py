"""What the wallets hold, as the chain tells it: each wallet's accounts in one call, all as they stood at one slot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from markets.solana.rpc.accounts import MAX_ACCOUNTS, AccountInfo
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import Priority
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues.shape import TOKEN_PROGRAM, TOKEN_PROGRAMS
from markets.solana.wallets.lanes import WalletBalance

_AMOUNT = slice(64, 72)
_TOKEN_ACCOUNT_BYTES = 165


async def read_balances(
    rpc: RpcPool, wallets: Sequence[str], mints: Mapping[str, str], *, priority: Priority = Priority.URGENT
) -> dict[str, WalletBalance]:
    """Return what each wallet holds of each mint, in its associated accounts; `mints` tells each one's token program.

    Raises:
        RpcError: if no node tells.
        ValueError: for more mints than one call can ask about.
    """
    if len(mints) >= MAX_ACCOUNTS:
        raise ValueError(f"at most {MAX_ACCOUNTS - 1} mints are followed, not {len(mints)}")

    async def read(wallet: str) -> WalletBalance:
        held = {mint: associated_address(wallet, mint, program) for mint, program in mints.items()}
        told = await rpc.get_accounts([wallet, *held.values()], priority=priority)
        system = told.accounts[wallet]
        amounts = {mint: _amount(told.accounts[address]) for mint, address in held.items()}
        tokens = {mint: amount for mint, amount in amounts.items() if amount is not None}
        return WalletBalance(told.slot, system.lamports if system is not None else 0, tokens)

    return dict(zip(wallets, await asyncio.gather(*map(read, wallets)), strict=True))


def token_program_of(owner: str | None) -> str:
    """Return the token program that owns a mint; the classic one where that is not known."""
    return owner if owner in TOKEN_PROGRAMS else TOKEN_PROGRAM


def _amount(account: AccountInfo | None) -> int | None:
    if account is None or account.owner not in TOKEN_PROGRAMS or len(account.data) < _TOKEN_ACCOUNT_BYTES:
        return None
    return int.from_bytes(account.data[_AMOUNT], "little")
