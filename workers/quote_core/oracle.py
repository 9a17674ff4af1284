"""The part that asks oracles: Pyth's accounts on chain and Pyth's HTTP service, told on as OraclePrice messages.

Both are asked at the same time and fail apart. A price is told once: what was published no later than the last one
told of its token and source is left out.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.core import CounterMetricFamily, Metric

from markets.oracle.fair import NS_PER_S
from markets.oracle.hermes import Hermes, HermesFailed
from markets.oracle.pyth import OracleRefused, PriceUpdate, feed_name, parse_price_update
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.config import Config
from pipeline.context import WorkerContext
from pipeline.ids import deterministic_id
from pipeline.messages import OraclePrice

PYTH, HERMES = "pyth", "hermes"
SHARD = 0
MAX_WAIT_S = 60.0

Account = tuple[str, bytes]
"""Owner and data."""
ReadAccounts = Callable[[Sequence[str]], Awaitable[Sequence[Account | None]]]
"""Reads accounts from the chain, None for one that does not exist; raises whatever the RPC client raises."""


def feeds_of(config: Config) -> dict[str, str]:
    """Return the mint that each feed prices, by feed id."""
    return {feed_name(config.oracle.sol_feed): SOL_MINT, feed_name(config.oracle.usdc_feed): USDC_MINT}


def push_account(feed_id: str, program: str) -> str:
    """Return the address of the account that Pyth keeps up to date for a feed."""
    from solders.pubkey import Pubkey  # the only place here that needs it

    seeds = [struct.pack("<H", SHARD), bytes.fromhex(feed_name(feed_id))]
    return str(Pubkey.find_program_address(seeds, Pubkey.from_string(program))[0])


def to_message(update: PriceUpdate, *, token: str, source: str, producer: str, now_ns: int) -> OraclePrice:
    """Return a price as it is told to the aggregator."""
    return OraclePrice(
        id=deterministic_id("oracle", source, token, update.published_s, update.price, update.confidence),
        created_ns=now_ns,
        producer=producer,
        token=token,
        source=source,
        price=update.price,
        confidence=update.confidence,
        exponent=update.exponent,
        published_ns=update.published_s * NS_PER_S,
        slot=update.slot,
    )


@dataclass(slots=True)
class OracleFigures:
    """What happened since the start."""

    told: dict[str, int] = field(default_factory=dict)
    """By source."""
    failed: dict[tuple[str, str], int] = field(default_factory=dict)
    """By source and reason: calls that gave nothing, and prices that were refused."""


class OraclePart:
    """Asks again and again, and tells what is new."""

    def __init__(
        self,
        context: WorkerContext,
        emit: Callable[[OraclePrice], None],
        read_accounts: ReadAccounts | None = None,
    ) -> None:
        """Ask the chain if accounts can be read, and Hermes if it is configured."""
        self.context = context
        self.figures = OracleFigures()
        self._emit = emit
        self._settings = context.config.oracle
        self._feeds = feeds_of(context.config)
        self._read_accounts = read_accounts if self._settings.pyth_accounts else None
        self._told: dict[tuple[str, str], int] = {}
        if self.asks:
            context.health.collectors.append(self.collect)

    @property
    def asks(self) -> bool:
        """Tell whether there is anybody to ask."""
        return self._read_accounts is not None or bool(self._settings.hermes_url.get_secret_value())

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._read_accounts is not None:
                group.create_task(self._repeat(PYTH, self._accounts(self._read_accounts)), name="oracle-pyth")
            if self._settings.hermes_url.get_secret_value():
                group.create_task(self._hermes(), name="oracle-hermes")

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of asking."""
        told = CounterMetricFamily("pipeline_oracle_prices", "Prices told on, by source", labels=["source"])
        for source, count in sorted(self.figures.told.items()):
            told.add_metric([source], count)
        yield told
        failed = CounterMetricFamily(
            "pipeline_oracle_failures",
            "Calls and prices that gave nothing, by source and reason",
            labels=["source", "reason"],
        )
        for key, count in sorted(self.figures.failed.items()):
            failed.add_metric(list(key), count)
        yield failed

    async def _hermes(self) -> None:
        async with aiohttp.ClientSession(trust_env=True) as session:
            hermes = Hermes(
                session,
                self._settings.hermes_url.get_secret_value(),
                key=self._settings.hermes_key.get_secret_value(),
                timeout_s=self._settings.timeout_ms / 1000,
            )
            await self._repeat(HERMES, lambda: hermes.latest(self._feeds))

    def _accounts(self, read: ReadAccounts) -> Callable[[], Awaitable[Mapping[str, PriceUpdate | OracleRefused]]]:
        addresses = {feed: push_account(feed, self._settings.pyth_push_program) for feed in self._feeds}

        async def ask() -> Mapping[str, PriceUpdate | OracleRefused]:
            found: dict[str, PriceUpdate | OracleRefused] = {}
            accounts = await asyncio.wait_for(read(list(addresses.values())), self._settings.timeout_ms / 1000)
            for feed, account in zip(addresses, accounts, strict=True):
                if account is None:
                    found[feed] = OracleRefused("short_data", "no such account")
                    continue
                owner, data = account
                try:
                    found[feed] = parse_price_update(data, owner, feed_id=feed, programs=(self._settings.pyth_program,))
                except OracleRefused as refusal:
                    found[feed] = refusal
            return found

        return ask

    async def _repeat(
        self, source: str, ask: Callable[[], Awaitable[Mapping[str, PriceUpdate | OracleRefused]]]
    ) -> None:
        """Ask at the configured pace, and less often while it fails."""
        pace_s = self._settings.poll_ms / 1000
        wait_s = pace_s
        while True:
            try:
                answers = await ask()
            except HermesFailed as failure:
                wait_s = max(min(2 * wait_s, MAX_WAIT_S), failure.retry_after_s)
                self._failed(source, failure.reason, str(failure))
            except Exception as error:  # the failures of the RPC client are its own; none may end this part
                wait_s = min(2 * wait_s, MAX_WAIT_S)
                self._failed(source, "unreachable", type(error).__name__)
            else:
                wait_s = pace_s
                self._tell(source, answers)
            await asyncio.sleep(wait_s)

    def _tell(self, source: str, answers: Mapping[str, PriceUpdate | OracleRefused]) -> None:
        now_ns = self.context.clock()
        well = True
        for feed, token in self._feeds.items():
            answer = answers.get(feed)
            if not isinstance(answer, PriceUpdate):
                well = False
                reason = answer.reason if answer is not None else "bad_answer"
                self._failed(source, reason, str(answer) if answer is not None else "nothing about the feed")
                continue
            key = (source, token)
            if answer.published_s <= self._told.get(key, 0):
                continue
            self._told[key] = answer.published_s
            self.figures.told[source] = self.figures.told.get(source, 0) + 1
            self._emit(to_message(answer, token=token, source=source, producer=self.context.name, now_ns=now_ns))
        if well:
            self.context.health.recovered(cause=f"oracle-{source}")

    def _failed(self, source: str, reason: str, words: str) -> None:
        key = (source, reason)
        if key not in self.figures.failed:
            self.context.log.warning("an oracle gave no price", source=source, reason=reason, detail=words)
        self.figures.failed[key] = self.figures.failed.get(key, 0) + 1
        self.context.health.degraded(f"oracle {source}: {reason}", cause=f"oracle-{source}")
