from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quote_tables import write_pool

from localnet.market import offline_engine
from localnet.publication import HeldState, Publication
from markets.tokens import load_registry
from pipeline._core import Pool
from pipeline.messages import PoolState, SlotUpdate
from pipeline.shm import POOLS, QUOTES_EXTERNAL, QUOTES_INTERNAL, PoolBlobTable, QuoteTable, SharedMemoryFull
from workers.quote_core.feed import Action, Feed
from workers.quote_core.parts import LOCAL
from workers.quote_core.tables import Tables

REGISTRY = load_registry()
AMOUNTS = (10**8, 10**9, 10**10)
ENGINE_POOLS = offline_engine(REGISTRY, 1)[1]
ADDRESSES = sorted(ENGINE_POOLS)


def held(address: str, slot: int, write_version: int = 1) -> HeldState:
    pool = ENGINE_POOLS[address].at(slot, write_version, 0)
    return HeldState(pool.swap(True, 10**6 * (slot + 1))[0], slot, write_version, slot * 100)


def update(publication: Publication, slot: int, count: int, market: str = "one") -> SlotUpdate:
    return publication.slot(slot, slot * 100, 0, market=market, pools_changed=count, closing=False)


def test_a_slot_is_committed_when_all_of_its_states_have_come():
    feed, publication = Feed(), Publication("market")
    for address in ADDRESSES[:2]:
        feed.state(publication.keyframe(held(address, 1), 0))
    assert feed.update(update(publication, 1, 2)) is Action.COMMIT
    assert feed.take_changed() == ADDRESSES[:2]
    assert feed.take_changed() == []
    assert (feed.slot, feed.market_ns) == (1, 100)


def test_a_missing_state_means_reading_again():
    feed, publication = Feed(), Publication("market")
    feed.state(publication.keyframe(held(ADDRESSES[0], 1), 0))
    assert feed.update(update(publication, 1, 2)) is Action.RELOAD
    assert feed.slot == -1


def test_a_change_on_a_keyframe_that_was_never_seen_means_reading_again():
    feed, publication = Feed(), Publication("market")
    publication.keyframe(held(ADDRESSES[0], 1), 0)
    feed.state(publication.change(held(ADDRESSES[0], 2), 0))
    assert feed.update(update(publication, 2, 1)) is Action.RELOAD


def test_an_old_slot_is_no_news():
    feed, publication = Feed(), Publication("market")
    assert feed.update(update(publication, 5, 0)) is Action.COMMIT
    assert feed.update(update(publication, 4, 0)) is Action.NOTHING


def test_another_market_means_forgetting_everything():
    feed, publication = Feed(), Publication("market")
    assert feed.update(update(publication, 5, 0)) is Action.COMMIT
    assert feed.update(update(publication, 6, 0, market="two")) is Action.RESET


versions = st.tuples(st.integers(1, 5), st.integers(0, 3))


@given(st.lists(versions, min_size=1, max_size=12))
def test_an_older_state_never_replaces_a_newer_one(order: list[tuple[int, int]]):
    feed = Feed()
    newest = (0, -1)
    for slot, write_version in order:
        feed.state(Publication("market").keyframe(held(ADDRESSES[0], slot, write_version), 0))
        newest = max(newest, (slot, write_version))
        pool = feed.states.get(ADDRESSES[0])
        assert pool is not None
        assert (pool.slot, pool.write_version) == newest
    repeats = sum(version <= max(order[:index], default=(0, -1)) for index, version in enumerate(order))
    assert feed.older == repeats


@pytest.fixture
def tables(tmp_path: Path):
    made = Tables(tmp_path / "shm", REGISTRY, AMOUNTS, capacity=512, ring=64)
    yield made
    made.close()


