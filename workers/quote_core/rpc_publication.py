"""How the RPC source tells its pools on MARKET_DATA: whole now and then, between only what differs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from markets.solana.watch.book import PoolRead, RawAccount
from pipeline.ids import deterministic_id
from pipeline.messages import AccountData, PoolState, SlotUpdate


@dataclass(frozen=True, slots=True)
class Observed:
    """A pool's state as it was read, with the order of its writes and its market time."""

    read: PoolRead
    write_version: int
    observed_ns: int


@dataclass(slots=True)
class _Told:
    keyframe: str
    """Id of the last keyframe."""
    accounts: dict[str, RawAccount]
    told_ns: int


class RpcPublication:
    """Remembers what was told of each pool."""

    def __init__(self, producer: str, keyframe_ns: int) -> None:
        """Begin without having told anything."""
        self._producer = producer
        self._keyframe_ns = keyframe_ns
        self._told: dict[str, _Told] = {}
        self._updates = 0

    def forget(self) -> None:
        """Begin anew: the server may have lost everything."""
        self._told.clear()

    def drop(self, pool: str) -> None:
        """Forget what was told of a pool: the next time all of it is told."""
        self._told.pop(pool, None)

    def due(self, pool: str, now_ns: int) -> bool:
        """Tell whether it is time to tell all of a pool again."""
        told = self._told.get(pool)
        return told is None or now_ns - told.told_ns >= self._keyframe_ns

    def state(self, observed: Observed, now_ns: int) -> PoolState:
        """Return a pool's state: all of it where that is due or its accounts are others, else what differs."""
        read = observed.read
        accounts = {account[0]: account for account in read.accounts}
        told = self._told.get(read.address)
        if told is None or self.due(read.address, now_ns) or told.accounts.keys() != accounts.keys():
            # Told again after a while it is the same message: what builds on the first builds on this one.
            id_ = deterministic_id("pool-keyframe", read.address, read.slot, observed.write_version)
            self._told[read.address] = _Told(id_, accounts, now_ns)
            return self._message(observed, id_, "", now_ns, list(accounts.values()))
        id_ = deterministic_id("pool-change", read.address, read.slot, observed.write_version)
        differing = [account for address, account in accounts.items() if told.accounts[address] != account]
        return self._message(observed, id_, told.keyframe, now_ns, differing)

    def update(self, slot: int, market_ns: int, now_ns: int, *, market: str, pools_changed: int) -> SlotUpdate:
        """Return the message that makes what was told visible; there may be several of one slot."""
        self._updates += 1
        return SlotUpdate(
            id=deterministic_id("slot", market, slot, market_ns, self._updates),
            causation_id=market,
            created_ns=now_ns,
            producer=self._producer,
            slot=slot,
            market_ns=market_ns,
            pools_changed=pools_changed,
            closing=False,
        )

    def _message(
        self, observed: Observed, id_: str, keyframe: str, now_ns: int, accounts: list[RawAccount]
    ) -> PoolState:
        read = observed.read
        return PoolState(
            id=id_,
            causation_id=keyframe,
            created_ns=now_ns,
            producer=self._producer,
            pool=read.address,
            protocol=read.protocol,
            slot=read.slot,
            write_version=observed.write_version,
            observed_ns=observed.observed_ns,
            complete=not keyframe,
            accounts=[
                AccountData(address=address, owner=owner, data=data, lamports=lamports)
                for address, owner, data, lamports in accounts
            ],
        )
