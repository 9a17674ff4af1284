"""The file of found pools: whole or not at all, and used only where it fits."""

import json
import os
from pathlib import Path

import pytest

from markets.solana.discovery import Limits
from markets.solana.pool_cache import CacheRefused, fingerprint, load, save
from markets.solana.pool_finder import PoolFinder
from markets.tokens import load_registry
from pipeline.messages import Protocol
from tests.discovery.chains import GENESIS, REGISTRY, FakeChain, address
from tests.venues.samples import NOW

V4 = Protocol.RAYDIUM_AMM_V4


class Clock:
    def __init__(self) -> None:
        self.now_ns = NOW * 10**9

    def __call__(self) -> int:
        return self.now_ns


def finder(chain: FakeChain, path: Path, clock: Clock, limits: Limits | None = None) -> PoolFinder:
    return PoolFinder(chain, REGISTRY, limits or Limits(), path, refresh_s=900, clock=clock)


@pytest.fixture
def chain() -> FakeChain:
    chain = FakeChain()
    chain.add_pool(1, V4)
    chain.add_pool(10, V4, status=1)
    return chain


async def test_a_start_uses_a_young_file_and_asks_nothing(chain: FakeChain, tmp_path: Path):
    path, clock = tmp_path / "deep" / "pools.json", Clock()
    first = await finder(chain, path, clock).begin(GENESIS)
    assert not first.from_file
    assert [pool.address for pool in first.changes.added] == [address(1)]
    chain.asked.clear()
    clock.now_ns += 899 * 10**9
    again = finder(chain, path, clock)
    second = await again.begin(GENESIS)
    assert second.from_file
    assert second.found == first.found
    assert second.changes == first.changes
    assert not chain.asked
    assert again.due_in_s == pytest.approx(1)


@pytest.mark.parametrize("seconds", [901, -5])
async def test_a_file_that_is_old_or_from_the_future_is_not_relied_on(chain: FakeChain, tmp_path: Path, seconds: int):
    path, clock = tmp_path / "pools.json", Clock()
    await finder(chain, path, clock).begin(GENESIS)
    clock.now_ns += seconds * 10**9
    del chain.accounts[address(1)]
    looked = await finder(chain, path, clock).begin(GENESIS)
    assert not looked.from_file
    assert looked.found.pools == ()


async def test_an_old_file_still_tells_what_a_question_without_an_answer_keeps(chain: FakeChain, tmp_path: Path):
    path, clock = tmp_path / "pools.json", Clock()
    await finder(chain, path, clock).begin(GENESIS)
    written = path.read_bytes()
    clock.now_ns += 10**15
    chain.broken = {program for program in chain.asked if program != "vaults"}
    looked = await finder(chain, path, clock).begin(GENESIS)
    assert [pool.address for pool in looked.changes.added] == [address(1)]
    assert looked.found.failed
    assert "nobody answered" in looked.notes[0]
    assert path.read_bytes() == written


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "corrupted"),
        (b"\xff\xfe", "corrupted"),
        (b"[]", "corrupted"),
        (b"{}", "corrupted"),
        (b"[" * 100_000, "corrupted"),
        (b'{"format": "pipeline-pools", "version": 2}', "version"),
        (b'{"format": "pipeline-pools", "version": 1, "chain": "other"}', "other_chain"),
    ],
)
async def test_a_damaged_file_is_refused_said_and_written_anew(
    chain: FakeChain, tmp_path: Path, content: bytes, reason: str
):
    path, clock = tmp_path / "pools.json", Clock()
    path.write_bytes(content)
    with pytest.raises(CacheRefused) as caught:
        load(path, chain=GENESIS)
    assert caught.value.reason == reason
    looked = await finder(chain, path, clock).begin(GENESIS)
    assert len(looked.notes) == 1
    assert "looking anew" in looked.notes[0]
    assert load(path, chain=GENESIS).pools == looked.found.pools


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pools", None),
        ("pools", [{"address": "x"}]),
        ("slot", "many"),
        ("reasons", []),
        ("left_out", [1]),
        ("failed", 7),
    ],
)
async def test_every_part_of_the_file_is_checked(chain: FakeChain, tmp_path: Path, field: str, value: object):
    path = tmp_path / "pools.json"
    await finder(chain, path, Clock()).begin(GENESIS)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, field: value}))
    with pytest.raises(CacheRefused, match="damaged"):
        load(path)


@pytest.mark.parametrize("change", [{"address": "0OIl"}, {"protocol": 99}, {"held_a": -1}, {"held_b": 1.5}])
async def test_every_pool_of_the_file_is_checked(chain: FakeChain, tmp_path: Path, change: dict[str, object]):
    path = tmp_path / "pools.json"
    await finder(chain, path, Clock()).begin(GENESIS)
    document = json.loads(path.read_text())
    document["pools"][0] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(CacheRefused, match="damaged"):
        load(path)


async def test_other_limits_are_another_list(chain: FakeChain, tmp_path: Path):
    path, clock = tmp_path / "pools.json", Clock()
    await finder(chain, path, clock).begin(GENESIS)
    looked = await finder(chain, path, clock, Limits(min_sol=10**15)).begin(GENESIS)
    assert not looked.from_file
    assert looked.found.reasons["too_small"] == 1
    assert fingerprint(REGISTRY, Limits()) == fingerprint(REGISTRY, Limits(parallel=9))
    assert fingerprint(REGISTRY, Limits()) != fingerprint(load_registry(), Limits())


async def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(chain: FakeChain, tmp_path: Path, monkeypatch):
    path, clock = tmp_path / "pools.json", Clock()
    looked = await finder(chain, path, clock).begin(GENESIS)
    written = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, looked.found, chain=GENESIS, asked="x")
    assert path.read_bytes() == written
    assert [entry.name for entry in tmp_path.iterdir()] == ["pools.json"]
    clock.now_ns += 10**13
    again = await finder(chain, path, clock).begin(GENESIS)
    assert again.found.pools  # what cannot be written can be used all the same
    assert "cannot be written" in again.notes[0]


async def test_a_look_with_questions_unanswered_is_repeated_sooner(chain: FakeChain, tmp_path: Path):
    clock = Clock()
    one = finder(chain, tmp_path / "pools.json", clock)
    assert one.due_in_s == 0
    await one.begin(GENESIS)
    assert one.due_in_s == pytest.approx(900)
    chain.broken = {chain.asked[0]}
    await one.look(GENESIS)
    assert one.due_in_s == pytest.approx(225)
    clock.now_ns += 10**15
    assert one.due_in_s == 0
