"""The served half of `pipeline bench quotes`: rates and latencies of a real quote core, asked from this process.

The quote core is a worker process on a NATS server of its own; a slot with two changed pools reaches it ten times a
second, so what it remembers is dropped as it would be. Requests are sent at a fixed rate whether or not answers have
come. Every answer is decoded; those of one pool's state are computed again here, from this process's own pools.
The baseline is nats-py's own service endpoint (a task per request) that answers a constant of the same size.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import grpc
import uvloop

from bench.pipeline_stage import own_server, processor_time_s
from bench.report import Row, row
from localnet.market import offline_engine
from localnet.publication import HeldState, Publication
from markets.tokens import load_registry
from pipeline import run_files
from pipeline._core import Pool
from pipeline.bus import Bus
from pipeline.config import load_config
from pipeline.messages import AskedPair, QuoteAnswer, QuoteRequest
from pipeline.quotes_grpc import pb, pb_grpc
from pipeline.streams import reconcile

SECONDS = 6.0
PAIRED_PER_S, CACHED_PER_S, GRPC_PER_S = 1_000, 4_000, 500
P50_GOAL_MS, P99_GOAL_MS = 3.0, 8.0
SLOT_S = 0.1
IDLE_S = 2.0
S = 1_000_000_000
PATIENCE_S = 30.0
ENVIRONMENT = {
    "PIPELINE_TELEMETRY__HTTP_PORT_BASE": "0",
    "PIPELINE_TELEMETRY__LOG_LEVEL": "warning",
    "PIPELINE_EXTERNAL__ENABLED": "false",
}


@dataclass(slots=True)
class _Market:
    """The pools, told slot by slot, and every state they were in."""

    publication: Publication = field(default_factory=lambda: Publication("bench"))
    slot: int = 0
    pools: dict[str, Pool] = field(default_factory=lambda: dict(offline_engine(load_registry(), 1)[1]))
    history: dict[tuple[str, int], Pool] = field(default_factory=dict)

    async def tell(self, bus: Bus, addresses: list[str], amount: int = 0) -> None:
        """Publish a slot in which these pools changed."""
        self.slot += 1
        market_ns = 1_700_000_000 * S + self.slot * int(SLOT_S * S)
        for address in addresses:
            pool = self.pools[address].at(self.slot, 1, 0)
            if amount:
                pool = pool.swap(self.slot % 2 == 0, amount)[0]
            self.pools[address] = self.history[address, self.slot] = pool
            await bus.publish(self.publication.keyframe(HeldState(pool, self.slot, 1, market_ns), market_ns))
        await bus.publish(
            self.publication.slot(
                self.slot, market_ns, market_ns, market="bench", pools_changed=len(addresses), closing=False
            )
        )

    async def go_on(self, bus: Bus) -> None:
        """Tell a slot with two changed pools, again and again."""
        addresses = sorted(self.pools)
        turn = 0
        while True:
            await asyncio.sleep(SLOT_S)
            await self.tell(bus, [addresses[turn % len(addresses)], addresses[(turn + 7) % len(addresses)]], S // 100)
            turn += 1

    def checked(self, payload: bytes) -> bool:
        """Compute an answer again from the states it names; False where the pools were left out for taking too long."""
        answer = QuoteAnswer.decode(payload)
        for pair in answer.pairs:
            if pair.local_left_out:
                return False
            assert pair.forward, answer.detail
            for quote in (*pair.forward, *pair.reverse):
                pool = self.history[quote.pool, quote.slot]
                assert pool.quote_in(quote.token_in == pool.token_a, quote.amount_in).amount_out == quote.amount_out
        return bool(answer.pairs)


@dataclass(frozen=True, slots=True)
class _Measured:
    per_s: float
    p50_ms: float
    p99_ms: float
    core_us: float
    """Processor time of the quote core per request."""

    def of_which(self, share: float) -> _Measured:
        """Count only the answers that were whole."""
        return replace(self, per_s=self.per_s * share)


class _Client:
    """Sends requests at a fixed rate and notes when each was answered."""

    def __init__(self, bus: Bus, core: Callable[[], float]) -> None:
        self.bus = bus
        self._core = core
        self._sent: dict[bytes, int] = {}
        self._took: list[int] = []
        self.answers: list[bytes] = []

    async def open(self) -> None:
        await self.bus.client.subscribe_direct("_INBOX.bench.*", self._on_answer)

    def _on_answer(self, subject: bytes, _reply: bytes, payload: bytes, _headers: bytes | None) -> None:
        now = time.perf_counter_ns()
        self._took.append(now - self._sent.pop(subject))
        self.answers.append(payload)

    async def at_rate(self, subject: str, payload_of: Callable[[int], bytes], rate: int, seconds: float) -> _Measured:
        """Send at this rate for so long; all must be answered."""
        self._took, self.answers = [], []
        count, sent = int(rate * seconds), 0
        target, used = subject.encode(), self._core()
        began = time.perf_counter()
        while sent < count:
            due = min(count, int((time.perf_counter() - began) * rate) + 1)
            while sent < due:
                inbox, payload = b"_INBOX.bench.%d" % sent, payload_of(sent)
                self._sent[inbox] = time.perf_counter_ns()
                self.bus.client.send(b"PUB %b %b %d\r\n%b\r\n" % (target, inbox, len(payload), payload))
                sent += 1
            await asyncio.sleep(0.0005)
        deadline = time.monotonic() + PATIENCE_S
        while len(self._took) < count:
            assert time.monotonic() < deadline, f"{count - len(self._took)} of {count} requests were not answered"
            await asyncio.sleep(0.001)
        took_s = time.perf_counter() - began
        return _measured(self._took, count / took_s, (self._core() - used) / count * 1e6)


def _measured(took: list[int], per_s: float, core_us: float) -> _Measured:
    ordered = sorted(took)
    return _Measured(
        per_s, ordered[len(ordered) // 2] / 1e6, ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] / 1e6, core_us
    )


def measure(seconds: float = SECONDS) -> tuple[list[Row], list[str]]:
    """Measure, and return the rows and notes of the report."""
    with own_server(ENVIRONMENT) as (server, _shm):
        return uvloop.run(_measure(server.url, seconds))


async def _measure(url: str, seconds: float) -> tuple[list[Row], list[str]]:
    config = load_config()
    bus = await Bus.connect(config.nats, name="bench")
    await reconcile(bus.js)
    processes = [_launch("-c", "from pipeline.cli import main; main()", "worker", "quote_core")]
    market = _Market()
    going_on: asyncio.Task[None] | None = None
    try:
        await market.tell(bus, sorted(market.pools))
        size = await _ready(bus)
        processes.append(_launch("-m", "bench.quotes_served_baseline", url, str(size)))
        client = _Client(bus, lambda: processor_time_s(processes[0].pid))
        await client.open()
        await _answers(bus, "baseline.get")
        going_on = asyncio.create_task(market.go_on(bus))
        pairs = [pair.name for pair in load_registry().pairs]

        def paired(number: int) -> bytes:
            # Every amount is another one: nothing is remembered.
            asked = AskedPair(pair=pairs[number % len(pairs)], amount=S + number)
            return QuoteRequest(pairs=[asked], paired=True).encode()

        known = [QuoteRequest(pairs=[AskedPair(pair=pair, amount=S)]).encode() for pair in pairs]

        def remembered(number: int) -> bytes:
            return known[number % len(known)]

        await client.at_rate("quotes.get", paired, PAIRED_PER_S, 1.0)
        idle = processor_time_s(processes[0].pid)
        await asyncio.sleep(IDLE_S)
        idle = (processor_time_s(processes[0].pid) - idle) / IDLE_S
        both = await client.at_rate("quotes.get", paired, PAIRED_PER_S, seconds)
        both_whole = sum(map(market.checked, client.answers)) / len(client.answers)
        cached = await client.at_rate("quotes.get", remembered, CACHED_PER_S, seconds)
        cached_whole = sum(map(market.checked, client.answers)) / len(client.answers)
        theirs = await client.at_rate("baseline.get", remembered, CACHED_PER_S, seconds)
        over_grpc = await _grpc(run_files.read(config, "quotes-grpc"), pairs, seconds)
    finally:
        if going_on is not None:
            going_on.cancel()
        for process in processes:
            process.kill()
            process.wait()
        await bus.close(1.0)
    both, cached = both.of_which(both_whole), cached.of_which(cached_whole)
    return _rows(both, cached, theirs, over_grpc), [
        f"Processor time of the quote core: {both.core_us - idle * 1e6 / both.per_s:.0f} us per paired quote, "
        f"{cached.core_us - idle * 1e6 / cached.per_s:.0f} us per remembered one; for the market's {1 / SLOT_S:.0f} "
        f"slots/s alone {idle:.1%} of a core.\n",
        f"Answers with pools in them: {both_whole:.2%} paired, {cached_whole:.2%} remembered; each computed again.\n",
    ]


def _launch(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)


async def _answers(bus: Bus, subject: str) -> bytes:
    """Ask until somebody answers."""
    payload = QuoteRequest(pairs=[AskedPair(pair="SOL/USDC", amount=S)]).encode()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return bytes((await bus.client.request(subject, payload, timeout=1)).data)
        except Exception:
            assert time.monotonic() < deadline, f"nobody answers {subject}: see the messages above"
            await asyncio.sleep(0.05)


async def _ready(bus: Bus) -> int:
    """Wait for the first quote, and return the size of its answer."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        payload = await _answers(bus, "quotes.get")
        if not QuoteAnswer.decode(payload).problem:
            return len(payload)
        assert time.monotonic() < deadline, "the quote core does not quote"
        await asyncio.sleep(0.05)


