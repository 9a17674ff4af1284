"""How the market tells its pools: keyframes with every account, between them what differs from the keyframe. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from markets.solana.pools import RawAccount
from pipeline._core import Pool
from pipeline.ids import deterministic_id
from pipeline.messages import AccountData, PoolState, Protocol, SlotUpdate


@dataclass(frozen=True, slots=True)
class HeldState:
    """A pool of the market, and when it came to be as it is."""

    pool: Pool
    slot: int
    write_version: int
    observed_ns: int


@dataclass(frozen=True, slots=True)
class _Keyframe:
    id: str
    accounts: dict[str, tuple[bytes, int]]
    """Data and lamports by address."""


@dataclass(slots=True)
class Publication:
    """Remembers the last keyframe of each pool."""

    producer: str
    _keyframes: dict[str, _Keyframe] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Tell whether any pool has been told yet."""
        return bool(self._keyframes)

    def keyframe(self, held: HeldState, created_ns: int) -> PoolState:
        """Return a pool's state with all of its accounts."""
        id_ = deterministic_id("pool-keyframe", held.pool.address, held.slot, held.write_version)
        accounts = held.pool.accounts()
        self._keyframes[held.pool.address] = _Keyframe(id_, {account[0]: _content(account) for account in accounts})
        return self._message(held, id_, "", created_ns, accounts)

    def change(self, held: HeldState, created_ns: int) -> PoolState:
        """Return what of a pool differs from its last keyframe; all of it where there is none."""
        keyframe = self._keyframes.get(held.pool.address)
        if keyframe is None:
            return self.keyframe(held, created_ns)
        id_ = deterministic_id("pool-change", held.pool.address, held.slot, held.write_version)
        accounts = held.pool.accounts()
        differing = [account for account in accounts if keyframe.accounts.get(account[0]) != _content(account)]
        return self._message(held, id_, keyframe.id, created_ns, differing)

    def resume(self, keyframe: PoolState) -> None:
        """Take over a keyframe that was published before this process began."""
        self._keyframes[keyframe.pool] = _Keyframe(
            keyframe.id, {account.address: (account.data, account.lamports) for account in keyframe.accounts}
        )

    def slot(
        self, slot: int, market_ns: int, created_ns: int, *, market: str, pools_changed: int, closing: bool
    ) -> SlotUpdate:
        """Return the message that completes a slot; `market` is the market's own id."""
        return SlotUpdate(
            id=deterministic_id("slot", slot, market_ns),
            causation_id=market,
            created_ns=created_ns,
            producer=self.producer,
            slot=slot,
            market_ns=market_ns,
            pools_changed=pools_changed,
            closing=closing,
        )

    def _message(
        self, held: HeldState, id_: str, keyframe: str, created_ns: int, accounts: list[RawAccount]
    ) -> PoolState:
        return PoolState(
            id=id_,
            # A change names the keyframe it builds on: laid over another one it would be wrong.
            causation_id=keyframe,
            created_ns=created_ns,
            producer=self.producer,
            pool=held.pool.address,
            protocol=Protocol(int(held.pool.protocol)),
            slot=held.slot,
            write_version=held.write_version,
            observed_ns=held.observed_ns,
            complete=not keyframe,
            accounts=[account_data(account) for account in accounts],
        )


def _content(account: RawAccount) -> tuple[bytes, int]:
    return bytes(account[2]), account[3] if len(account) == 4 else 0


def account_data(account: RawAccount) -> AccountData:
    """Return an account as a message tells it."""
    data, lamports = _content(account)
    return AccountData(address=account[0], owner=account[1], data=data, lamports=lamports)
