"""`pipeline halt` and `pipeline resume`: they work whether or not a system manager is alive."""

from __future__ import annotations

import asyncio
import getpass
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_line
from pipeline.errors import CheckFailed, Refused, Unreachable, UsageFailure

if TYPE_CHECKING:
    from nats.aio.client import Client

    from pipeline.config import Config
    from pipeline.messages import Permit
    from pipeline.permit.change import Latched, Person
    from pipeline.permit.halting import HaltReport
    from pipeline.permit.word import WordHalt

_SERVER_TIMEOUT_S = 3.0
_PERMIT_TIMEOUT_S = 1.5


def halt(
    reason: Annotated[str, typer.Argument(metavar="REASON", help="Why; kept with the halt.", show_default=False)],
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="Who halts; default: user@host.", show_default=False)
    ] = "",
    reducing: Annotated[
        bool, typer.Option("--reducing", help="Go on with what lowers exposure; stop everything else.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Stop all trading now."""
    from pipeline.messages import PermitState

    config = settings.config()
    person = _person(by or f"{getpass.getuser()}@{socket.gethostname()}")
    _check_reason(reason)
    wanted = PermitState.REDUCING if reducing else PermitState.HALTED
    # Stop first: the word in shared memory needs no server, and closes every gate of this host at once.
    word = _halt_word(config, reducing=reducing)
    done = asyncio.run(_halt(config, person, reason, word, wanted))
    if json:
        print_json(done.as_dict())
    else:
        for line in done.lines():
            print_line(line)
    if not done.stopped:
        raise Unreachable(
            "nothing was reached: trading may go on",
            "stop the workers: `pipeline up` in its terminal with Ctrl-C, or kill their processes",
        )
    if not done.latched:
        raise CheckFailed(
            "the halt is not latched: a worker that starts later may not know of it",
            "run `pipeline halt` again once the NATS server answers",
        )


def resume(
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="WHY", help="Why trading may go on; kept with the change.", show_default=False
        ),
    ],
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="Who takes responsibility: a person's name.", show_default=False)
    ],
    reducing: Annotated[bool, typer.Option("--reducing", help="Only for what lowers exposure.")] = False,
    json: JsonOption = False,
) -> None:
    """Allow trading again."""
    from pipeline.messages import PermitState

    config = settings.config()
    person = _person(by)
    _check_reason(reason)
    wanted = PermitState.REDUCING if reducing else PermitState.ACTIVE
    done = asyncio.run(_resume(config, person, reason, wanted))
    if json:
        print_json(done.as_dict())
    else:
        for line in done.lines():
            print_line(line)


