"""The aggregator's ear on MARKET_DATA, where the other parts run in other processes."""

from __future__ import annotations

import asyncio

from pipeline._core import PoolRefused
from pipeline.context import WorkerContext
from pipeline.errors import Failure
from pipeline.messages import InvalidMessage, Message, PoolQuotes, QuotesSettled
from workers.quote_core.parts import Emit, from_message

SUBJECTS = (
    *("market_data.pool_quotes.>", "market_data.oracle.>", "market_data.external_quote.>", "market_data.settled"),
)
LOOK_S = 0.25
READ_AGAIN_S = 0.2


class RemoteSource:
    """What the local and the external part publish, taken in order; what was missed is read from the stream."""

    def __init__(self, context: WorkerContext, emit: Emit) -> None:
        """Begin with nothing heard."""
        self.context = context
        self.emit = emit
        self.reloads = 0
        self._heard = 0
        self._waiting: list[Message] = []
        self._reading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Listen, catch up with what was said before, and stay."""
        bus = self.context.bus
        self._read()
        for subject in SUBJECTS:
            await bus.watch(subject, self._on_message)
        reconnects = bus.counters.reconnects
        try:
            while True:
                if bus.counters.reconnects != reconnects:
                    reconnects = bus.counters.reconnects
                    self._read()
                await asyncio.sleep(LOOK_S)
        finally:
            if self._reading is not None:
                self._reading.cancel()

    def replay(self) -> None:
        """Tell everything again."""
        self._read()

    def _on_message(self, message: Message, _delivery: object) -> None:
        if self._reading is not None:
            self._waiting.append(message)
            return
        if isinstance(message, PoolQuotes):
            self._heard += 1
        elif isinstance(message, QuotesSettled):
            heard, self._heard = self._heard, 0
            if heard < message.pools:
                self.context.log.warning("pool quotes were missed, reading all again", slot=message.slot)
                self._waiting.append(message)
                self._read()
                return
        self._tell(message)

    def _tell(self, message: Message) -> None:
        try:
            value = from_message(message)
        except (PoolRefused, InvalidMessage) as error:
            self.context.log.warning("pool quotes refused", error=str(error))
            return
        if value is not None:
            self.emit(value)

    def _read(self) -> None:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_all(), name="read")

    async def _read_all(self) -> None:
        bus = self.context.bus
        while True:
            try:
                read = [message for subject in SUBJECTS for _subject, message in await bus.last(subject)]
                break
            except Failure as failure:
                self.context.health.degraded(f"cannot read MARKET_DATA: {failure}", cause="reload")
                await asyncio.sleep(READ_AGAIN_S)
        self.context.health.recovered(cause="reload")
        self.reloads += 1
        self._reading = None
        self._heard = 0
        waiting, self._waiting = self._waiting, []
        for message in [*read, *waiting]:
            if not isinstance(message, InvalidMessage):
                self._tell(message)
