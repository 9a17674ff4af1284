"""What is asked and what is answered, whichever way it came: requests in, answers out, nothing of any transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.ids import deterministic_id
from pipeline.messages import (
    AskedPair,
    PairQuotes,
    PoolAnswer,
    PoolQuotes,
    PoolRequest,
    Problem,
    QuoteAnswer,
    QuoteRequest,
)
from workers.quote_core.desk import Asked, Desk, NotUnderstood, refused
from workers.quote_core.parts import to_messages

TURN_NS = 5_000_000
"""A request of many pairs lets others have the event loop after so long."""
NOT_READY = "the quote core has not seen a market yet; ask again in a second"


@dataclass(slots=True)
class ClerkFigures:
    """What happened since the start."""

    requests: int = 0
    problems: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Clerk:
    """Answers requests from the desk."""

    desk: Desk
    producer: str
    wall_ns: Callable[[], int]
    max_pairs: int
    max_waiting: int
    figures: ClerkFigures = field(default_factory=ClerkFigures)
    _waiting: int = 0

    def at_once(self, request: QuoteRequest) -> bool:
        """Tell whether a request can be answered without waiting for anything."""
        return not request.fresh_external and len(request.pairs) <= 4

    def quotes_now(self, request: QuoteRequest) -> QuoteAnswer:
        """Answer a request of few pairs from what is known now."""
        if (problem := self._refuse(request)) is not None:
            return problem
        return self._answer(request, [self._pair(asked, paired=request.paired) for asked in request.pairs])

    async def quotes(self, request: QuoteRequest) -> QuoteAnswer:
        """Answer any request."""
        if (problem := self._refuse(request)) is not None:
            return problem
        fresh = request.fresh_external and self._waiting + len(request.pairs) <= self.max_waiting
        if fresh:
            self._waiting += len(request.pairs)
            try:
                each = (self._fresh(asked, paired=request.paired) for asked in request.pairs)
                return self._answer(request, await asyncio.gather(*each))
            finally:
                self._waiting -= len(request.pairs)
        answers = []
        began = time.monotonic_ns()
        for asked in request.pairs:
            answers.append(self._pair(asked, paired=request.paired))
            if time.monotonic_ns() - began > TURN_NS:
                await asyncio.sleep(0)
                began = time.monotonic_ns()
        return self._answer(request, answers)

    def pool(self, request: PoolRequest) -> PoolAnswer:
        """Answer what a pool gives for every amount of the grid."""
        self.figures.requests += 1
        aggregator = self.desk.aggregator()
        if aggregator is None or not self.desk.ready:
            return self._no_pool(request, Problem.NOT_READY, NOT_READY)
        known = aggregator.book.pools.get(request.pool)
        if known is None:
            words = f"no pool {request.pool[:64]!r} is quoted here; `pipeline pools list` shows those that are"
            return self._no_pool(request, Problem.UNKNOWN_POOL, words)
        # As the parts of the quote core tell it to each other, and as it was last confirmed.
        held = replace(known.held, confirmed_ns=known.confirmed_ns)
        state = to_messages(held, producer=self.producer, now_ns=self.wall_ns())[0]
        assert isinstance(state, PoolQuotes)
        pool = held.pool
        return PoolAnswer(
            id=deterministic_id("pool-answer", request.id, pool.address, pool.slot, pool.write_version),
            correlation_id=request.id,
            causation_id=request.id,
            created_ns=self.wall_ns(),
            producer=self.producer,
            pools=[state],
        )

    def understand(self, pairs: Sequence[AskedPair], *, paired: bool) -> list[Asked] | NotUnderstood:
        """Return what a subscription asks for, or why not all of it can be served."""
        if len(pairs) > self.max_pairs:
            return NotUnderstood(Problem.TOO_MANY, f"{len(pairs)} pairs; at most {self.max_pairs} at once")
        found = []
        for asked in pairs:
            understood = self.desk.understand(asked, paired=paired)
            if isinstance(understood, NotUnderstood):
                return understood
            found.append(understood)
        return found

    def count(self, problem: Problem | int) -> None:
        """Count what a request met with."""
        name = Problem(problem).name.lower()
        self.figures.problems[name] = self.figures.problems.get(name, 0) + 1

    def bad(self, request_id: str, words: str) -> QuoteAnswer:
        """Answer a request that cannot be read."""
        self.figures.requests += 1
        return self._problem(request_id, Problem.BAD_REQUEST, words)

    def _pair(self, asked: AskedPair, *, paired: bool) -> PairQuotes:
        understood = self.desk.understand(asked, paired=paired)
        if isinstance(understood, NotUnderstood):
            return refused(asked, understood)
        return self.desk.answer(understood)

    async def _fresh(self, asked: AskedPair, *, paired: bool) -> PairQuotes:
        understood = self.desk.understand(asked, paired=paired)
        if isinstance(understood, NotUnderstood):
            return refused(asked, understood)
        return await self.desk.fresh(understood)

    def _refuse(self, request: QuoteRequest) -> QuoteAnswer | None:
        self.figures.requests += 1
        if not request.pairs:
            words = 'no pair; ask for example {"pair": "SOL/USDC", "amount": "1000000000"}'
            return self._problem(request.id, Problem.BAD_REQUEST, words)
        if len(request.pairs) > self.max_pairs:
            words = f"{len(request.pairs)} pairs; ask for at most {self.max_pairs} at once"
            return self._problem(request.id, Problem.TOO_MANY, words)
        if not self.desk.ready:
            return self._problem(request.id, Problem.NOT_READY, NOT_READY)
        return None

    def _answer(self, request: QuoteRequest, pairs: Sequence[PairQuotes]) -> QuoteAnswer:
        aggregator = self.desk.aggregator()
        assert aggregator is not None, "nothing is answered before there is one"
        # One pair's problem is the request's; among many it stands at its pair.
        problem, detail = (pairs[0].problem, pairs[0].detail) if len(pairs) == 1 else (Problem.NONE, "")
        if problem:
            self.count(problem)
        return QuoteAnswer(
            correlation_id=request.id,
            causation_id=request.id,
            created_ns=self.wall_ns(),
            producer=self.producer,
            problem=problem,
            detail=detail,
            slot=aggregator.book.slot,
            market_ns=aggregator.now_ns(),
            pairs=pairs,
        )

    def _problem(self, request_id: str, problem: Problem, words: str) -> QuoteAnswer:
        self.count(problem)
        return QuoteAnswer(
            correlation_id=request_id,
            causation_id=request_id,
            created_ns=self.wall_ns(),
            producer=self.producer,
            problem=problem,
            detail=words,
        )

    def _no_pool(self, request: PoolRequest, problem: Problem, words: str) -> PoolAnswer:
        self.count(problem)
        return PoolAnswer(
            correlation_id=request.id,
            causation_id=request.id,
            created_ns=self.wall_ns(),
            producer=self.producer,
            problem=problem,
            detail=words,
        )
