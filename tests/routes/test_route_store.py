"""The route store: quotes never wait for it, every store fails alone, and nothing is kept under another's id."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from markets.routes import Route, RouteRefused, Step
from pipeline.config import load_config
from pipeline.errors import UsageFailure
from workers.quote_core.route_places import RedisRoutes, SqlRoutes, key_of, open_places
from workers.quote_core.route_store import RouteStore, Store, StoreFailed, route_metrics

pytest_plugins = ["tests.auditor.conftest"]


def route(number: int, venue: str = "v") -> Route:
    return Route((Step(f"pool-{number}", venue, "A", "B"), Step("", "w", "B", "C")))


class Broken:
    """A store that fails, or never answers."""

    name = "broken"

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs
        self.works = False
        self.attempts = 0
        self.there: dict[int, Route] = {}

    async def write(self, routes: Sequence[Route], now_ns: int) -> list[int]:
        self.attempts += 1
        await self._fail()
        self.there |= {each.route_id: each for each in routes}
        return []

    async def read(self, route_id: int) -> Route | None:
        await self._fail()
        return self.there.get(route_id)

    async def _fail(self) -> None:
        if self.works:
            return
        if self.hangs:
            await asyncio.sleep(60)
        raise StoreFailed("down")

    async def close(self) -> None:
        pass


@asynccontextmanager
async def store(*stores: Store, timeout_s: float = 5.0) -> AsyncIterator[RouteStore]:
    found = RouteStore(stores, time.time_ns, capacity=64, timeout_s=timeout_s)
    async with running(found):
        yield found


@asynccontextmanager
async def running(found: RouteStore) -> AsyncIterator[None]:
    task = asyncio.create_task(found.run())
    await asyncio.sleep(0)  # a task that is cancelled before it began would never write
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: object, what: str) -> None:
    assert callable(condition)
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


async def test_routes_are_kept_for_good(url: str) -> None:
    async with store(SqlRoutes(url)) as first:
        ids = [first.remember(route(number)) for number in range(300)]
        assert first.remember(route(0)) == ids[0]
    assert first.figures()["sql"].written == 300
    async with store(SqlRoutes(url)) as second:
        assert await second.find(ids[7]) == route(7)
        assert await second.find(ids[7]) == route(7)
        assert second.figures()["sql"].hits == 1, "the second time it is held"
        assert await second.find(1) is None
        assert second.figures()["sql"].misses == 1
        reads = next(family for family in route_metrics(second) if family.name == "pipeline_routes_reads")
        assert {tuple(sample.labels.values()): sample.value for sample in reads.samples} == {
            ("process", "yes"): 1,
            ("process", "no"): 2,
            ("sql", "yes"): 1,
            ("sql", "no"): 1,
        }
        second.remember(route(8))  # not held, but there already
    assert second.collisions == 0


async def test_an_id_that_the_database_gave_to_another_is_refused(url: str) -> None:
    held, other = route(1), route(2)
    async with store(SqlRoutes(url)) as first:
        first.remember(held)
    other.__dict__["route_id"] = held.route_id  # two routes with one id
    async with store(SqlRoutes(url)) as second:
        second.remember(other)
        await until(lambda: second.collisions == 1, "the collision was not noticed")
        with pytest.raises(RouteRefused, match="another route in sql"):
            second.remember(other)
        assert await second.find(held.route_id) == held


async def test_two_writers_of_the_same_routes(url: str) -> None:
    async with store(SqlRoutes(url)) as first, store(SqlRoutes(url)) as second:
        for number in range(100):
            first.remember(route(number))
            second.remember(route(99 - number))
    assert first.figures()["sql"].written == second.figures()["sql"].written == 100
    assert first.collisions == second.collisions == 0


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_dead_store_costs_only_itself(tmp_path: Path, hangs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.quote_core.route_store.FIRST_WAIT_S", 0.02)
    dead = Broken(hangs=hangs)
    async with store(dead, SqlRoutes(f"sqlite:///{tmp_path}/r.sqlite3"), timeout_s=0.2) as kept:
        began = time.perf_counter()
        ids = [kept.remember(route(number)) for number in range(100)]
        assert time.perf_counter() - began < 2, "remembering waited for a store"
        await until(lambda: kept.figures()["sql"].written == 100, "the other store did not get its routes")
        await until(lambda: kept.figures()["broken"].failures >= 2, "the dead store was not tried again")
        assert kept.figures()["broken"].error
        kept.book.forget(ids[0])
        assert await kept.find(ids[0]) == route(0)
        dead.works = True
        await until(lambda: len(dead.there) == 100, "what was pending was not written when it came back")
        assert kept.figures()["broken"].error == ""


async def test_what_a_dead_store_is_owed_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.quote_core.route_store.MAX_PENDING", 10)
    kept = RouteStore([Broken()], time.time_ns, capacity=64)
    for number in range(15):
        kept.remember(route(number))
    assert kept.pending() == {"broken": 10}
    assert kept.figures()["broken"].dropped == 5


async def test_a_database_that_cannot_be_opened_fails_without_its_password() -> None:
    words: list[str] = []
    address = "postgresql://someone:secret-word@127.0.0.1:1/none"
    kept = RouteStore([SqlRoutes(address)], time.time_ns, capacity=16, log_error=words.append)
    async with running(kept):
        kept.remember(route(1))
        await until(lambda: kept.figures()["sql"].failures, "it did not fail")
    assert words
    assert "secret-word" not in "".join(words) + kept.figures()["sql"].error


def test_the_configuration_decides(tmp_path: Path) -> None:
    def places(**more: str) -> list[str]:
        return [
            place.name for place in open_places(load_config({"worker.data_dir": str(tmp_path), **more}, environment={}))
        ]

    assert places() == ["sql"]
    assert places(**{"routes.redis_url": "redis://127.0.0.1:1/0"}) == ["redis", "sql"]
    with pytest.raises(UsageFailure, match="is no address"):
        places(**{"routes.redis_url": "http://nowhere"})


async def test_a_store_can_be_run_again(tmp_path: Path) -> None:
    kept = RouteStore([SqlRoutes(f"sqlite:///{tmp_path}/r.sqlite3")], time.time_ns, capacity=16)
    for number in range(2):
        async with running(kept):
            kept.remember(route(number))
            await until(lambda: kept.pending() == {"sql": 0}, "not written")
    assert kept.figures()["sql"].written == 2


@pytest.fixture(scope="module")
def redis() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis server of our own."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("Redis is not installed: no redis-server on PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield f"redis://127.0.0.1:{port}/0", process
    process.kill()
    process.wait()


async def test_routes_are_hot_in_redis(redis: tuple[str, object]) -> None:
    url, _ = redis
    async with store(RedisRoutes(url, "one", 60)) as first:
        ids = [first.remember(route(number)) for number in range(10)]
    async with store(RedisRoutes(url, "one", 60)) as second:
        assert await second.find(ids[3]) == route(3)
    async with store(RedisRoutes(url, "two", 60)) as elsewhere:
        assert await elsewhere.find(ids[3]) is None, "another pipeline's routes are not ours"


async def test_what_others_wrote_to_redis_is_not_believed(redis: tuple[str, object]) -> None:
    from redis.asyncio import Redis

    url, _ = redis
    ids = [route(number).route_id for number in range(20, 24)]
    client = Redis.from_url(url)
    for route_id, text in zip(ids, (b"\xff\xfe", b"[]", b'[["a","b","c",1]]', route(99).to_text()), strict=True):
        await client.set(f"one:route:{key_of(route_id)}", text)
    await client.rpush(f"one:route:{key_of(30)}", "a list")
    await client.aclose()
    async with store(RedisRoutes(url, "one", 60)) as kept:
        for route_id in [*ids, 30]:
            assert await kept.find(route_id) is None
        kept.remember(route(20))
        await until(lambda: kept.collisions == 1, "the foreign text was overwritten or not noticed")


async def test_a_redis_that_dies_costs_only_itself(
    redis: tuple[str, subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.quote_core.route_store.FIRST_WAIT_S", 0.02)
    url, process = redis
    async with store(RedisRoutes(url, "one", 60), SqlRoutes(f"sqlite:///{tmp_path}/r.sqlite3"), timeout_s=0.5) as kept:
        first = kept.remember(route(50))
        await until(lambda: kept.pending() == {"redis": 0, "sql": 0}, "not written")
        process.kill()
        process.wait()
        second = kept.remember(route(51))
        await until(lambda: kept.figures()["redis"].failures, "its death was not noticed")
        await until(lambda: kept.pending()["sql"] == 0, "the database did not get the route")
        for route_id in (first, second):
            kept.book.forget(route_id)
            assert await kept.find(route_id) is not None
        assert kept.pending()["redis"] == 1
