"""What the wallets hold, as the chain tells it: each wallet's accounts in one call, all as they stood at one slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from markets.solana.landing.pool_accounts import PoolAccounts
from markets.solana.rpc.accounts import MAX_ACCOUNTS, AccountInfo
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import Priority
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues.shape import TOKEN_PROGRAM, TOKEN_PROGRAMS
from markets.solana.wallets.lanes import Lanes, WalletBalance
from markets.tokens import SOL_MINT, USDC_MINT

_NO_PLAN = ""
_AMOUNT = slice(64, 72)
_TOKEN_ACCOUNT_BYTES = 165


class Balances:
    """Keeps what lanes know of their wallets.

    Lanes are given back, and balances read, when a slot comes: within a slot every plan sees the same.
    """

    def __init__(
        self, lanes: Lanes, accounts: PoolAccounts, mints: Sequence[str], warn: Callable[[str], object]
    ) -> None:
        """`mints` are the tokens that wallets may hold."""
        self._lanes = lanes
        self._accounts = accounts
        self._mints = mints
        self._warn = warn
        self.ended: dict[str, int | None] = {}
        """Plans whose lanes go back with the next slot, and the slots they landed in; None where they did not."""
        self._reading: asyncio.Task[None] | None = None

    def turn(self, rpc: RpcPool) -> None:
        """Go on to a slot: give lanes back, and begin to read what may be another balance now."""
        if self.ended:
            self._reading = asyncio.create_task(self.read(rpc, *self._give_back()))

    async def known(self) -> None:
        """Wait until what is being read is read."""
        if self._reading is not None and not self._reading.done():
            await asyncio.wait({self._reading})

    async def read(self, rpc: RpcPool, wallets: Collection[str] | None = None, asked: Collection[str] = ()) -> None:
        """Take the chain's word on wallets, by default on all and everything they may hold.

        What no node tells, or only one that is behind what landed, is asked for again with the next slot.
        """
        chosen = self._lanes.addresses if wallets is None else [one for one in self._lanes.addresses if one in wallets]
        listed = self._mints if wallets is None else [mint for mint in self._mints if mint in asked]
        mints = {mint: token_program_of(self._accounts.owner(mint)) for mint in listed}
        try:
            found = await read_balances(rpc, chosen, mints)
        except Exception as error:
            # Whatever it was: plans wait for this, and must not end with it.
            self._warn(f"balances were not read: {error if isinstance(error, RpcError) else repr(error)}")
            self.ended.setdefault(_NO_PLAN, None)
            return
        for wallet, balance in found.items():
            known = self._lanes.balance(wallet)
            others = {mint: amount for mint, amount in known.tokens.items() if mint not in mints} if known else {}
            self._lanes.learn(wallet, replace(balance, tokens=others | dict(balance.tokens)))
            if not self._lanes.told(wallet):
                self.ended.setdefault(_NO_PLAN, None)

    def _give_back(self) -> tuple[set[str], set[str]]:
        """Return the wallets and the tokens whose balances may be others now: all where a plan had found no lane."""
        wallets: set[str] = set()
        mints = {SOL_MINT, USDC_MINT}
        for plan_id, landed_slot in self.ended.items():
            lane = self._lanes.lane_of(plan_id)
            wallets |= set(self._lanes.addresses) if lane is None else {lane.address}
            mints |= set(self._mints) if lane is None else lane.tokens.keys()
            self._lanes.release(plan_id, landed_slot)
        self.ended.clear()
        return wallets, mints


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
