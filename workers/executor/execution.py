"""From a plan to its one result, so that death at any instruction neither repeats the effect nor loses the result.

    receive -> prepare -> claim -> trial, deadline, gate -> submit -> land -> settle the claim -> publish -> acknowledge

What is found after a crash, and what is done:

- no claim: nothing happened; begin.
- Claimed by us: an answer of the server was lost; go on with what this process knows.
- Claimed by another: it died, or is cut off. The venue knows the reference: take what landed, or call it abandoned. The
  claim is settled by compare-and-set, so the other one, should it live, publishes our result and not one of its own.
- Settled: publish those bytes unless they are in the stream.

A plan that ends before anything could begin is settled by the very write that claims it. A simulation that is under way
goes on beside the claim. Between the gate and the submission nothing is awaited.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Protocol, TypeVar

from markets.venue import NeverBegun, Prepared, Trace, Undecided, Venue, tried_out
from pipeline.bus import PublishFailed, ReadFailed, Reject, Retry
from pipeline.bus.errors import growing_delay_s
from pipeline.claims import Claim as Held
from pipeline.claims import ClaimsUnavailable
from pipeline.crashpoint import crashpoint
from pipeline.messages import (
    ExecutionPlan,
    ExecutionResult,
    ExecutionSubmitted,
    InvalidMessage,
    decode,
    enum_name,
)
from pipeline.permit import Allowed, Refused
from workers.executor.claim import Claimed, InvalidClaim, Settled, decode_claim, encode_claim
from workers.executor.result import (
    Abandoned,
    Ending,
    Expired,
    RefusedByGate,
    Stamps,
    result_of,
    submitted_of,
)

_SETTLE_TRIES = 5
_AGAIN_S, _AGAIN_MAX_S = 0.1, 5.0

T = TypeVar("T")
log = logging.getLogger(__name__)


class Claims(Protocol):
    """The bucket of claims; every write is a compare-and-set."""

    async def create(self, key: str, value: bytes) -> int | None:
        """Return the revision, or None where the key exists."""

    async def get(self, key: str) -> Held | None:
        """Return the entry, or None."""

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Return the new revision, or None where the entry has another revision than the one given."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What an execution touches; the worker wires them, tests replace them."""

    claims: Claims
    gate: Callable[[], Allowed | Refused]
    publish: Callable[[ExecutionResult], Awaitable[object]]
    # Tell which transaction belongs to a plan, without waiting for it to be stored.
    submitted: Callable[[ExecutionSubmitted], object]
    # Whether a result settled at that time stands in EXECUTED already.
    stored: Callable[[ExecutionResult, int], Awaitable[bool]]
    wall_ns: Callable[[], int]


