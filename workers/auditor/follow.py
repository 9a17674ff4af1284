"""Follow a stream from the position in the books, in batches, each booked in one transaction with its new position."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from pipeline.bus import Bus, Delivery
from pipeline.bus.reader import read_raw
from pipeline.ledger import PositionMoved, Span
from pipeline.messages import InvalidMessage, Message, decode
from pipeline.tasks import end_tasks


@dataclass(frozen=True, slots=True)
class Item:
    """One message of the stream, or why it is none."""

    sequence: int
    subject: str
    payload: bytes
    message: Message | InvalidMessage


# (stream, when it was created) -> the sequence up to which it is booked.
Stored = Callable[[str, str], Awaitable[int]]
# Raises PositionMoved where the books do not stand at the beginning of the span.
Book = Callable[[list[Item], Span], Awaitable[None]]


async def stream_created(bus: Bus, stream: str) -> str:
    """Return when the stream was created: sequences of another creation mean something else."""
    info = await bus.js.stream_info(stream)
    return str(info.created)


async def follow(
    bus: Bus, stream: str, subject: str, stored: Stored, book: Book, *, batch: int, until: int | None = None
) -> None:
    """Book everything after the stored position, for ever or up to a sequence.

    Where somebody else moved the position (a rebuild, another auditor) it goes on from there.
    """
    while True:
        created = await stream_created(bus, stream)
        after = await stored(stream, created)
        if until is not None and after >= until:
            return
        reading = read_raw(bus, stream, subject, start_sequence=after + 1, follow=until is None)
        try:
            async with aclosing(_batches(reading, batch)) as batches:
                async for items in batches:
                    end = items[-1].sequence
                    await book(items, Span(created, after, end))
                    after = end
            if until is not None:
                # Between the last message of the subject and `until` stand other subjects, or nothing any more.
                await book([], Span(created, after, max(after, until)))
        except PositionMoved:
            continue


async def _batches(reading: AsyncIterator[tuple[Delivery, bytes]], size: int) -> AsyncGenerator[list[Item]]:
    """Yield what has arrived, at most `size` at a time, without waiting for more."""
    arrived: asyncio.Queue[Item | Exception | None] = asyncio.Queue(maxsize=2 * size)

    async def pump() -> None:
        try:
            async for delivery, payload in reading:
                await arrived.put(Item(delivery.sequence, delivery.subject, payload, _decoded(payload)))
        except Exception as error:
            await arrived.put(error)
        else:
            await arrived.put(None)

    pumping = asyncio.create_task(pump())
    try:
        while True:
            items: list[Item] = []
            found = await arrived.get()
            while isinstance(found, Item):
                items.append(found)
                if len(items) >= size or arrived.empty():
                    break
                found = arrived.get_nowait()
            if items:
                yield items
            if isinstance(found, Exception):
                raise found
            if found is None:
                return
    finally:
        await end_tasks([pumping])


def _decoded(payload: bytes) -> Message | InvalidMessage:
    try:
        return decode(payload)
    except InvalidMessage as error:
        return error
