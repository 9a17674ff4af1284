"""Ask a Solana node for what is final: histories, transactions, accounts. Everything it says is checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from solders.pubkey import Pubkey

from markets.solana.rpc.accounts import MAX_ACCOUNTS, AccountInfo, Malformed, is_address, program_accounts, slot_number
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import Priority
from markets.solana.transactions.effects import BadTransaction, Effect, effect_of
from markets.solana.venues.shape import TOKEN_PROGRAMS
from workers.auditor.walk import Entry, Read

T = TypeVar("T")
FINAL = "finalized"
_PAGE = 1_000
_AT_ONCE = 8
_SAME_SLOT_TRIES = 5


class Reader:
    """Reads the final chain for a set of wallets.

    The pool's commitment is `finalized`. Transactions are kept until they are `booked`: what is final does not change.
    """

    def __init__(self, pool: RpcPool, wallets: Sequence[str], instance: Callable[[], str] = str) -> None:
        """Begin with nothing read. `instance` tells an offline chain from the one that the same seed began before."""
        self._instance = instance
        self._pool = pool
        self.wallets = frozenset(wallets)
        self._effects: dict[str, Effect] = {}
        self._newest: dict[str, Entry] = {}
        """Newest line of each history that was read."""
        self._until: dict[str, str] = {}
        """Signature in each history up to which everything is booked: nodes need not tell what is older."""
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def genesis(self) -> str:
        """Return what names the chain."""
        return await self._call("getGenesisHash", [], _text) + self._instance()

    async def height(self) -> tuple[int, int]:
        """Return the newest final slot and the height of its block, of one moment at one node."""
        return await self._call("getEpochInfo", [{"commitment": FINAL}], _height)

    async def first_slot(self) -> int:
        """Return the first slot that any node tells of; 0 where none says."""
        answers = await self._pool.everywhere("getFirstAvailableBlock", read=slot_number)
        return min((answer for answer in answers if isinstance(answer, int)), default=0)

    async def token_accounts(self) -> dict[str, str]:
        """Return the wallets' token accounts as they are now: address -> wallet."""
        found: dict[str, str] = {}
        for wallet in sorted(self.wallets):
            for program in TOKEN_PROGRAMS:
                options = {"encoding": "base64", "commitment": FINAL, "dataSlice": {"offset": 0, "length": 0}}
                params: list[object] = [wallet, {"programId": program}, options]
                accounts = await self._call("getTokenAccountsByOwner", params, program_accounts)
                found |= dict.fromkeys(accounts.accounts, wallet)
        return found

    async def read(self, tracked: Mapping[str, str], at_least: int) -> tuple[int, dict[str, Read] | None]:
        """Return a final slot and what the accounts (address -> wallet) hold at it.

        More accounts than one call may name can be of different slots; where they stay so, nothing is returned of them
        but the lowest slot.
        """
        addresses = sorted(tracked)
        parts = [addresses[start : start + MAX_ACCOUNTS] for start in range(0, len(addresses), MAX_ACCOUNTS)]
        slots: set[int] = set()
        for _ in range(_SAME_SLOT_TRIES):
            answers = await asyncio.gather(*(self._pool.get_accounts(part, min_slot=at_least) for part in parts))
            slots = {answer.slot for answer in answers}
            if len(slots) == 1:
                infos = {address: info for answer in answers for address, info in answer.accounts.items()}
                return slots.pop(), {
                    address: self._as_read(address, tracked[address], info) for address, info in infos.items()
                }
        return min(slots), None

    async def history(self, address: str, *, after: int, through: int) -> list[Entry]:
        """Return an address's final transactions in the slots from `after` (left out) to `through`, newest first."""
        found: list[Entry] = []
        before, known = "", self._until.get(address)
        while True:
            options: dict[str, object] = {"limit": _PAGE, "commitment": FINAL, "minContextSlot": through}
            if before:
                options["before"] = before
            if known is not None:
                options["until"] = known
            page = await self._call("getSignaturesForAddress", [address, options], _history)
            found += [entry for entry in page if after < entry.slot <= through]
            if len(page) < _PAGE or page[-1].slot <= after:
                if found:
                    self._newest[address] = found[0]
                return found
            before = page[-1].signature

    async def effects(self, entries: Iterable[Entry]) -> dict[str, Effect]:
        """Return what these transactions did, by signature."""
        wanted = list(entries)
        missing = [entry for entry in wanted if entry.signature not in self._effects]
        for effect in await asyncio.gather(*(self._effect(entry) for entry in missing)):
            self._effects[effect.signature] = effect
        return {entry.signature: self._effects[entry.signature] for entry in wanted}

    def booked(self, signatures: Iterable[str], through: int) -> None:
        """Drop transactions that are booked, which all are up to and with a slot."""
        for signature in signatures:
            self._effects.pop(signature, None)
        for address, entry in self._newest.items():
            if entry.slot <= through:
                self._until[address] = entry.signature

    def begin_anew(self) -> None:
        """Forget everything: it is another chain, or its books begin somewhere else."""
        self._effects.clear()
        self._newest.clear()
        self._until.clear()

    async def _effect(self, entry: Entry) -> Effect:
        options = {"encoding": "json", "commitment": FINAL, "maxSupportedTransactionVersion": 0}

        def read(result: Any) -> Effect:
            if not isinstance(result, dict):
                raise Malformed("a final transaction is not there")
            try:
                effect = effect_of(result, self.wallets)
            except BadTransaction as error:
                raise Malformed(str(error)) from None
            if (effect.signature, effect.slot) != (entry.signature, entry.slot):
                raise Malformed("it is another transaction than the history names")
            return effect

        return await self._call("getTransaction", [entry.signature, options], read)

    def _as_read(self, address: str, wallet: str, info: AccountInfo | None) -> Read:
        if address == wallet:
            return Read(wallet, "", info.lamports if info is not None else 0, 0)
        if info is None or info.owner not in TOKEN_PROGRAMS or len(info.data) < 72:
            return Read(wallet, "", 0, 0)
        mint, owner = (str(Pubkey.from_bytes(info.data[start : start + 32])) for start in (0, 32))
        if owner != wallet:
            return Read(wallet, "", 0, 0)
        return Read(wallet, mint, info.lamports, int.from_bytes(info.data[64:72], "little"))

    async def _call(self, method: str, params: Sequence[object], read: Callable[[Any], T]) -> T:
        async with self._turns:
            return await self._pool.call(method, params, read=read, priority=Priority.NORMAL)


def _history(result: Any) -> list[Entry]:
    if not isinstance(result, list) or len(result) > _PAGE:
        raise Malformed("it is no history")
    found: list[Entry] = []
    for line in result:
        signature = line.get("signature") if isinstance(line, dict) else None
        if not isinstance(signature, str) or not 32 <= len(signature) <= 88 or not signature.isalnum():
            raise Malformed("a line of a history names no signature")
        found.append(Entry(signature, slot_number(line.get("slot"))))
    return found


def _height(result: Any) -> tuple[int, int]:
    if not isinstance(result, dict):
        raise Malformed("it tells no height")
    return slot_number(result.get("absoluteSlot")), slot_number(result.get("blockHeight"))


def _text(result: Any) -> str:
    if not is_address(result):
        raise Malformed("it is no hash")
    return str(result)
