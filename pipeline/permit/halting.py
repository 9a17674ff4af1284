"""Halting and resuming, from the system manager and from the command line alike.

A halt stops first (the word in shared memory), is published second, latched third and reported last: neither a slow
disk nor a server that is gone delays what can be stopped without them. It is published again once it is latched, for a
gate that connected in between. A resume goes the other way round: latched first, announced after.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.clock import wall_ns
from pipeline.messages import KillSwitch, PermitState
from pipeline.permit.change import Latched, LatchError, NotAllowedError, Person, Setter, next_change
from pipeline.permit.link import SWITCH_SUBJECT
from pipeline.permit.store import PermitStore
from pipeline.permit.word import WordHalt

if TYPE_CHECKING:
    from nats.aio.client import Client

__all__ = ["HaltReport", "announce", "halt", "resume"]

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class HaltReport:
    """How far a halt got. Each trouble is empty where that step worked."""

    word: WordHalt
    published: int
    publish_trouble: str
    latched: Latched | None
    latch_trouble: str


async def announce(nc: Client, switch: KillSwitch) -> None:
    """Publish a change of state and wait until the server has it."""
    # The id lets the stream drop the second announcement; subscriptions get both.
    await nc.publish(SWITCH_SUBJECT, switch.encode(), headers={"Nats-Msg-Id": switch.id})
    await nc.flush(timeout=1)


async def halt(
    nc: Client,
    store: PermitStore,
    word: WordHalt,
    setter: Setter,
    reason: str,
    *,
    producer: str,
    causation_id: str = "",
    wanted: PermitState = PermitState.HALTED,
    known: Latched | None = None,
) -> HaltReport:
    """Publish and latch a halt whose word in shared memory was already set (see `word`); never raise for a step.

    `known` is what the caller last read of the latch; without it the latch is read first, for the epoch.
    """
    trouble = ""
    damaged = False
    if known is None:
        try:
            known = await asyncio.wait_for(store.read(), _TIMEOUT_S)
        except LatchError:
            damaged = True
        except Exception as error:
            trouble = _words(error)
    published, publish_trouble = 0, ""
    switch: KillSwitch | None = None
    try:
        switch = next_change(
            *(known, wanted, setter, reason),
            producer=producer,
            created_ns=wall_ns(),
            causation_id=causation_id,
            above_epoch=word.epoch,
            tighten=True,
        )
        await announce(nc, switch)
        published = switch.epoch
        if trouble and word.epoch == 0:
            publish_trouble = f"sent as epoch {published}, but the present epoch is not known: gates may ignore it"
    except NotAllowedError:
        raise
    except Exception as error:
        publish_trouble = _words(error)

    latched: Latched | None = None
    if not trouble:
        try:
            if switch is not None and not damaged:
                latched = await asyncio.wait_for(
                    store.latch(switch, known.revision if known is not None else 0), _TIMEOUT_S
                )
            if latched is None:  # another change came first
                change = store.change(
                    *(wanted, setter, reason), causation_id=causation_id, above_epoch=published, tighten=True
                )
                latched = await asyncio.wait_for(change, _TIMEOUT_S)
            await announce(nc, latched.switch)
            published, publish_trouble = latched.epoch, ""
        except NotAllowedError:
            raise
        except Exception as error:
            trouble = "" if latched is not None else _words(error)
    return HaltReport(word, published, publish_trouble, latched, trouble)


async def resume(
    nc: Client,
    store: PermitStore,
    person: Person,
    reason: str,
    *,
    above_epoch: int = 0,
    wanted: PermitState = PermitState.ACTIVE,
) -> Latched:
    """Lift a halt in a person's name: latch it, then announce it. Raise where it could not be latched."""
    latched = await asyncio.wait_for(store.change(wanted, person, reason, above_epoch=above_epoch), 2 * _TIMEOUT_S)
    await announce(nc, latched.switch)
    return latched


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
