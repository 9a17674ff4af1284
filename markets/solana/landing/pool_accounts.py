"""The accounts that a transaction is built from: the pools' as the market tells them, the others from a node."""

from __future__ import annotations

from collections.abc import Sequence

from markets.market_view import MarketView
from markets.solana.rpc.accounts import packed
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.venues import VENUES, BadAccount
from markets.solana.venues.shape import Accounts, Needed
from pipeline.messages import Leg, Protocol

_KNOWN = frozenset(VENUES)


class PoolAccounts:
    """Pools come with the market's messages; mints, configurations and the like are read once and kept."""

    def __init__(self, market: MarketView) -> None:
        """Begin with what the market knows."""
        self._market = market
        self._kept: dict[str, tuple[str, bytes]] = {}
        self._absent: set[str] = set()
        # Pools that lack nothing: what does not move is read once, so they need not be looked through again.
        self._whole: set[str] = set()

    def lacking(self, pools: Sequence[tuple[str, int]]) -> list[str]:
        """Return the accounts of some pools that are neither told by the market nor read yet."""
        found: dict[str, None] = {}
        for pool, protocol in pools:
            if pool in self._whole:
                continue
            told = self._market.states.accounts(pool)
            if told is None:
                continue
            # What moves is told by the market or does not exist.
            needs = self._needed(pool, protocol, told)
            fixed = [needed.address for needed in needs if not needed.moves]
            lacking = [address for address in fixed if address not in told and address not in self._kept]
            found |= dict.fromkeys(lacking)
            if needs and not lacking:
                self._whole.add(pool)
        return [address for address in found if address not in self._absent]

    async def read(self, rpc: RpcPool, addresses: Sequence[str]) -> None:
        """Read accounts and keep them.

        Raises:
            RpcError: if no node tells.
        """
        for call in packed([[address] for address in addresses]):
            told = await rpc.get_accounts([address for group in call for address in group])
            for address, account in told.accounts.items():
                if account is None:
                    self._absent.add(address)
                else:
                    self._kept[address] = (account.owner, account.data)

    def owner(self, address: str) -> str | None:
        """Return the program that owns an account that was read; None where none was."""
        kept = self._kept.get(address)
        return kept[0] if kept is not None else None

    async def prefetch(self, rpc: RpcPool) -> None:
        """Read what the pools of now lack, so that no plan has to wait for it; what no node tells is read later."""
        self._absent.clear()
        lacking = self.lacking(self._market.states.protocols())
        if lacking:
            try:
                await self.read(rpc, lacking)
            except RpcError:
                return

    async def of(self, rpc: RpcPool, legs: Sequence[Leg]) -> Accounts | str:
        """Return what a cycle is built from, or why it cannot be.

        Raises:
            RpcError: if something had to be read and no node told it.
        """
        found: dict[str, tuple[str, bytes]] = {}
        lacking = self.lacking([(leg.pool, leg.protocol) for leg in legs])
        if lacking:
            await self.read(rpc, lacking)
        for leg in legs:
            told = self._market.states.accounts(leg.pool)
            if told is None:
                return f"pool {leg.pool} is not known"
            found |= told
        return self._kept | found

    def _needed(self, pool: str, protocol: int, told: dict[str, tuple[str, bytes]]) -> Sequence[Needed]:
        venue = VENUES.get(Protocol(protocol)) if protocol in _KNOWN else None
        if venue is None or pool not in told:
            return ()
        try:
            return venue.accounts_needed(pool, told[pool][1], told)
        except BadAccount:
            return ()