async def _grpc(entry: run_files.RunFile | None, pairs: list[str], seconds: float) -> _Measured:
    """Ask over gRPC at a fixed rate."""
    assert entry is not None, "gRPC is not served"
    took: list[int] = []
    tasks: set[asyncio.Task[None]] = set()
    async with grpc.aio.insecure_channel(entry.url) as channel:
        stub = pb_grpc.QuotesStub(channel)

        async def one(number: int) -> None:
            began = time.perf_counter_ns()
            asked = pb.AskedPair(pair=pairs[number % len(pairs)], amount=S)
            reply = await stub.GetQuote(pb.GetQuoteRequest(pair=asked))
            assert reply.quotes.forward[0].amount_out > 0
            took.append(time.perf_counter_ns() - began)

        count, sent = int(GRPC_PER_S * seconds), 0
        began = time.perf_counter()
        while sent < count:
            due = min(count, int((time.perf_counter() - began) * GRPC_PER_S) + 1)
            while sent < due:
                task = asyncio.create_task(one(sent))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
            await asyncio.sleep(0.0005)
        await asyncio.gather(*tasks)
        spent_s = time.perf_counter() - began
    assert len(took) == count
    return _measured(took, count / spent_s, 0.0)


def _rows(both: _Measured, cached: _Measured, theirs: _Measured, over_grpc: _Measured) -> list[Row]:
    rows = []
    goals = f"p50 < {P50_GOAL_MS:g}, p99 < {P99_GOAL_MS:g} ms"
    for name, rate, ours, baseline in (
        ("paired quotes, none remembered, NATS", PAIRED_PER_S, both, None),
        ("remembered quotes, NATS", CACHED_PER_S, cached, theirs),
        ("remembered quotes, gRPC", GRPC_PER_S, over_grpc, None),
    ):
        goal = rate if over_grpc is not ours else None
        rows.append(
            row(
                *(f"{name}: answered", "/s", ours.per_s),
                goal=f"{rate:,} /s sustained" if goal else "",
                met=ours.per_s >= 0.98 * rate if goal else None,
                more_is_better=True,
            )
        )
        for word, value, limit, other in (
            ("p50", ours.p50_ms, P50_GOAL_MS, baseline.p50_ms if baseline else None),
            ("p99", ours.p99_ms, P99_GOAL_MS, baseline.p99_ms if baseline else None),
        ):
            against = "nats-py service, constant answer" if baseline else ""
            rows.append(
                row(f"{name}: {word} at {rate:,}/s", "ms", value, against, other, goal=goals, met=value < limit)
            )
    return rows