class Execution:
    """Execute plans on one venue."""

    def __init__(self, venue: Venue, ports: Ports, *, producer: str, owner: str) -> None:
        """`owner` names this process, and no other that ever ran."""
        self._venue = venue
        self._ports = patient(ports)
        self._producer = producer
        self._owner = owner
        # What was made for a plan that is not settled: it comes again, and must not become a second transaction.
        self._prepared: dict[str, Prepared] = {}
        # Submissions and results whose settling is not confirmed: the plan comes again, its effect must not.
        self._submitted: set[str] = set()
        self._unsettled: dict[str, ExecutionResult] = {}
        self._running = 0

    @property
    def running(self) -> int:
        """Return how many plans are on their way."""
        return self._running

    def take(self, plan: ExecutionPlan, received_ns: int, *, again: bool = False) -> asyncio.Future[None]:
        """Take a plan in its order of arrival; the future is done when its result is stored.

        `again` tells that it was delivered before, perhaps to another process.
        """
        check_plan(plan, self._venue)
        return asyncio.ensure_future(self._run(plan, received_ns, self._venue.announce(plan), again=again))

    async def _run(self, plan: ExecutionPlan, received_ns: int, ticket: int, *, again: bool) -> None:
        self._running += 1
        try:
            await self._execute(plan, received_ns, ticket, again=again)
        finally:
            self._running -= 1

    async def _execute(self, plan: ExecutionPlan, received_ns: int, ticket: int, *, again: bool) -> None:
        undecided = True
        try:
            crashpoint("received")
            if again and plan.id not in self._prepared and await self._ports.claims.get(plan.id) is not None:
                # Whoever claimed it has its transaction: nothing is made, only found out.
                await self._taken(plan)
                return
            ready = await self._ready(plan)
            crashpoint("prepared")
            stamps = Stamps(received_ns, self._ports.wall_ns())
            if not isinstance(ready, Prepared):
                await self._end(plan, ready, stamps)
                return
            claimed = Claimed(self._owner, ready.reference, stamps.attempt, received_ns, stamps.claimed_ns)
            revision = await self._ports.claims.create(plan.id, encode_claim(claimed))
            crashpoint("claimed")
            if revision is None:
                found = await self._found(plan)
                if found is None:
                    self._venue.withdraw(ready)
                    self._forget(plan)
                    return
                revision, stamps = found
            else:
                stamps.claimed_ns = self._ports.wall_ns()
            result = self._unsettled.get(plan.id)
            if result is None:
                if plan.id in self._submitted:
                    # Submitted here, and its outcome was lost to an error: only the venue knows.
                    if not await self._recover(plan, claimed, revision, stamps):
                        await self._taken(plan)  # settled by another one, which may not have come to publish it
                    return
                tried = await tried_out(ready)
                if isinstance(tried, Prepared):
                    begun = self._begin(plan, tried, stamps)
                else:
                    self._venue.withdraw(ready)
                    begun = self._ended(plan, tried, stamps)
                self._venue.decided(ticket)
                undecided = False
                result = await begun
                crashpoint("landed")
                self._unsettled[plan.id] = result
        finally:
            if undecided:
                self._venue.decided(ticket)
        await self._settle(plan, result, revision)

    async def _ready(self, plan: ExecutionPlan) -> Prepared | Ending:
        """Return what was prepared for the plan, now or before, or how it ends without."""
        held = self._prepared.get(plan.id)
        if held is not None:
            return held
        late_ns = self._venue.now_ns - plan.expires_ns
        if late_ns > 0:
            return Expired(self._venue.slot, late_ns)
        ready = await self._venue.prepare(plan)
        if isinstance(ready, Prepared):
            self._prepared[plan.id] = ready
        return ready

    def _begin(self, plan: ExecutionPlan, ready: Prepared, stamps: Stamps) -> Awaitable[ExecutionResult]:
        """Pass the deadline and the gate, and submit: in one go, without the event loop in between."""
        late_ns = self._venue.now_ns - plan.expires_ns
        if late_ns > 0:
            self._venue.withdraw(ready)
            return self._ended(plan, Expired(self._venue.slot, late_ns, ready.trace), stamps)
        verdict = self._ports.gate()
        stamps.gated_ns, stamps.permit_epoch = self._ports.wall_ns(), verdict.epoch
        if isinstance(verdict, Refused):
            self._venue.withdraw(ready)
            reason = f"{verdict.reason}: {verdict.detail}"
            return self._ended(plan, RefusedByGate(self._venue.slot, reason, ready.trace), stamps)
        crashpoint("gated")
        # First: should submitting fail half-way, the venue is asked what became of it.
        self._submitted.add(plan.id)
        landing = self._venue.submit(plan, ready)
        crashpoint("submitted")
        self._tell_submitted(plan, ready.trace)
        return self._landed(plan, landing, stamps)

    def _tell_submitted(self, plan: ExecutionPlan, trace: Trace) -> None:
        """Tell which transaction belongs to the plan, where it is one."""
        if not trace.signature:
            return
        sent = replace(trace, submitted_ns=trace.submitted_ns or self._ports.wall_ns())
        self._ports.submitted(
            submitted_of(plan, sent, mode=self._venue.mode, producer=self._producer, slot=self._venue.slot)
        )

    async def _end(self, plan: ExecutionPlan, ending: Ending, stamps: Stamps) -> None:
        """Claim and settle a plan at once that ended before anything could begin."""
        result = self._result(plan, ending, stamps)
        settled = Settled(self._owner, self._ports.wall_ns(), result.encode())
        if await self._ports.claims.create(plan.id, encode_claim(settled)) is None:
            await self._taken(plan)
            return
        crashpoint("settled")
        await self._ports.publish(result)
        crashpoint("published")

    async def _taken(self, plan: ExecutionPlan) -> None:
        """Bring a plan that is claimed to its end without anything of ours."""
        if await self._found(plan) is not None:
            raise Retry(f"plan {plan.id} was claimed here, and what was made for it is not known any more")

    async def _ended(self, plan: ExecutionPlan, ending: Ending, stamps: Stamps) -> ExecutionResult:
        return self._result(plan, ending, stamps)

    async def _landed(self, plan: ExecutionPlan, landing: Awaitable[Ending], stamps: Stamps) -> ExecutionResult:
        return self._result(plan, await landing, stamps)

    def _result(self, plan: ExecutionPlan, ending: Ending, stamps: Stamps) -> ExecutionResult:
        stamps.finished_ns = self._ports.wall_ns()
        return result_of(plan, ending, stamps, mode=self._venue.mode, producer=self._producer)

    async def _settle(self, plan: ExecutionPlan, result: ExecutionResult, revision: int) -> None:
        """Record the result in the claim, then publish it; where another one settled first, publish that one."""
        settled = Settled(self._owner, self._ports.wall_ns(), result.encode())
        if await self._ports.claims.update(plan.id, encode_claim(settled), revision) is None:
            if await self._found(plan) is not None:
                raise Retry(f"the claim of plan {plan.id} changed while it was settled")
            self._forget(plan)
            return
        self._forget(plan)
        crashpoint("settled")
        await self._ports.publish(result)
        crashpoint("published")

    async def _found(self, plan: ExecutionPlan) -> tuple[int, Stamps] | None:
        """Go on from a claim that exists; return its revision where this process may go on with the plan itself."""
        for _ in range(_SETTLE_TRIES):
            held = await self._ports.claims.get(plan.id)
            if held is None:
                raise Retry(f"the claim of plan {plan.id} was there and is gone")
            try:
                claim = decode_claim(held.value)
            except InvalidClaim as error:
                # Nobody can tell whether the effect happened: leave it to a person.
                raise Reject(f"the claim of plan {plan.id} cannot be read: {error}") from None
            if isinstance(claim, Settled):
                await self._publish_settled(plan, claim)
                return None
            stamps = Stamps(claim.received_ns, claim.claimed_ns, attempt=claim.attempt)
            if claim.owner == self._owner:
                return held.revision, stamps
            if await self._recover(plan, claim, held.revision, stamps):
                return None
        raise Retry(f"the claim of plan {plan.id} keeps changing")

    async def _publish_settled(self, plan: ExecutionPlan, claim: Settled) -> None:
        try:
            result = decode(claim.result)
        except InvalidMessage as error:
            raise Reject(f"the claim of plan {plan.id} holds an unreadable result: {error}") from None
        if not isinstance(result, ExecutionResult) or result.plan_id != plan.id:
            raise Reject(f"the claim of plan {plan.id} holds something else than its result")
        if not await self._ports.stored(result, claim.settled_ns):
            await self._ports.publish(result)
            crashpoint("published")

    async def _recover(self, plan: ExecutionPlan, claim: Claimed, revision: int, stamps: Stamps) -> bool:
        """Settle the claim of an executor that is gone; return False where it was settled meanwhile."""
        while not isinstance(outcome := await self._venue.recover(plan, claim.reference), NeverBegun):
            # The one that submitted it may not have come to say so.
            self._tell_submitted(plan, outcome.trace)
            if not isinstance(outcome, Undecided):
                break
            await asyncio.sleep(outcome.after_s)
        ending: Ending = Abandoned(self._venue.slot, claim.owner) if isinstance(outcome, NeverBegun) else outcome
        result = self._result(plan, ending, stamps)
        settled = Settled(self._owner, self._ports.wall_ns(), result.encode())
        if await self._ports.claims.update(plan.id, encode_claim(settled), revision) is None:
            return False
        self._forget(plan)
        crashpoint("recovered")
        await self._ports.publish(result)
        return True

    def _forget(self, plan: ExecutionPlan) -> None:
        self._prepared.pop(plan.id, None)
        self._unsettled.pop(plan.id, None)
        self._submitted.discard(plan.id)


