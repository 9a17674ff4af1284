"""The pools of a market as its messages tell them: keyframes, and what changed since.

A keyframe holds all accounts of a pool, a change the accounts that differ from the last keyframe. States are kept as
they came and parsed when a pool is asked for: most states are overwritten before anybody looks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from markets.solana.pools import RawAccount
from pipeline._core import Pool
from pipeline.messages import AccountData, PoolState

NS_PER_S = 1_000_000_000


@dataclass(slots=True)
class _Known:
    keyframe: PoolState | None = None
    change: PoolState | None = None
    pool: Pool | None = None

    @property
    def whole(self) -> bool:
        """Tell whether keyframe and change together are the present state."""
        if self.keyframe is None:
            return False
        # A change names the keyframe it builds on; one on a newer keyframe than ours cannot be laid over ours.
        change = self.change
        return change is None or _order(change) <= _order(self.keyframe) or change.causation_id == self.keyframe.id


@dataclass(slots=True)
class PoolStates:
    """The newest known state of every pool."""

    _pools: dict[str, _Known] = field(default_factory=dict)

    def apply(self, state: PoolState) -> bool:
        """Take a state over unless it is older than what is known; tell whether anything changed."""
        known = self._pools.setdefault(state.pool, _Known())
        held = known.keyframe if state.complete else known.change
        if held is not None and _order(state) <= _order(held):
            return False
        if state.complete:
            known.keyframe = state
        else:
            known.change = state
        known.pool = None
        return True

    def get(self, address: str) -> Pool | None:
        """Return a pool, or None where its present state is not known whole.

        Raises:
            PoolRefused: if its accounts are no pool of its protocol.
        """
        known = self._pools.get(address)
        if known is None or not known.whole:
            return None
        if known.pool is None and known.keyframe is not None:
            known.pool = _parse(known.keyframe, known.change)
        return known.pool

    def accounts(self, address: str) -> dict[str, tuple[str, bytes]] | None:
        """Return the accounts of a pool as (owner, data) by address, or None where its state is not known whole."""
        known = self._pools.get(address)
        if known is None or not known.whole or known.keyframe is None:
            return None
        found = {one.address: (one.owner, one.data) for one in known.keyframe.accounts}
        if known.change is not None and _order(known.change) > _order(known.keyframe):
            found.update((one.address, (one.owner, one.data)) for one in known.change.accounts)
        return found

    def newest(self, address: str) -> PoolState | None:
        """Return the message that brought a pool to its present state, or None where that is not known whole."""
        known = self._pools.get(address)
        if known is None or not known.whole or known.keyframe is None:
            return None
        change = known.change
        return known.keyframe if change is None or _order(change) <= _order(known.keyframe) else change

    def addresses(self) -> list[str]:
        """Return every pool whose present state is known, in the order of their addresses."""
        return sorted(address for address, known in self._pools.items() if known.whole)

    def protocols(self) -> list[tuple[str, int]]:
        """Return every pool whose present state is known, with its protocol's number."""
        return [
            (address, known.keyframe.protocol)
            for address, known in self._pools.items()
            if known.whole and known.keyframe is not None
        ]

    def broken(self) -> list[str]:
        """Return the pools that a change is known of but not the keyframe it builds on: a message was missed."""
        return sorted(address for address, known in self._pools.items() if not known.whole)

    def drop_broken(self) -> list[str]:
        """Forget the pools that lack their keyframe after the stream was read, and return them.

        It is nowhere to be had then; waiting for it would mean to read the stream again for ever.
        """
        broken = self.broken()
        for address in broken:
            del self._pools[address]
        return broken


def _order(state: PoolState) -> tuple[int, int]:
    return state.slot, state.write_version


def _parse(keyframe: PoolState, change: PoolState | None) -> Pool:
    newest = keyframe
    accounts = {account.address: _raw(account) for account in keyframe.accounts}
    if change is not None and _order(change) > _order(keyframe):
        newest = change
        accounts |= {account.address: _raw(account) for account in change.accounts}
    return Pool.parse(
        protocol=keyframe.protocol,
        address=keyframe.pool,
        accounts=list(accounts.values()),
        slot=newest.slot,
        write_version=newest.write_version,
        unix_time=newest.observed_ns // NS_PER_S,
    )


def _raw(account: AccountData) -> RawAccount:
    if account.lamports:
        return account.address, account.owner, account.data, account.lamports
    return account.address, account.owner, account.data
