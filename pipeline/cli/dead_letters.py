"""`pipeline dead-letters list|show|replay`."""

from __future__ import annotations

import asyncio
import json as json_format
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_line, print_table, shown_time

if TYPE_CHECKING:
    from pipeline.bus import Bus
    from pipeline.messages import DeadLetter

app = typer.Typer(no_args_is_help=True, help="List, show and replay messages that were given up.")

Result = TypeVar("Result")
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id, or how it begins.", show_default=False)]


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List what was given up and is still reported in METRICS (24 h), oldest first."""

    async def run(bus: Bus) -> list[DeadLetter]:
        from pipeline.dead_letters import list_letters

        return await list_letters(bus)

    letters = _with_bus(run)
    if json:
        print_json([letter.to_dict() for letter in letters])
        return
    if not letters:
        print_line("no dead letters")
        return
    print_table(
        "dead letters",
        ("id", "at", "stream", "sequence", "consumer", "reason", "attempts", "detail"),
        [
            (
                *(letter.id[:12], shown_time(letter.created_ns), letter.stream, letter.stream_sequence or "live"),
                *(letter.consumer, letter.reason, letter.attempts, letter.detail[:80]),
            )
            for letter in letters
        ],
        right=("sequence", "attempts"),
    )


@app.command()
def show(letter_id: IdArgument, json: JsonOption = False) -> None:
    """Show one dead letter and the message it is about."""

    async def run(bus: Bus) -> dict[str, Any]:
        from pipeline.dead_letters import fetch_original, find_letter
        from pipeline.errors import Failure
        from pipeline.messages import InvalidMessage

        letter = await find_letter(bus, letter_id)
        try:
            original = await fetch_original(bus, letter)
        except Failure as failure:
            return {"dead_letter": letter.to_dict(), "original": None, "why_not": str(failure)}
        message = original.message
        found: dict[str, Any] = {
            "subject": original.subject,
            "stored_at": str(original.stored_at or ""),
            "headers": original.headers,
        }
        if isinstance(message, InvalidMessage):
            found |= {"invalid": str(message), "payload_hex": original.payload[:512].hex()}
        else:
            found |= {"type": type(message).__name__, "message": message.to_dict()}
        return {"dead_letter": letter.to_dict(), "original": found, "why_not": ""}

    shown = _with_bus(run)
    if json:
        print_json(shown)
        return
    for name, value in shown["dead_letter"].items():
        print_line(f"{name:16} {shown_time(value) if name == 'created_ns' else value}")
    print_line("")
    if shown["original"] is None:
        print_line(f"original: {shown['why_not']}")
    else:
        print_line("original: " + json_format.dumps(shown["original"], indent=2))


@app.command()
def replay(letter_id: IdArgument, json: JsonOption = False) -> None:
    """Deliver the message again, to the consumer that gave it up and to no other."""

    async def run(bus: Bus) -> tuple[DeadLetter, Any]:
        from pipeline.dead_letters import find_letter
        from pipeline.dead_letters import replay as replay_letter

        letter = await find_letter(bus, letter_id)
        return letter, await replay_letter(bus, letter)

    letter, stored = _with_bus(run)
    if json:
        print_json(
            {
                "id": letter.id,
                "stream": stored.stream,
                "sequence": stored.sequence,
                "consumer": letter.consumer,
                "already_replayed": stored.duplicate,
            }
        )
    elif stored.duplicate:
        print_line(f"it was replayed within the last two minutes, as {stored.stream} message {stored.sequence}")
    else:
        print_line(f"published again as {stored.stream} message {stored.sequence} for {letter.consumer}")


def _with_bus(run: Callable[[Bus], Awaitable[Result]]) -> Result:
    async def connected() -> Result:
        from pipeline.bus import Bus

        bus = await Bus.connect(settings.config().nats, name="dead-letters")
        try:
            return await run(bus)
        finally:
            await bus.close()

    return asyncio.run(connected())