def test_everything_is_visible_after_the_commit_and_a_snapshot_quotes_the_same(tables: Tables, tmp_path: Path):
    for pool in ENGINE_POOLS.values():
        write_pool(tables, pool.at(3, 1, 0), 300, AMOUNTS)
    tables.commit(3, 300)
    table, blobs = QuoteTable(tmp_path / "shm" / QUOTES_INTERNAL), PoolBlobTable(tmp_path / "shm" / POOLS)
    assert (table.slot, table.market_ns, len(table)) == (3, 300, len(ENGINE_POOLS) * 6)
    assert len(QuoteTable(tmp_path / "shm" / QUOTES_EXTERNAL)) == 0
    seen = 0
    for index in range(len(table)):
        entry = table.read(index)
        assert entry is not None
        address = table.name("pool", entry.pool)
        assert table.name("provider", entry.provider) == LOCAL
        blob = blobs.read(entry.pool)
        assert blob is not None
        assert (blob.slot, blob.observed_ns) == (3, 300)
        pool = Pool.from_snapshot(blob.data)
        assert pool.address == address
        a_to_b = table.name("token", entry.token_in) == pool.token_a
        assert table.name("pair", entry.pair) == REGISTRY.pair_name(pool.token_a, pool.token_b)
        if not entry.void:
            seen += 1
            assert entry.amount_out == pool.quote_in(a_to_b, entry.amount_in).amount_out
    assert seen > 200


def test_an_amount_that_a_pool_cannot_give_is_void(tmp_path: Path):
    pool = ENGINE_POOLS[ADDRESSES[0]]
    huge = Tables(tmp_path / "other", REGISTRY, (10**18,), capacity=64, ring=64)
    grid = write_pool(huge, pool, 0, (10**18,))
    huge.commit(1, 0)
    table = QuoteTable(tmp_path / "other" / QUOTES_INTERNAL)
    assert [row[3] for row in grid] == [0, 0]
    for index in range(len(grid)):
        entry = table.read(index)
        assert entry is not None
        assert entry.void
    huge.close()


def test_a_forgotten_pool_has_no_snapshot_and_only_void_quotes(tables: Tables, tmp_path: Path):
    pool = ENGINE_POOLS[ADDRESSES[0]]
    write_pool(tables, pool, 0, AMOUNTS)
    tables.commit(1, 0)
    tables.forget(pool.address, 2, 100)
    tables.commit(2, 100)
    table = QuoteTable(tmp_path / "shm" / QUOTES_INTERNAL)
    pool_id = table.id("pool", pool.address)
    assert pool_id is not None
    assert PoolBlobTable(tmp_path / "shm" / POOLS).read(pool_id) is None
    entries = [table.read(index) for index in range(len(table))]
    assert entries
    assert all(entry is not None and entry.void for entry in entries)


def test_snapshots_of_an_earlier_market_do_not_hold_back_a_new_one(tmp_path: Path):
    pool = ENGINE_POOLS[ADDRESSES[0]]
    for slot in (1000, 1):
        tables = Tables(tmp_path / "shm", REGISTRY, AMOUNTS, capacity=64, ring=64)
        write_pool(tables, pool.at(slot, 1, 0), slot, AMOUNTS)
        tables.commit(slot, slot)
        tables.close()
        del tables  # the lock goes with the process, or here with the object
    table = QuoteTable(tmp_path / "shm" / QUOTES_INTERNAL)
    pool_id = table.id("pool", pool.address)
    assert pool_id is not None
    blob = PoolBlobTable(tmp_path / "shm" / POOLS).read(pool_id)
    assert blob is not None
    assert blob.slot == table.slot == 1


def test_a_full_table_says_so(tmp_path: Path):
    tables = Tables(tmp_path / "shm", REGISTRY, AMOUNTS, capacity=16, ring=64)

    def fill() -> None:
        for pool in ENGINE_POOLS.values():
            write_pool(tables, pool, 0, AMOUNTS)

    with pytest.raises(SharedMemoryFull):
        fill()
    tables.close()


def test_pool_states_of_every_venue_survive_the_wire():
    publication = Publication("market")
    for address in ADDRESSES:
        message = publication.keyframe(held(address, 1), 0)
        assert PoolState.decode(message.encode()) == message
