"""The gate: the last check, immediately before an effect.

It stands on its own thread and its own connection, and `check` reads that connection itself, so that it depends on no
event loop having run. On the manager's host it reads the permit word in shared memory too. Whatever it cannot read
keeps it closed.
"""

from __future__ import annotations

import asyncio
import random
import select
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from pipeline.messages import InvalidMessage, KillSwitch, Permit, decode
from pipeline.nats_options import connection_name
from pipeline.permit.link import LATCH_SID, PERMIT_SID, SWITCH_SID, Link, LinkError, Login, latch_of
from pipeline.permit.protocol import Message
from pipeline.permit.state import (
    LeaseView,
    PermitState,
    Refused,
    RefusedBy,
    Verdict,
    WordReading,
    boottime_ns,
    judge,
)
from pipeline.permit.word import Word, WordError, word_path

if TYPE_CHECKING:
    from pipeline.config import Config

__all__ = ["Gate", "GateView", "SharedMemory"]

# auto: read the word where there is one; required: closed without it; off: never look (the manager runs on another
# host).
SharedMemory = Literal["auto", "required", "off"]

# A lease counts from our last answered ping: ask this often within a lease, so that a permit is worth most of it.
_PINGS_PER_LEASE = 5
_SILENT_NS = 3_000_000_000
_WORD_RETRY_NS = 250_000_000


@dataclass(frozen=True, slots=True)
class GateView:
    """What the gate knows, for health messages and for people."""

    state: PermitState
    epoch: int
    actor: str
    reason: str
    ready: bool
    connected: bool
    trouble: str
    word: str
    verdict: Verdict
    """what a check would have said, from what was known"""
    permits: int
    stale: int
    invalid: int
    connects: int


