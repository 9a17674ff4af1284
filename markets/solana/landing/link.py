"""Everything that stands between the executor and one chain: nodes, block engine, fees, tables, what is followed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Self

from solders.address_lookup_table_account import AddressLookupTableAccount

from markets.solana.landing.engine import BlockEngine
from markets.solana.landing.fee_market import FeeMarket
from markets.solana.landing.settings import LandingSettings
from markets.solana.landing.signature_socket import SignatureSocket
from markets.solana.landing.tracker import Tracker
from markets.solana.rpc.accounts import MAX_ACCOUNTS, AccountInfo
from markets.solana.rpc.errors import AttemptFailed, RpcError
from markets.solana.rpc.line import Line
from markets.solana.rpc.pool import RpcPool
from markets.solana.transactions.lookup_tables import TABLE_PROGRAM, parse_table, tables_of
from markets.solana.venues.shape import BadAccount

_TABLES_S = 30.0
_SEARCHED_EVERY = 20
"""Times that tables are read until our own are searched for again: to search every table there is costs a node much."""


class ChainLink:
    """One chain, reached over its endpoints. Use it as an async context manager.

    `rpc` and `engine` are opened and closed with it.
    """

    def __init__(
        self,
        rpc: RpcPool,
        engine: BlockEngine | None,
        settings: LandingSettings,
        *,
        wallets: Sequence[str],
        slot: Callable[[], int],
        look_s: float = 2.0,
        wall_ns: Callable[[], int] = time.time_ns,
        warn: Callable[[str], object] = lambda _: None,
    ) -> None:
        """`wallets` hold the authority of lookup tables; `slot` tells the newest slot; `look_s` is between two looks at
        the endpoints.
        """
        self.rpc = rpc
        self.engine = engine
        self.settings = settings
        self.wall_ns = wall_ns
        self.fees = FeeMarket(rpc, engine, settings, warn=warn)
        self.tracker = Tracker(
            rpc, engine, settings, wall_ns=wall_ns, height=lambda: self.fees.book.height_at(slot()) or 1 << 62
        )
        self.socket = SignatureSocket(rpc, settings.commitment, lambda _: self.tracker.poke())
        self.tables: list[AddressLookupTableAccount] = []
        self._wallets = wallets
        self._look_s = look_s
        self._warn = warn
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Open the connections and begin to look."""
        await self._stack.enter_async_context(self.rpc)
        if self.engine is not None:
            await self._stack.enter_async_context(self.engine)
        parts = [self.rpc.keep(self._look_s), self.tracker.run(), self.socket.run(), self._keep_tables()]
        if self.settings.route != "bundle":
            parts += [lines.keep(0.25) for lines in self.rpc.lines.values()]
        self._tasks = [asyncio.create_task(part) for part in parts]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything; what was followed is not known any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.fees.close()
        await self._stack.aclose()

    async def rpc_line(self) -> Line:
        """Return a connection to the node that is the best to send to now.

        Raises:
            AttemptFailed: if none can be reached.
        """
        usable = [one for one in self.rpc.endpoints if not one.other_chain and one.wait_s() <= 0]
        ordered = sorted(usable, key=lambda one: (self.rpc.lagging(one), one.cost))
        failure: AttemptFailed | None = None
        for endpoint in ordered[:2]:
            try:
                return await self.rpc.lines[endpoint.host].take()
            except AttemptFailed as error:
                failure = error
        raise failure or AttemptFailed("no endpoint", "can be asked now")

    async def read_tables(self, *, search: bool = True) -> None:
        """Read the lookup tables: those that are configured or known, and those that `search` finds of our wallets.

        Most nodes refuse such a search, or take long. It is done without then: tables make transactions smaller.

        Raises:
            RpcError: if no node tells of tables whose addresses are known.
        """
        found: dict[str, AccountInfo | None] = {}
        slot = 0
        known = {str(table.key): table for table in self.tables}
        for wallet in self._wallets if search else ():
            try:
                told = await self.rpc.get_program_accounts(TABLE_PROGRAM, tables_of(wallet).rpc())
            except RpcError as error:
                self._warn(f"lookup tables of our own were not found: {error}")
                break
            found |= told.accounts
            slot = max(slot, told.slot)
        asked = [address for address in dict.fromkeys([*self.settings.lookup_tables, *known]) if address not in found]
        for start in range(0, len(asked), MAX_ACCOUNTS):
            told = await self.rpc.get_accounts(asked[start : start + MAX_ACCOUNTS])
            found |= told.accounts
            slot = max(slot, told.slot)
        tables: list[AddressLookupTableAccount] = []
        for address, account in sorted(found.items()):
            if account is None:
                self._warn(f"lookup table {address} does not exist")
                continue
            try:
                table = parse_table(address, account.owner, account.data, slot)
                tables.append(known[address] if known.get(address) == table else table)  # looked into already
            except BadAccount as error:
                self._warn(str(error))
        self.tables = tables

    async def _keep_tables(self) -> None:
        for times in itertools.count(1):
            await asyncio.sleep(_TABLES_S)
            try:
                await self.read_tables(search=times % _SEARCHED_EVERY == 0)
            except Exception as error:
                # Whatever it was, the next reading may go well: nobody else reads them.
                told = error if isinstance(error, RpcError) else repr(error)
                self._warn(f"lookup tables were not read again: {told}")