class _PatientClaims:
    """Claims that are asked again until the server answers."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims

    async def create(self, key: str, value: bytes) -> int | None:
        return await _answered(partial(self._claims.create, key, value))

    async def get(self, key: str) -> Held | None:
        return await _answered(partial(self._claims.get, key))

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        return await _answered(partial(self._claims.update, key, value, revision))


def patient(ports: Ports) -> Ports:
    """Return ports that wait for the server; every one of these calls may be made twice."""
    return replace(
        ports,
        claims=_PatientClaims(ports.claims),
        publish=lambda result: _answered(partial(ports.publish, result)),
        stored=lambda result, settled_ns: _answered(partial(ports.stored, result, settled_ns)),
    )


async def _answered(call: Callable[[], Awaitable[T]]) -> T:
    failures = 0
    while True:
        try:
            return await call()
        except (ClaimsUnavailable, PublishFailed, ReadFailed) as error:
            if isinstance(error, PublishFailed) and error.code:
                raise  # the server has answered, and no repetition mends it
            if not failures:
                log.warning("a plan waits for the server: %s", error.what)
            await asyncio.sleep(growing_delay_s(failures, _AGAIN_S, _AGAIN_MAX_S))
            failures += 1


def check_plan(plan: ExecutionPlan, venue: Venue) -> None:
    """Refuse a plan that must not be executed whoever sent it; the planner made the same promises.

    Raises:
        Reject: naming the broken promise.
    """
    legs = plan.legs
    if plan.mode != venue.mode:
        raise Reject(f"the plan is for mode {enum_name(plan.mode)}, this executor's is {enum_name(venue.mode)}")
    if len(legs) < 2 or plan.amount_in == 0 or legs[0].amount_in != plan.amount_in:
        raise Reject("the plan has no cycle of two legs or more that begins with amount_in")
    if any(before.token_out != after.token_in for before, after in pairwise(legs)):
        raise Reject("a leg does not take what the leg before it gives")
    if legs[0].token_in != plan.token or legs[-1].token_out != plan.token:
        raise Reject("the cycle does not start and end in the plan's token")
    if min(plan.min_amount_out, legs[-1].min_amount_out) < plan.amount_in + plan.cost:
        raise Reject("min_amount_out would admit a loss: it is under amount_in + cost")
