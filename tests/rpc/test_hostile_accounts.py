"""A node that makes accounts up can have a pool refused, and nothing more."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from markets.solana.rpc.accounts import AccountInfo, AccountsAt
from markets.solana.venues import VENUES
from markets.solana.watch.book import Again, Changed, PoolBook, Void, WatchedPool
from pipeline._core import Pool, PoolRefused
from pipeline.messages import Protocol

from .clock import FakeClock
from .test_book import standing


@settings(max_examples=150)
@given(st.data())
def test_whatever_bytes_come_a_read_is_a_state_or_a_reason(data: st.DataObject):
    view = standing().served.chain.newest
    pools = standing().pools()
    address = data.draw(st.sampled_from(sorted(pools)))
    # Its own bytes under any venue: what a node says of an account's owner may be wrong too.
    own = Protocol(int(pools[address].protocol))
    protocol = data.draw(st.one_of(st.just(own), st.sampled_from(sorted(VENUES))))
    program = VENUES[protocol].PROGRAMS[0]
    book = PoolBook(fixed_s=600, clock=FakeClock())
    assert book.add(WatchedPool(address, protocol, program))
    for slot in range(4):
        found: dict[str, AccountInfo | None] = {}
        for one in book.group(address):
            held = view.accounts.get(one)
            owner = program if one == address else held.owner if held is not None else program
            raw = bytearray(held.data if held is not None else data.draw(st.binary(max_size=300)))
            for _ in range(data.draw(st.integers(0, 3)) if raw else 0):
                raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
            cut = data.draw(st.sampled_from([0, 0, 0, 1, 100]))
            found[one] = AccountInfo(one, owner, 1, bytes(raw[: len(raw) - cut]))
        outcome = book.read(address, AccountsAt(slot, found), 1_000)
        if isinstance(outcome, Changed):
            state = outcome.state
            try:
                pool = Pool.parse(protocol, address, list(state.accounts), state.slot, 1, state.unix_time)
            except PoolRefused:
                return
            assert pool.address == address
            return
        if isinstance(outcome, Void):
            assert outcome.reason.split(":")[0].replace("_", "").isalnum()
            return
        assert isinstance(outcome, Again)
