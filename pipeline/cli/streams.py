"""`pipeline init-streams` and `pipeline tap`."""

from __future__ import annotations

import asyncio
import json as json_format
import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_line
from pipeline.errors import ExitCode, UsageFailure

if TYPE_CHECKING:
    from pipeline.bus import Bus, Delivery
    from pipeline.config import Config
    from pipeline.messages import InvalidMessage, Message
    from pipeline.streams import Change

_COMMON = ("id", "correlation_id", "causation_id", "created_ns", "producer")
_SHORT_ID = 8
_LONGEST_TEXT = 64


def init_streams(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 1 where something differs.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Create the streams, or bring them back to the table."""
    changes = asyncio.run(_reconcile(settings.config(), check=check))
    open_changes = [change for change in changes if not change.done]
    if json:
        print_json({"in_order": not open_changes, "changes": [asdict(change) for change in changes]})
    else:
        for change in changes:
            print_line(str(change))
        if not changes:
            print_line("streams and buckets are as the table says")
        elif open_changes and check:
            print_line("run `pipeline init-streams` to mend it")
    if open_changes:
        raise typer.Exit(ExitCode.CHECK_FAILED)


async def _reconcile(config: Config, *, check: bool) -> list[Change]:
    from pipeline.bus import Bus
    from pipeline.streams import reconcile

    bus = await Bus.connect(config.nats, name="init-streams")
    try:
        return await reconcile(bus.js, config.streams.replicas, check=check)
    finally:
        await bus.close()


def tap(
    target: Annotated[
        str,
        typer.Argument(
            metavar="STREAM|SUBJECT",
            help="Such as PLANNED, metrics.health.> or market_data.pool.*.",
            show_default=False,
        ),
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Begin with so many stored messages.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="Begin with all stored messages.")] = False,
    json: JsonOption = False,
) -> None:
    """Show messages of a stream or subject, decoded.

    With --json every message is one line of JSON. A payload that is no message is shown with the reason.
    """
    stream, subject = _resolve(target)
    with suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(
            _tap(settings.config(), stream, subject, last=None if everything else last, follow=follow, as_json=json)
        )


def _resolve(target: str) -> tuple[str, str]:
    """Return the stream and the subject pattern that a stream's name or a subject stands for."""
    from pipeline.streams import STREAMS, spec_of
    from pipeline.subjects import stream_of

    try:
        spec = spec_of(target)
    except KeyError:
        try:
            return stream_of(target), target
        except ValueError:
            names = ", ".join(spec.name for spec in STREAMS)
            raise UsageFailure(
                f"{target} is neither a stream nor a subject of one",
                f"streams are {names}; a subject is like planned.>",
            ) from None
    return spec.name, spec.subjects[0]


async def _tap(config: Config, stream: str, subject: str, *, last: int | None, follow: bool, as_json: bool) -> None:
    from pipeline.bus import Bus

    bus = await Bus.connect(config.nats, name="tap")
    try:
        start = 0
        if last == 0:
            if not follow:
                return
            start = await _next_sequence(bus, stream)
        async for message, delivery in bus.read(stream, subject, start_sequence=start, last=last or 0, follow=follow):
            line = json_format.dumps(_record(message, delivery)) if as_json else _line(message, delivery)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    finally:
        await bus.close()


async def _next_sequence(bus: Bus, stream: str) -> int:
    from nats.js.errors import NotFoundError

    from pipeline.errors import CheckFailed

    try:
        return int((await bus.js.stream_info(stream)).state.last_seq) + 1
    except NotFoundError as error:
        raise CheckFailed(f"there is no stream {stream}", "run `pipeline init-streams`") from error


def _record(message: Message | InvalidMessage, delivery: Delivery) -> dict[str, Any]:
    record: dict[str, Any] = {"stream": delivery.stream, "sequence": delivery.sequence, "subject": delivery.subject}
    if isinstance(message, ValueError):
        return {**record, "invalid": message.reason, "detail": str(message)}
    return {**record, "type": type(message).__name__, "message": message.to_dict()}


def _line(message: Message | InvalidMessage, delivery: Delivery) -> str:
    place = f"{delivery.stream}:{delivery.sequence} {delivery.subject}"
    if isinstance(message, ValueError):
        return f"{'':12} {place} no message: {message}"
    at = datetime.fromtimestamp(message.created_ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]
    fields = {name: value for name, value in message.to_dict().items() if name not in _COMMON}
    words = " ".join(f"{name}={_short(value)}" for name, value in fields.items())
    return f"{at} {place} {type(message).__name__} {message.id[:_SHORT_ID]} from {message.producer}: {words}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"[{len(value)}]"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"
