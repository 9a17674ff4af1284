"""What one read makes of a pool: whole, of one slot, never older than what is known."""

from __future__ import annotations

import struct
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localnet.chain_view import View
from markets.solana.rpc.accounts import AccountInfo, AccountsAt
from markets.solana.venues import VENUES
from markets.solana.watch.book import Again, Changed, Older, Outcome, PoolBook, Same, Void, WatchedPool
from pipeline.messages import Protocol

from .clock import FakeClock
from .offline_chain import Chain


@cache
def standing() -> Chain:
    """Return a chain that nobody moves."""
    return Chain()


class Desk:
    """One pool of the offline market in a book, read when the test says so."""

    def __init__(self, protocol: Protocol) -> None:
        self.chain = standing()
        self.clock = FakeClock()
        self.book = PoolBook(fixed_s=600, clock=self.clock)
        self.pool = next(address for address, pool in self.chain.pools().items() if int(pool.protocol) == int(protocol))
        self.changes: dict[str, AccountInfo | None] = {}
        self.book.add(WatchedPool(self.pool, protocol, VENUES[protocol].PROGRAMS[0]))

    def look(self, slot: int, group: list[str] | None = None) -> Outcome:
        """Read the pool once, as it stands, with what the test changed."""
        view: View = self.chain.served.chain.newest
        found: dict[str, AccountInfo | None] = {}
        for address in group or self.book.group(self.pool):
            held = view.accounts.get(address)
            info = AccountInfo(address, held.owner, held.lamports, held.data) if held is not None else None
            found[address] = self.changes.get(address, info)
        return self.book.read(self.pool, AccountsAt(slot, found), 1_000)

    def read(self, slot: int) -> Outcome:
        """Read it until its accounts are all there."""
        outcome = self.look(slot)
        for _ in range(3):
            if not isinstance(outcome, Again):
                break
            outcome = self.look(slot)
        return outcome

    def change(self, address: str, data: bytes, **more: object) -> AccountInfo:
        held = self.chain.served.chain.newest.accounts[address]
        info = AccountInfo(address, str(more.get("owner", held.owner)), held.lamports, data)
        self.changes[address] = info
        return info

    def data(self, address: str) -> bytes:
        return self.chain.served.chain.newest.accounts[address].data

    def vault(self) -> str:
        return next(one for one in sorted(self.book.listened(self.pool)) if len(self.data(one)) == 165)


def test_the_first_read_tells_what_else_is_needed_and_the_second_has_it():
    desk = Desk(Protocol.WHIRLPOOL)
    assert desk.book.group(desk.pool) == [desk.pool]
    assert desk.look(10) == Again(desk.pool)
    outcome = desk.look(10)
    assert isinstance(outcome, Changed)
    assert outcome.state.accounts[0][0] == desk.pool
    assert (outcome.state.slot, outcome.state.unix_time) == (10, 1_000)
    # Arrays without positions do not exist on chain, and are not in the state.
    needed = VENUES[Protocol.WHIRLPOOL].accounts_needed(desk.pool, desk.data(desk.pool), {})
    assert len(outcome.state.accounts) < len(needed) + 1
    assert desk.read(11) == Same(desk.pool)


def test_mints_are_read_once_in_a_while_and_not_listened_to():
    desk = Desk(Protocol.RAYDIUM_CPMM)
    assert isinstance(desk.read(10), Changed)
    needed = VENUES[Protocol.RAYDIUM_CPMM].accounts_needed(desk.pool, desk.data(desk.pool), {})
    mints = {need.address for need in needed if need.role == "mint"}
    assert mints
    assert not mints & set(desk.book.group(desk.pool))
    assert not mints & desk.book.listened(desk.pool)
    desk.clock.forward(601)
    assert mints <= set(desk.book.group(desk.pool))
    assert desk.read(20) == Same(desk.pool)
    assert not mints & set(desk.book.group(desk.pool))


def test_an_older_read_changes_nothing():
    desk = Desk(Protocol.RAYDIUM_AMM_V4)
    desk.read(10)
    desk.change(desk.vault(), desk.data(desk.vault()))
    assert desk.read(9) == Older(desk.pool)
    assert desk.read(10) == Same(desk.pool)


def test_a_notification_makes_older_reads_useless():
    desk = Desk(Protocol.RAYDIUM_AMM_V4)
    desk.read(10)
    vault = desk.vault()
    changed = bytearray(desk.data(vault))
    struct.pack_into("<Q", changed, 64, 12345)
    info = desk.change(vault, bytes(changed))
    assert desk.book.notified(vault, 15, info) == [desk.pool]
    assert desk.book.least_slot([desk.pool]) == 15
    assert desk.look(12) == Older(desk.pool)
    outcome = desk.look(15)
    assert isinstance(outcome, Changed)
    assert desk.book.least_slot([desk.pool]) == 0
    # What the read has seen is no news.
    assert desk.book.notified(vault, 15, info) == []
    assert desk.book.notified(vault, 16, info) == [], "as it was read"
    older = AccountInfo(vault, info.owner, info.lamports, info.data[:64] + bytes(8) + info.data[72:])
    assert desk.book.notified(vault, 14, older) == [], "of before"
    assert desk.book.notified("nobody", 20, info) == []
    desk.book.notified(vault, 10**9, None)
    desk.book.forget_least_slot([desk.pool])
    assert desk.book.least_slot([desk.pool]) == 0