class Gate:
    """Ask `check()` immediately before every effect; obey what it says.

    Closed until the latch was read and a permit has arrived. Not bound to an event loop; `check` may be called from
    any thread.
    """

    def __init__(
        self,
        login: Login,
        *,
        word: Path | None,
        shared_memory: SharedMemory = "auto",
        max_lease_s: float = 0.5,
        backoff_s: float = 0.05,
        backoff_max_s: float = 2.0,
    ) -> None:
        """Prepare a gate; `start` opens its connection. `word` is the path of the permit word in shared memory."""
        self._login = login
        self._word_path = word
        self._shared_memory: SharedMemory = shared_memory if word is not None else "off"
        self._backoff_s = backoff_s
        self._backoff_max_s = backoff_max_s
        self._lock = threading.Lock()
        self._view = LeaseView(max_lease_ns=int(max_lease_s * 1e9))
        self._link: Link | None = None
        self._trouble = "not started"
        self._word: Word | None = None
        self._had_word = False
        self._word_trouble = ""
        self._word_tried_ns = 0
        self._latch_read = False
        self._invalid = 0
        self._connects = 0
        self._ready = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def open(cls, config: Config, *, name: str = "") -> Gate:
        """Return a started gate for a configuration whose `nats.url` is an address."""
        nats = config.nats
        login = Login(
            url=nats.url,
            name=connection_name(nats, f"{name} permit gate".strip()),
            user=nats.user,
            password=nats.password.get_secret_value(),
            token=nats.token.get_secret_value(),
            credentials_file=nats.credentials_file,
            timeout_s=nats.connect_timeout_s,
        )
        gate = cls(
            login,
            word=word_path(config.shm_directory),
            shared_memory=config.permit.shared_memory,
            max_lease_s=config.permit.lease_ms / 1000,
            backoff_s=nats.reconnect_wait_s,
            backoff_max_s=nats.reconnect_wait_max_s,
        )
        gate.start()
        return gate

    def __enter__(self) -> Self:
        """Start, for a `with` block."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close at the end of the block."""
        self.close()

    def start(self) -> None:
        """Start the gate's thread, which connects and reconnects for ever."""
        if self._thread is None:
            self._trouble = "not yet connected"
            self._thread = threading.Thread(target=self._run, name="permit-gate", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Close the gate for good: every later check refuses."""
        self._closing.set()
        with self._lock:
            if self._link is not None:
                self._link.abandon()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the latch was read once; whether the gate is open is another question."""
        return self._ready.wait(timeout_s)

    async def ready(self, timeout_s: float) -> bool:
        """Wait as `wait_ready` does, without blocking the event loop."""
        return await asyncio.to_thread(self.wait_ready, timeout_s)

    def check(self, *, reduces_exposure: bool = False) -> Verdict:
        """Say whether an effect may begin now. Call it immediately before the effect, not earlier.

        `reduces_exposure` says that the effect only lowers what is at risk: the state REDUCING allows that, and
        nothing else.
        """
        if self._closing.is_set():
            return self._refuse(RefusedBy.CLOSED, "the gate was closed")
        with self._lock:
            link = self._link
            if link is None:
                return self._refuse(RefusedBy.NOT_CONNECTED, self._trouble)
            try:
                reached_end = self._drain(link)
            except LinkError as error:
                self._lose(link, error)
                return self._refuse(RefusedBy.NOT_CONNECTED, self._trouble)
            if not reached_end:
                return self._refuse(RefusedBy.BACKLOG, "more was waiting on the connection than one check may read")
            # The word comes last: it is the one that changes soonest.
            word = self._read_word()
            if isinstance(word, Refused):
                return word
            return judge(self._view, word, boottime_ns(), reduces_exposure=reduces_exposure)

    def view(self) -> GateView:
        """Return what the gate knows, without reading anything new."""
        with self._lock:
            view = self._view
            word = self._read_word()
            verdict: Verdict
            if self._closing.is_set():
                verdict = self._refuse(RefusedBy.CLOSED, "the gate was closed")
            elif self._link is None:
                verdict = self._refuse(RefusedBy.NOT_CONNECTED, self._trouble)
            else:
                verdict = word if isinstance(word, Refused) else judge(view, word, boottime_ns())
            return GateView(
                state=verdict.state,
                epoch=view.epoch,
                actor=view.actor,
                reason=view.reason,
                ready=self._latch_read,
                connected=self._link is not None,
                trouble=self._trouble,
                word="off" if self._shared_memory == "off" else (self._word_trouble or "read"),
                verdict=verdict,
                permits=view.permits,
                stale=view.stale,
                invalid=self._invalid,
                connects=self._connects,
            )

    def _refuse(self, reason: RefusedBy, detail: str) -> Refused:
        return Refused(reason, detail, self._view.state, self._view.epoch)

    # --- shared memory -----------------------------------------------------------------------------------------------

    def _read_word(self) -> WordReading | Refused | None:
        """Return what the word holds; None where there is none to read and none is required."""
        if self._shared_memory == "off" or self._word_path is None:
            return None
        if self._word is None:
            now_ns = boottime_ns()
            if self._word_tried_ns == 0 or now_ns - self._word_tried_ns >= _WORD_RETRY_NS:
                self._word_tried_ns = now_ns
                if self._word_path.exists():
                    try:
                        self._word = Word(self._word_path)
                        self._word_trouble = ""
                        self._had_word = True
                    except WordError as error:
                        self._word_trouble = f"unreadable: {error}"
                else:
                    self._word_trouble = f"missing: {self._word_path}"
        if self._word is None:
            # A file that is there and makes no sense is refused, and so is one that was there and is gone. None at all
            # means that the manager runs on another host.
            if self._word_trouble.startswith("unreadable"):
                return self._refuse(RefusedBy.WORD_UNREADABLE, self._word_trouble)
            if self._had_word or self._shared_memory == "required":
                return self._refuse(RefusedBy.WORD_MISSING, self._word_trouble)
            return None
        try:
            reading = self._word.read()
        except WordError as error:
            return self._refuse(RefusedBy.WORD_UNREADABLE, str(error))
        if boottime_ns() - reading.renewed_ns > self._view.max_lease_ns:
            self._look_for_another_word()
        return reading

    def _look_for_another_word(self) -> None:
        """Give up a word that nobody renews where its file was replaced or removed; the next check opens anew."""
        now_ns = boottime_ns()
        if now_ns - self._word_tried_ns >= _WORD_RETRY_NS:
            self._word_tried_ns = now_ns
            if self._word is not None and self._word.replaced:
                self._word = None
                self._word_tried_ns = 0

    # --- the connection ----------------------------------------------------------------------------------------------

    def _drain(self, link: Link) -> bool:
        """Take in everything that has arrived; return whether the end was reached."""
        messages, reached_end = link.drain()
        for message, since_ns in messages:
            self._learn(link, message, since_ns)
        return reached_end

    def _learn(self, link: Link, message: Message, since_ns: int) -> None:
        view = self._view
        match message.sid:
            case value if value == PERMIT_SID:
                permit = self._decoded(message.payload)
                if not isinstance(permit, Permit):
                    self._invalid += 1
                    return
                # The lease counts from a moment that is surely before the server passed the permit on. So one that lay
                # in a buffer while this process slept, or the network was cut, cannot pass for a new one.
                view.renew(
                    *(permit.state, permit.epoch, permit.actor, permit.reason),
                    lease_ns=permit.lease_ns,
                    since_ns=since_ns,
                )
                link.ask(boottime_ns())
            case value if value == SWITCH_SID:
                switch = self._decoded(message.payload)
                if not isinstance(switch, KillSwitch):
                    # It may have been a halt. Start over, and read the latch again before anything else.
                    self._invalid += 1
                    raise LinkError("a kill switch message that could not be read")
                view.learn(switch.state, switch.epoch, switch.actor, switch.reason)
            case value if value == LATCH_SID:
                latched = latch_of(message)
                if latched is not None:
                    switch = self._decoded(latched)
                    if not isinstance(switch, KillSwitch):
                        raise LinkError("the latch holds no kill switch message")
                    view.learn(switch.state, switch.epoch, switch.actor, switch.reason)
                self._latch_read = True
            case other:
                raise LinkError(f"a message for subscription {other}, which we do not have")

    @staticmethod
    def _decoded(payload: bytes) -> object:
        try:
            return decode(payload)
        except InvalidMessage:
            return None

    def _lose(self, link: Link, error: Exception) -> None:
        """Close the gate; the thread opens the next connection."""
        self._trouble = str(error)
        self._view.forget_lease()
        self._latch_read = False
        if self._link is link:
            self._link = None
        link.abandon()

    def _run(self) -> None:
        """Keep a connection, on the gate's own thread."""
        wait_s = self._backoff_s
        while not self._closing.is_set():
            try:
                link = Link.open(self._login)
            except Exception as error:  # whatever it is: the gate stays closed and tries again
                with self._lock:
                    self._trouble = f"cannot connect: {error}"
                wait_s = self._pause(wait_s)
                continue
            with self._lock:
                try:
                    self._view.forget_lease()
                    self._drain(link)
                    if not self._latch_read:
                        raise LinkError("the latch was not read")
                except LinkError as error:
                    self._lose(link, error)
                else:
                    self._link = link
                    self._connects += 1
                    self._trouble = ""
                    self._ready.set()
            opened = time.monotonic()
            try:
                self._attend(link)
            finally:
                link.close()
            if time.monotonic() - opened > self._backoff_max_s:
                wait_s = self._backoff_s
            wait_s = self._pause(wait_s)

    def _pause(self, wait_s: float) -> float:
        """Wait before the next attempt; return the wait after it."""
        self._closing.wait(wait_s * random.uniform(0.5, 1.0))
        return min(wait_s * 2, self._backoff_max_s)

    def _attend(self, link: Link) -> None:
        """Read the connection whenever something arrives, so that the view is right although nobody checks."""
        tick_ns = self._view.max_lease_ns // _PINGS_PER_LEASE
        poll = select.poll()
        poll.register(link.fileno(), select.POLLIN)
        while not link.dead and not self._closing.is_set():
            poll.poll(max(1, tick_ns // 1_000_000))
            with self._lock:
                if link.dead:
                    return
                try:
                    self._drain(link)
                    now_ns = boottime_ns()
                    asked_ns = link.unanswered_since_ns
                    if asked_ns and now_ns - max(asked_ns, link.heard_ns) > _SILENT_NS:
                        raise LinkError("the server has fallen silent")
                    if now_ns - link.proven_ns > tick_ns:
                        link.ask(now_ns)
                except LinkError as error:
                    self._lose(link, error)
