"""Calls over several endpoints: the best one is asked, a second one when it is slow, the next one when it fails."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from markets.limits import CircuitBreaker, Clock
from markets.solana.rpc.accounts import AccountsAt, Malformed, accounts_at, program_accounts, slot_number
from markets.solana.rpc.asked import Asked
from markets.solana.rpc.endpoint import Endpoint, EndpointFigures, EndpointSettings, names_apart
from markets.solana.rpc.errors import AttemptFailed, Refused, RpcError, Unanswered
from markets.solana.rpc.line import Lines
from markets.solana.rpc.settings import PoolFigures, PoolSettings, Priority
from markets.solana.rpc.slots import SlotBoard
from markets.solana.rpc.transport import post
from markets.solana.rpc.turns import Turns

T = TypeVar("T")
log = logging.getLogger(__name__)
MAX_ANSWER_BYTES = 128 * 1024 * 1024
"""Every account of a program's filter comes in one answer."""
# An endpoint is asked for its chain at every so many looks, even where nothing speaks for another one.
_LOOKS_PER_CHAIN = 15


class RpcPool:
    """Several endpoints as one.

    Use it as an async context manager: it owns the connections. `keep` compares the endpoints' slots and chains while
    it runs. `counted` is told of every call whether it failed.
    """

    def __init__(
        self,
        endpoints: Sequence[EndpointSettings],
        settings: PoolSettings | None = None,
        *,
        counted: Callable[[bool], None] | None = None,
        clock: Clock = time.monotonic_ns,
        draw: random.Random | None = None,
    ) -> None:
        """Take the endpoints in the order in which they are preferred while nothing is known of them."""
        self.settings = chosen = settings or PoolSettings()
        self.clock = clock
        self.endpoints = [
            Endpoint(name, one, self._breaker, clock)
            for name, one in zip(names_apart(endpoints), endpoints, strict=True)
        ]
        self.slots = SlotBoard(max_lag=chosen.max_lag_slots, fresh_s=chosen.slot_fresh_s, clock=clock)
        self.figures = PoolFigures()
        self.chain = chosen.chain
        """Genesis hash of the chain that is meant, or that most endpoints serve; empty while none has told it."""
        self._counted = counted
        self._draw = draw or random.Random()
        self._turns = Turns(self._pick, self._wait_s)
        self.lines: dict[str, Lines] = {}
        """Connections, by endpoint."""

    async def __aenter__(self) -> Self:
        """Prepare the connections."""
        self.lines = {
            one.host: Lines(one.settings.url, name=one.host, max_answer_bytes=MAX_ANSWER_BYTES)
            for one in self.endpoints
        }
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._turns.close()
        for lines in self.lines.values():
            lines.close()

    # Calls

    async def call(
        self,
        method: str,
        params: Sequence[object] = (),
        *,
        read: Callable[[Any], T],
        priority: Priority = Priority.NORMAL,
        hedge: bool = True,
        min_slot: int = 0,
        timeout_s: float | None = None,
    ) -> T:
        """Return what `read` makes of the method's result; what it cannot read (`Malformed`) counts as a failure.

        `min_slot` refuses answers of an older slot, whatever the node thinks of `minContextSlot`.

        Raises:
            Refused: the node refused it, as any other would.
            Unanswered: no endpoint gave an answer in time.
        """
        asked = Asked(method, params, read, min_slot, timeout_s or self.settings.timeout_s)
        causes: list[AttemptFailed] = []
        deadline = asyncio.get_running_loop().time() + max(self.settings.deadline_s, asked.timeout_s)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._persist(asked, priority, causes, deadline, hedge=hedge)
        except TimeoutError:
            self._count_unmade(causes)
        self.figures.unanswered += 1
        raise Unanswered(method, causes, self.states())

    async def _persist(
        self, asked: Asked[T], priority: Priority, causes: list[AttemptFailed], deadline: float, *, hedge: bool
    ) -> T:
        """Ask until there is an answer or the attempts are used up."""
        tried: set[str] = set()
        rounds = 0
        while len(causes) < self.settings.attempts:
            wait_s = self._wait_s(asked.method)
            if wait_s is not None and asyncio.get_running_loop().time() + wait_s > deadline:
                break
            endpoint = await self._turns.take(priority, asked.method, tried)
            if endpoint is None:
                break
            if endpoint.host in tried:
                tried.clear()
                await asyncio.sleep(self._backoff_s(rounds))
                rounds += 1
            self.figures.failovers += bool(causes)
            outcome = await self._ask(endpoint, asked, tried, causes, hedge=hedge)
            if outcome is not None:
                return outcome[0]
        self._count_unmade(causes)
        self.figures.unanswered += 1
        raise Unanswered(asked.method, causes, self.states())

    async def _ask(
        self, first: Endpoint, asked: Asked[T], tried: set[str], causes: list[AttemptFailed], *, hedge: bool
    ) -> tuple[T] | None:
        """Ask one endpoint, and a second one if the first is slow; the first good answer counts."""
        tried.add(first.host)
        wait_s = self._hedge_after_s(first) if hedge else None
        if wait_s is None:
            try:
                return (await self._attempt(first, asked),)
            except AttemptFailed as failure:
                causes.append(failure)
                return None
        running = {asyncio.create_task(self._attempt(first, asked)): first}
        try:
            while running:
                done, _ = await asyncio.wait(running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    wait_s = None
                    second = self._pick(asked.method, tried, fresh=True)
                    if second is not None:
                        self.figures.hedged += 1
                        tried.add(second.host)
                        running[asyncio.create_task(self._attempt(second, asked))] = second
                    continue
                answered: tuple[T] | None = None
                for task in done:
                    endpoint = running.pop(task)
                    try:
                        answered = (task.result(),)
                        self.figures.hedges_won += endpoint is not first
                    except AttemptFailed as failure:
                        causes.append(failure)
                if answered is not None:
                    return answered
            return None
        finally:
            for task in running:
                task.cancel()

    async def _attempt(self, endpoint: Endpoint, asked: Asked[T]) -> T:
        """Make one call at one endpoint, and note how it went."""
        assert self.lines, "the pool is not open"
        begun = self.clock()
        method = asked.method
        try:
            raw = await post(self.lines[endpoint.host], method, asked.params, timeout_s=asked.timeout_s, may=asked.may)
            answer = asked.answer(raw, endpoint.host, self.slots)
        except AttemptFailed as failure:
            endpoint.failed(method, failure)
            self._count(failed=failure.blames)
            raise
        except Refused:
            # The node is well: it understood.
            endpoint.succeeded(self.clock() - begun)
            self._count(failed=False)
            raise
        except asyncio.CancelledError:
            endpoint.abandoned(self.clock() - begun)
            self._count(failed=False)
            raise
        endpoint.succeeded(self.clock() - begun)
        self._count(failed=False)
        return answer

    async def everywhere(
        self,
        method: str,
        params: Sequence[object] = (),
        *,
        read: Callable[[Any], T],
        may: Callable[[], bool] | None = None,
    ) -> list[T | RpcError]:
        """Ask every endpoint that may be asked now, once; return what each gave, or why it gave nothing.

        `may` is asked in the moment of writing; where it forbids it nothing is written.
        """
        asked = Asked(method, params, read, 0, self.settings.timeout_s, may)
        ready = [endpoint for endpoint in self._candidates(method) if endpoint.take()]

        async def one(endpoint: Endpoint) -> T | RpcError:
            try:
                return await self._attempt(endpoint, asked)
            except RpcError as error:
                return error

        return list(await asyncio.gather(*(one(endpoint) for endpoint in ready)))

    # Typed calls

    async def get_accounts(
        self, addresses: Sequence[str], *, min_slot: int = 0, priority: Priority = Priority.NORMAL
    ) -> AccountsAt:
        """Return up to 100 accounts as they stood at one slot."""
        options: dict[str, object] = {"encoding": "base64", "commitment": self.settings.commitment}
        if min_slot:
            options["minContextSlot"] = min_slot
        return await self.call(
            "getMultipleAccounts",
            [list(addresses), options],
            read=lambda result: accounts_at(addresses, result),
            priority=priority,
            min_slot=min_slot,
        )

    async def get_program_accounts(
        self,
        program: str,
        filters: Sequence[Mapping[str, object]],
        *,
        data_slice: tuple[int, int] | None = None,
        timeout_s: float = 30.0,
    ) -> AccountsAt:
        """Return every account of a program that passes the filters; `data_slice` is (offset, length)."""
        options: dict[str, object] = {
            "encoding": "base64",
            "commitment": self.settings.commitment,
            "withContext": True,
            "filters": list(filters),
        }
        if data_slice is not None:
            options["dataSlice"] = {"offset": data_slice[0], "length": data_slice[1]}
        return await self.call(
            "getProgramAccounts",
            [program, options],
            read=program_accounts,
            priority=Priority.BACKGROUND,
            hedge=False,
            timeout_s=timeout_s,
        )

    async def get_slot(self, *, priority: Priority = Priority.NORMAL) -> int:
        """Return the newest slot of the endpoint that answers."""
        return await self.call(
            "getSlot", [{"commitment": self.settings.commitment}], read=slot_number, priority=priority
        )

    # Keeping an eye on the endpoints

    async def keep(self, interval_s: float) -> None:
        """Ask every endpoint for its slot, and now and then for its chain, until cancelled."""
        while True:
            try:
                await asyncio.gather(*(self._look(endpoint) for endpoint in self.endpoints))
                self._agree_on_chain()
            except Exception:
                # An answer that nobody thought of: without these looks no lag and no other chain is ever noticed.
                log.exception("the endpoints could not be looked at")
            await asyncio.sleep(interval_s)

    async def _look(self, endpoint: Endpoint) -> None:
        """Ask for the slot; for the chain too, where it may be another one than it was."""
        before = self.slots.slot(endpoint.host)
        asked = Asked("getSlot", [{"commitment": self.settings.commitment}], slot_number, 0, self.settings.timeout_s)
        try:
            if not endpoint.take():
                return
            slot = await self._attempt(endpoint, asked)
            # Another chain has other slots; a node that was started anew may be one of another chain.
            suspect = not self.slots.note(endpoint.host, slot) or slot < before or endpoint.chain is None
            endpoint.looks += 1
            if (not suspect and endpoint.looks % _LOOKS_PER_CHAIN) or not endpoint.take():
                return
            chain = await self._attempt(endpoint, Asked("getGenesisHash", [], _text, 0, self.settings.timeout_s))
            if chain != endpoint.chain:
                self.slots.forget(endpoint.host)
            endpoint.chain = chain
        except (AttemptFailed, Refused):
            return  # noted where it happened

    def _agree_on_chain(self) -> None:
        """Settle on the chain that is meant; where none is, on that of most endpoints, in a draw on the first's."""
        told = [endpoint.chain for endpoint in self.endpoints if endpoint.chain is not None]
        if not told:
            return
        self.chain = self.settings.chain or max(told, key=lambda chain: (told.count(chain), -told.index(chain)))
        for endpoint in self.endpoints:
            endpoint.other_chain = endpoint.chain is not None and endpoint.chain != self.chain
            if endpoint.other_chain:
                self.slots.forget(endpoint.host)

    @property
    def roomy(self) -> bool:
        """Tell whether some endpoint has much of its rate left: what may be left undone is asked only then."""
        return any(one.bucket.roomy for one in self.endpoints if not one.other_chain)

    def lagging(self, endpoint: Endpoint) -> bool:
        """Tell whether an endpoint is too far behind the others to be read from."""
        return self.slots.lagging(endpoint.host)

    def endpoint_figures(self) -> list[EndpointFigures]:
        """Return what every endpoint shows."""
        return [
            endpoint.figures(
                self.slots.slot(endpoint.host), self.slots.lag(endpoint.host), lagging=self.lagging(endpoint)
            )
            for endpoint in self.endpoints
        ]

    def states(self) -> dict[str, str]:
        """Return every endpoint's state in one word."""
        return {endpoint.host: endpoint.state(lagging=self.lagging(endpoint)) for endpoint in self.endpoints}

    # Choosing

    def _pick(self, method: str, tried: set[str], *, fresh: bool = False) -> Endpoint | None:
        """Take the cheapest endpoint that may be asked now, untried ones first; with `fresh` only those."""
        candidates = [endpoint for endpoint in self._candidates(method) if not fresh or endpoint.host not in tried]
        for endpoint in sorted(candidates, key=lambda one: (one.host in tried, one.cost)):
            if endpoint.take():
                return endpoint
        return None

    def _candidates(self, method: str) -> list[Endpoint]:
        return [one for one in self.endpoints if one.serves(method) and not self.lagging(one)]

    def _wait_s(self, method: str) -> float | None:
        """Return how long until `_pick` may find one; None where that will not change by waiting."""
        return min((one.wait_s() for one in self._candidates(method)), default=None)

    def _hedge_after_s(self, endpoint: Endpoint) -> float | None:
        if len(self.endpoints) < 2:
            return None
        usual_ms = endpoint.latencies.quantile_ms(self.settings.hedge_quantile) or 0.0
        return max(self.settings.hedge_min_s, usual_ms / 1000)

    def _backoff_s(self, rounds: int) -> float:
        limit = min(self.settings.backoff_s * 2.0**rounds, self.settings.backoff_max_s)
        return self._draw.uniform(0, limit)

    def _count(self, *, failed: bool) -> None:
        self.figures.calls += 1
        self.figures.failures += failed
        if self._counted is not None:
            self._counted(failed)

    def _count_unmade(self, causes: list[AttemptFailed]) -> None:
        """Count a call that found no endpoint to ask: else nobody would hear of it when all of them are down."""
        if not causes:
            self._count(failed=True)

    def _breaker(self) -> CircuitBreaker:
        chosen = self.settings
        return CircuitBreaker(
            failures=chosen.breaker_failures,
            window=chosen.breaker_window,
            open_s=chosen.breaker_open_s,
            open_max_s=chosen.breaker_open_max_s,
            clock=self.clock,
        )


def _text(result: Any) -> str:
    if not isinstance(result, str) or not 1 <= len(result) <= 64:
        raise Malformed("it is no text")
    return result
