"""What an executor meets, without a server: claims, a stream, a venue, and executors that come and go."""

from __future__ import annotations

from typing import Any

from pipeline.messages import ExecutionSubmitted, PermitState
from pipeline.permit import Allowed, Refused
from workers.executor.execution import Execution, Ports

from .plans import Bucket, Chain, FakeVenue, Stream

STEPS = ("received", "prepared", "claimed", "gated", "submitted", "landed", "settled", "published")


class Died(BaseException):
    """The process ends here."""


class World:
    """What outlives an executor, and the executors that come and go in front of it."""

    def __init__(self, *, real_venue: bool = False) -> None:
        self.bucket, self.stream = Bucket(), Stream()
        self.chain = Chain() if real_venue else None
        self.verdict: Allowed | Refused = Allowed(7, PermitState.ACTIVE)
        self.known = False
        self.told: list[ExecutionSubmitted] = []
        self.lives = 0
        self.start()

    def start(self) -> None:
        """Replace the executor: what it held in memory is gone."""
        self.lives += 1
        self.venue = FakeVenue(self.chain)
        ports = Ports(
            claims=self.bucket,
            gate=lambda: self.verdict,
            publish=self.stream.publish,
            submitted=self.told.append,
            stored=self._stored,
            wall_ns=lambda: 1_000,
        )
        self.execution = Execution(self.venue, ports, producer="executor", owner=f"executor-{self.lives}")

    async def _stored(self, result: Any, settled_ns: int) -> bool:
        return self.known and result.id in self.stream.results

    async def deliver(self, plan: Any, *, again: bool = False) -> None:
        await self.execution.take(plan, 500, again=again)