@dataclass(frozen=True, slots=True)
class _Halted:
    """How far a halt got."""

    word: WordHalt
    unreachable: str
    report: HaltReport | None

    @property
    def published(self) -> bool:
        return self.report is not None and not self.report.publish_trouble

    @property
    def latched(self) -> bool:
        return self.report is not None and self.report.latched is not None

    @property
    def stopped(self) -> bool:
        return self.word.done or self.published or self.latched

    def lines(self) -> list[str]:
        """Return one line per thing that was tried."""
        report = self.report
        lines = [
            "shared memory: every gate of this host is closed"
            if self.word.done
            else f"shared memory: not used: {self.word.trouble}"
        ]
        if report is None:
            lines += [f"published: no: {self.unreachable}", "latched: no"]
            return lines
        trouble = report.publish_trouble
        lines.append(f"published: no: {trouble}" if trouble else f"published: epoch {report.published}")
        if report.latched is not None:
            lines.append(f"latched: {report.latched.state.name}, epoch {report.latched.epoch}; only a person lifts it")
        else:
            lines.append(f"latched: no: {report.latch_trouble}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Return the same as JSON."""
        report = self.report
        latched = report.latched if report is not None else None
        return {
            "shared_memory": {"halted": self.word.done, "trouble": self.word.trouble},
            "published": {
                "epoch": report.published if report is not None and self.published else None,
                "trouble": report.publish_trouble if report is not None else self.unreachable,
            },
            "latched": {
                "state": latched.state.name if latched is not None else None,
                "epoch": latched.epoch if latched is not None else None,
                "trouble": report.latch_trouble if report is not None else self.unreachable,
            },
        }


@dataclass(frozen=True, slots=True)
class _Resumed:
    """What a resume came to."""

    latched: Latched
    changed: bool
    permit: Permit | None

    def lines(self) -> list[str]:
        """Return what was done, and whether anything may trade now."""
        switch = self.latched.switch
        first = f"latched: {self.latched.state.name}, epoch {self.latched.epoch}, by {switch.actor}: {switch.reason}"
        if not self.changed:
            first = f"nothing to do: {self.latched.state.name} since epoch {self.latched.epoch}, by {switch.actor}"
        if self.permit is not None:
            return [first, f"permit: renewed by {self.permit.producer}; gates are open for {self.latched.state.name}"]
        return [first, "permit: nobody renews it, so gates stay closed until a system manager runs"]

    def as_dict(self) -> dict[str, Any]:
        """Return the same as JSON."""
        return {
            "state": self.latched.state.name,
            "epoch": self.latched.epoch,
            "by": self.latched.switch.actor,
            "reason": self.latched.switch.reason,
            "changed": self.changed,
            "renewed": self.permit is not None,
        }


def _person(name: str) -> Person:
    from pipeline.permit.change import NotAllowedError, Person

    try:
        return Person(name)
    except NotAllowedError as error:
        raise UsageFailure(str(error), 'give a name: --by "Ada Lovelace"') from error


def _check_reason(reason: str) -> None:
    from pipeline.permit.change import REASON_LENGTH

    if not reason.strip() or len(reason) > REASON_LENGTH:
        raise UsageFailure(f"a reason of 1 to {REASON_LENGTH} characters is needed", "say why, in a few words")


def _halt_word(config: Config, *, reducing: bool) -> WordHalt:
    from pipeline.permit.word import WordHalt, halt_word, word_epoch, word_path

    path = word_path(config.shm_directory)
    if reducing:
        return WordHalt("only a full halt uses it", word_epoch(path))
    return halt_word(path)


async def _client(config: Config) -> Client:
    from pipeline.permit.client import connect

    return await asyncio.wait_for(connect(config.nats, "operator", patient=False), _SERVER_TIMEOUT_S)


async def _halt(config: Config, person: Person, reason: str, word: WordHalt, wanted: Any) -> _Halted:
    from pipeline.permit.change import NotAllowedError
    from pipeline.permit.halting import halt as halt_everywhere
    from pipeline.permit.store import PermitStore

    try:
        nc = await _client(config)
    except Exception as error:  # whatever it is, the word was set, and what was not reached is said
        words = str(error) or type(error).__name__
        return _Halted(word, f"no NATS server answers at {config.nats.shown_url}: {words}", None)
    try:
        store = PermitStore(nc.jetstream(timeout=1.0), producer="operator", replicas=config.streams.replicas)
        report = await halt_everywhere(nc, store, word, person, reason, producer="operator", wanted=wanted)
    except NotAllowedError as error:
        raise Refused(str(error), "`pipeline resume` lifts a halt") from error
    finally:
        await nc.close()
    return _Halted(word, "", report)


async def _resume(config: Config, person: Person, reason: str, wanted: Any) -> _Resumed:
    from pipeline.messages import Permit, decode
    from pipeline.permit import halting
    from pipeline.permit.change import LatchError
    from pipeline.permit.link import PERMIT_SUBJECT
    from pipeline.permit.store import PermitStore
    from pipeline.permit.word import Word, WordError, word_path

    try:
        nc = await _client(config)
    except Exception as error:
        raise Unreachable(
            f"no NATS server answers at {config.nats.shown_url}: {error or type(error).__name__}",
            "nothing was changed; start the server, then resume",
        ) from error
    try:
        store = PermitStore(nc.jetstream(timeout=1.0), producer="operator", replicas=config.streams.replicas)
        permits = await nc.subscribe(PERMIT_SUBJECT)

        async def permit_of(epoch: int) -> Permit | None:
            """Wait for a renewal of this epoch or a later one."""
            deadline = asyncio.get_running_loop().time() + _PERMIT_TIMEOUT_S
            while (left := deadline - asyncio.get_running_loop().time()) > 0:
                try:
                    permit = decode((await permits.next_msg(timeout=left)).data)
                except Exception:  # nothing came, or nothing that can be read
                    continue
                if isinstance(permit, Permit) and permit.epoch >= epoch:
                    return permit
            return None

        try:
            present = await store.read()
        except LatchError:
            present = None  # a person's change mends it
        if present is not None and present.state is wanted:
            return _Resumed(present, changed=False, permit=await permit_of(present.epoch))
        word_epoch = 0
        try:
            word = Word(word_path(config.shm_directory)).read()
            word_epoch = word.epoch
            # A manager that starts on a halted word it knows nothing of would halt again: it must be there first.
            if word.halts != word.lifted and await permit_of(0) is None:
                raise Refused(
                    "this host was halted by the word in shared memory, and no system manager runs to lift it",
                    "start it (`pipeline up`, or `pipeline worker system_manager`), then resume; nothing was changed",
                )
        except WordError:
            pass
        latched = await halting.resume(nc, store, person, reason, above_epoch=word_epoch, wanted=wanted)
        return _Resumed(latched, changed=True, permit=await permit_of(latched.epoch))
    finally:
        await nc.close()