def test_the_accounts_follow_the_price():
    desk = Desk(Protocol.WHIRLPOOL)
    desk.read(10)
    version, before = desk.book.version, desk.book.listened(desk.pool)
    moved = bytearray(desk.data(desk.pool))
    spacing, tick = struct.unpack_from("<H", moved, 41)[0], struct.unpack_from("<i", moved, 81)[0]
    struct.pack_into("<i", moved, 81, tick + spacing * 88)
    desk.change(desk.pool, bytes(moved))
    assert desk.look(11) == Again(desk.pool), "an array is needed that was not read"
    assert desk.book.version > version
    after = desk.book.listened(desk.pool)
    assert len(after - before) == len(before - after) == 1
    assert isinstance(desk.look(11), Changed)


def test_what_is_no_pool_is_void_and_said_once():
    desk = Desk(Protocol.RAYDIUM_AMM_V4)
    desk.read(10)
    desk.changes[desk.pool] = None
    gone = desk.read(11)
    assert gone == Void(desk.pool, Protocol.RAYDIUM_AMM_V4, 11, "account_closed: the pool does not exist")
    assert desk.read(12) == Same(desk.pool)
    desk.change(desk.pool, b"", owner="11111111111111111111111111111111")
    assert str(desk.read(13)).count("wrong_owner") == 1
    desk.change(desk.pool, b"short")
    assert isinstance(desk.read(14), Void)
    desk.changes.clear()
    assert isinstance(desk.read(15), Changed), "it is back"


def test_a_vault_that_is_gone_or_somebody_elses_is_refused():
    desk = Desk(Protocol.RAYDIUM_AMM_V4)
    desk.read(10)
    vault = desk.vault()
    desk.changes[vault] = None
    outcome = desk.read(11)
    assert isinstance(outcome, Void)
    assert outcome.reason.startswith("missing_account: vault")
    desk.change(vault, desk.data(vault), owner="11111111111111111111111111111111")
    outcome = desk.read(12)
    assert isinstance(outcome, Void)
    assert outcome.reason.startswith("wrong_owner: vault")


def test_a_pool_of_more_accounts_than_one_call_reads_is_refused_and_does_not_break_the_others(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("markets.solana.watch.book.MAX_GROUP", 5)
    desk = Desk(Protocol.WHIRLPOOL)
    outcome = desk.read(10)
    assert isinstance(outcome, Void)
    assert outcome.reason.startswith("too_many_accounts")
    assert desk.book.group(desk.pool) == [desk.pool]


def test_lamports_sent_to_an_array_that_does_not_exist_are_no_array():
    desk = Desk(Protocol.WHIRLPOOL)
    first = desk.read(10)
    assert isinstance(first, Changed)
    absent = next(one for one in desk.book.group(desk.pool) if one not in desk.chain.served.chain.newest.accounts)
    desk.changes[absent] = AccountInfo(absent, "11111111111111111111111111111111", 5, b"")
    assert desk.read(11) == Same(desk.pool)


def test_pools_that_share_an_account_are_told_apart():
    chain, clock = Chain(), FakeClock()
    book = PoolBook(fixed_s=600, clock=clock)
    program = VENUES[Protocol.RAYDIUM_CPMM].PROGRAMS[0]
    pools = [address for address, pool in chain.pools().items() if int(pool.protocol) == int(Protocol.RAYDIUM_CPMM)]
    view = chain.served.chain.newest
    for pool in pools:
        assert book.add(WatchedPool(pool, Protocol.RAYDIUM_CPMM, program))
        assert not book.add(WatchedPool(pool, Protocol.RAYDIUM_CPMM, program))
        for _ in range(2):
            found = {
                one: AccountInfo(one, held.owner, held.lamports, held.data)
                for one in book.group(pool)
                if (held := view.accounts.get(one)) is not None
            }
            outcome = book.read(pool, AccountsAt(10, found), 0)
        assert isinstance(outcome, Changed)
    config = next(iter(book.listened(pools[0]) & book.listened(pools[1])))
    info = AccountInfo(config, program, 1, b"other fees")
    assert set(book.notified(config, 11, info)) == set(pools)
    assert all(config in book.group(pool) for pool in pools), "a configuration that changed is read again"
    book.remove(pools[0])
    assert pools[0] not in book.notified(config, 12, AccountInfo(config, program, 1, b"others again"))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.booleans()), min_size=1, max_size=25))
def test_no_order_of_reads_and_notifications_brings_back_an_older_state(steps: list[tuple[int, int, bool]]):
    """The vault holds its slot's number: whatever comes when, the state is of the newest slot that was read."""
    desk = Desk(Protocol.RAYDIUM_AMM_V4)
    desk.read(0)
    vault = desk.vault()
    newest = 0
    for slot, delay, notify in steps:
        data = bytearray(desk.data(vault))
        struct.pack_into("<Q", data, 64, 1_000_000 + slot)
        info = desk.change(vault, bytes(data))
        if notify:
            desk.book.notified(vault, slot + delay, info)
            continue
        outcome = desk.look(slot)
        if isinstance(outcome, Changed):
            assert slot >= newest
            held = next(one for one in outcome.state.accounts if one[0] == vault)
            assert struct.unpack_from("<Q", held[2], 64)[0] == 1_000_000 + slot
        if not isinstance(outcome, Older):
            newest = slot
