"""The places that keep routes: the SQL database and Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Engine, Integer, MetaData, String, Table, Text, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from markets.routes import Route, RouteRefused
from pipeline.config import Config
from pipeline.errors import Failure, UsageFailure
from pipeline.ledger.engine import LedgerError, first_line, open_engine
from workers.quote_core.route_store import Store, StoreFailed

if TYPE_CHECKING:
    from redis.asyncio import Redis

METADATA = MetaData()
ROUTES = Table(
    "routes",
    METADATA,
    # 16 hex digits: the databases have no unsigned 64-bit integers.
    Column("id", String(16), primary_key=True),
    Column("hops", Integer, nullable=False),
    Column("token_in", Text, nullable=False),
    Column("token_out", Text, nullable=False),
    # JSON: a list of [pool, venue, token_in, token_out].
    Column("steps", Text, nullable=False),
    # Wall-clock ns.
    Column("first_ns", BigInteger, nullable=False),
)


def open_places(config: Config) -> list[Store]:
    """Return the places that the configuration names, in the order they are asked; nothing is connected yet.

    Raises:
        UsageFailure: if Redis is configured, but its client is not installed or the address is none.
    """
    places: list[Store] = [SqlRoutes(config.database_url)]
    if url := config.routes.redis_url.get_secret_value():
        places.insert(0, RedisRoutes(url, f"pipeline:{config.shm.namespace}", config.routes.redis_keep_s))
    return places


def key_of(route_id: int) -> str:
    """Return an id as the stores write it."""
    return f"{route_id:016x}"


class SqlRoutes:
    """Table `routes` of the project's database. The calls block, so they run in a thread of their own."""

    name = "sql"

    def __init__(self, url: str) -> None:
        """Connect when there is something to write."""
        self._url = url
        self._engine: Engine | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def write(self, routes: Sequence[Route], now_ns: int) -> list[int]:
        """Write routes that are not there; return ids that belong to another route."""
        return await asyncio.get_running_loop().run_in_executor(self._own_thread(), self._write, routes, now_ns)

    async def read(self, route_id: int) -> Route | None:
        """Return the route of an id, or None."""
        return await asyncio.get_running_loop().run_in_executor(self._own_thread(), self._read, route_id)

    async def close(self) -> None:
        """Let go of the connections; a call that hangs is left to its end."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
        if self._engine is not None:
            self._engine.dispose()

    def _own_thread(self) -> ThreadPoolExecutor:
        # Of its own: one call that hangs must not take a thread from everybody else.
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="routes")
        return self._thread

    def _open(self) -> Engine:
        if self._engine is None:
            engine = open_engine(self._url)
            try:
                METADATA.create_all(engine)
            except BaseException:
                engine.dispose()
                raise
            self._engine = engine
        return self._engine

    def _write(self, routes: Sequence[Route], now_ns: int) -> list[int]:
        rows = {
            key_of(route.route_id): {
                "id": key_of(route.route_id),
                "hops": route.hops,
                "token_in": route.steps[0].token_in,
                "token_out": route.steps[-1].token_out,
                "steps": route.to_text(),
                "first_ns": now_ns,
            }
            for route in routes
        }
        try:
            engine = self._open()
            insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
            with engine.begin() as connection:
                # In the order of their keys: two writers that lock rows in different orders would wait for each other.
                connection.execute(insert(ROUTES).on_conflict_do_nothing(), [rows[key] for key in sorted(rows)])
                there = connection.execute(select(ROUTES.c.id, ROUTES.c.steps).where(ROUTES.c.id.in_(rows))).all()
        except (LedgerError, SQLAlchemyError, OSError) as error:
            raise StoreFailed(_words(error)) from None
        return [int(key, 16) for key, steps in there if steps != rows[key]["steps"]]

    def _read(self, route_id: int) -> Route | None:
        try:
            with self._open().begin() as connection:
                steps = connection.scalar(select(ROUTES.c.steps).where(ROUTES.c.id == key_of(route_id)))
        except (LedgerError, SQLAlchemyError, OSError) as error:
            raise StoreFailed(_words(error)) from None
        return _route(steps)


class RedisRoutes:
    """Keys `<prefix>:route:<id>` of a Redis server, let go of when not used for so long."""

    name = "redis"

    def __init__(self, url: str, prefix: str, keep_s: int) -> None:
        """Connect when there is something to write.

        Raises:
            UsageFailure: if the client library is not installed, or the address is none.
        """
        try:
            from redis.asyncio import Redis
            from redis.exceptions import RedisError
        except ImportError:
            raise UsageFailure(
                "routes.redis_url needs the Redis client", "pip install 'arbitrage-pipeline[redis]'"
            ) from None
        try:
            self._redis: Redis = Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)
        except ValueError:
            raise UsageFailure("routes.redis_url is no address", "write redis://host:6379/0") from None
        self._errors = (RedisError, OSError)
        self._prefix = prefix
        self._keep_s = keep_s

    def _key(self, route_id: int) -> str:
        return f"{self._prefix}:route:{key_of(route_id)}"

    async def write(self, routes: Sequence[Route], now_ns: int) -> list[int]:
        """Write routes that are not there; return ids that belong to another route."""
        del now_ns
        keys = [self._key(route.route_id) for route in routes]
        try:
            async with self._redis.pipeline(transaction=False) as batch:
                for key, route in zip(keys, routes, strict=True):
                    batch.set(key, route.to_text(), ex=self._keep_s, nx=True)
                    batch.getex(key, ex=self._keep_s)
                answers: list[Any] = await batch.execute()
        except self._errors as error:
            raise StoreFailed(_redis_words(error)) from None
        # A key of ours whose text cannot be read was written by somebody else: it is left alone like another route.
        there = [_decoded(answer) for answer in answers[1::2]]
        return [route.route_id for route, text in zip(routes, there, strict=True) if text != route.to_text()]

    async def read(self, route_id: int) -> Route | None:
        """Return the route of an id, or None."""
        try:
            answer = await self._redis.getex(self._key(route_id), ex=self._keep_s)
        except self._errors as error:
            raise StoreFailed(_redis_words(error)) from None
        return _route(_decoded(answer))

    async def close(self) -> None:
        """Close the connections."""
        with contextlib.suppress(*self._errors):
            await self._redis.aclose()


def _route(text: str | None) -> Route | None:
    """Return the route that a store holds; text that is none counts as nothing."""
    if text is None:
        return None
    try:
        return Route.from_text(text)
    except RouteRefused:
        return None


def _decoded(answer: object) -> str | None:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else None


def _words(error: Exception) -> str:
    if isinstance(error, Failure):
        return error.what
    return first_line(error) if isinstance(error, DBAPIError) else type(error).__name__


def _redis_words(error: Exception) -> str:
    """Return what kind of failure it was: the library's texts may hold the address."""
    return type(error).__name__
