"""Renewing the permit: several times a second, and each time on the strength of a latch that was just read.

A manager that cannot read the latch does not renew, so everything that hangs on it closes within one lease.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.clock import wall_ns
from pipeline.ids import deterministic_id
from pipeline.messages import Permit, PermitState
from pipeline.permit.change import Latched, Person, Rule, Setter, Startup
from pipeline.permit.halting import HaltReport, announce, halt
from pipeline.permit.link import PERMIT_SUBJECT
from pipeline.permit.state import boottime_ns
from pipeline.permit.store import PermitStore
from pipeline.permit.word import Word, WordError, WordHalt, halt_word, word_epoch
from pipeline.shm import PermitWordWriter, SharedMemoryError
from workers.system_manager.office import Office

if TYPE_CHECKING:
    from nats.aio.client import Client

__all__ = ["Renewal", "RenewalSettings", "Standing"]


@dataclass(frozen=True, slots=True)
class RenewalSettings:
    """How often, for how long, and where."""

    renew_s: float
    lease_s: float
    mode: str
    word: Path | None
    producer: str = "system_manager"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the manager knows of itself and the permit."""

    state: PermitState
    epoch: int
    actor: str
    reason: str
    since_ns: int
    in_office: bool
    renewals: int
    renewed_age_s: float | None
    trouble: str
    unlatched: bool
    word: str


class Renewal:
    """Hold the office, read the latch, renew the permit, halt."""

    def __init__(
        self,
        nc: Client,
        store: PermitStore,
        office: Office,
        settings: RenewalSettings,
        *,
        changed: Callable[[Latched], None] = lambda _: None,
        troubled: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Use a connection of its own.

        `changed` is told of every change of state, its own and others'; `troubled` why nothing is renewed, and "" once
        it is.
        """
        self._nc = nc
        self._store = store
        self._office = office
        self._settings = settings
        self._changed = changed
        self._troubled = troubled
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._latched: Latched | None = None
        # A halt that was announced but could not be latched: kept up here until it can.
        self._unlatched: tuple[Setter, str, str] | None = None
        # A halt of our own is between its word and its latch.
        self._halting = 0
        self._started = False
        self._sequence = 0
        self._renewed_ns = 0
        self._trouble = "not yet renewed"
        self._writer: PermitWordWriter | None = None
        self._word: Word | None = None
        self._word_trouble = ""
        self._covered = 0
        self._lifted = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Renew until told to stop; then leave the office."""
        while not stopping.is_set():
            began = time.monotonic()
            try:
                # Bounded, so that a server that does not answer is asked again rather than waited for.
                await asyncio.wait_for(self.renew(), timeout=max(self._settings.lease_s, 1.0))
                trouble = self._standby()
            except Exception as error:  # whatever it is: no renewal, and the leases run out
                trouble = f"{type(error).__name__}: {error}"
            if trouble != self._trouble:
                self._trouble = trouble
                self._troubled(trouble)
            self._wake.clear()
            left = self._settings.renew_s - (time.monotonic() - began)
            await self._sleep(stopping, max(left, 0.005))
        self._release_word()
        try:
            await asyncio.wait_for(self._office.leave(), timeout=1.0)
        except Exception as error:  # the next manager waits until the office is stale
            self._trouble = f"{type(error).__name__}: {error}"

    def hurry(self) -> None:
        """Renew now instead of at the next turn: something has changed."""
        self._wake.set()

    async def renew(self) -> None:
        """Read the latch and renew the permit once, if the office is ours."""
        if not self._nc.is_connected:
            raise ConnectionError("not connected to the NATS server")
        async with self._lock:
            if not await self._office.keep(boottime_ns()):
                self._started = False
                self._release_word()
                return
            began_ns = boottime_ns()
            halts = self._halts()
            known = self._latched
            latched = await self._store.read()
            if not self._started:
                latched = await self._start(latched)
            if latched is None or (known is not None and latched.epoch < known.epoch):
                # The bucket was wiped, or put back from an old copy: nobody can say what stood there.
                latched = await self._store.change(
                    *(PermitState.HALTED, Rule("latch_lost"), "the latch in the key-value bucket was lost"),
                    above_epoch=max(known.epoch if known is not None else 0, self._word_epoch()),
                )
                await announce(self._nc, latched.switch)
            if self._unlatched is not None:
                setter, reason, cause = self._unlatched
                latched = await self._store.change(PermitState.HALTED, setter, reason, causation_id=cause)
                await announce(self._nc, latched.switch)
                self._unlatched = None
            unexplained = halts not in (self._lifted, self._covered) and not self._halting
            if unexplained and latched.state is not PermitState.HALTED:
                # Somebody halted by the word alone, with no server to latch it in.
                latched = await self._store.change(
                    *(PermitState.HALTED, Rule("shared_memory"), "halted by the permit word in shared memory"),
                    unless_so=True,
                )
                await announce(self._nc, latched.switch)
            if latched.state is PermitState.HALTED:
                self._covered = halts
            else:
                # A resume came after these halts were latched; one that comes later is not among them.
                self._lifted = self._covered
            self._take(latched)
            if boottime_ns() - began_ns > self._settings.lease_s * 1e9 / 2:
                # This process was stopped, or waited, since it read the latch: what it read may no longer stand.
                raise TimeoutError("the latch was read too long ago to renew on it")
            await self._publish(latched)

    async def halt(self, setter: Setter, reason: str, *, causation_id: str = "") -> HaltReport:
        """Halt: stop first, publish second, latch third. Never waits for a renewal that hangs."""
        self._halting += 1
        try:
            word = self.stop_word()
            report = await halt(
                *(self._nc, self._store, word, setter, reason),
                producer=self._settings.producer,
                causation_id=causation_id,
                known=self._latched,
            )
        finally:
            self._halting -= 1
        if report.latched is None:
            self._unlatched = (setter, reason, causation_id)
        else:
            self._take(report.latched)
        self.hurry()
        return report

    def stop_word(self) -> WordHalt:
        """Halt by the word in shared memory."""
        path = self._settings.word
        return halt_word(path) if path is not None else WordHalt("shared memory is off")

    async def resume(self, person: Person, reason: str, *, wanted: PermitState = PermitState.ACTIVE) -> Latched:
        """Lift a halt in a person's name; the permit follows at once."""
        async with self._lock:
            latched = await self._store.change(wanted, person, reason, above_epoch=self._word_epoch())
            self._unlatched = None
            await announce(self._nc, latched.switch)
            self._take(latched)
        self.hurry()
        return latched

    def standing(self) -> Standing:
        """Return what the manager knows."""
        latched = self._latched
        unlatched = self._unlatched is not None
        return Standing(
            state=latched.state if latched and not unlatched else PermitState.HALTED,
            epoch=latched.epoch if latched else 0,
            actor=latched.switch.actor if latched else "",
            reason=latched.switch.reason if latched else "nothing latched yet",
            since_ns=latched.switch.created_ns if latched else 0,
            in_office=self._office.held(boottime_ns()),
            renewals=self._sequence,
            renewed_age_s=(boottime_ns() - self._renewed_ns) / 1e9 if self._renewed_ns else None,
            trouble=self._trouble,
            unlatched=unlatched,
            word=self._word_trouble or ("off" if self._settings.word is None else "renewed"),
        )

    async def _start(self, latched: Latched | None) -> Latched:
        """Set the first state: live trading starts halted; the others start active unless a halt is latched."""
        mode = self._settings.mode
        setter, above = Startup(mode), self._word_epoch()
        if mode == "live":
            latched = await self._store.change(
                PermitState.HALTED, setter, "live trading starts halted", above_epoch=above
            )
            await announce(self._nc, latched.switch)
        elif latched is None:
            latched = await self._store.change(
                PermitState.ACTIVE, setter, f"{mode} trading starts active", above_epoch=above
            )
            await announce(self._nc, latched.switch)
        self._started = True
        return latched

    async def _publish(self, latched: Latched) -> None:
        settings = self._settings
        lease_ns = int(settings.lease_s * 1e9)
        if self._writer is not None:
            try:
                self._writer.renew(int(latched.state), latched.epoch, lease_ns, self._lifted)
            except SharedMemoryError as error:
                self._word_trouble = f"{type(error).__name__}: {error}"
                self._release_word()
        self._sequence += 1
        identity = deterministic_id("permit", self._office.instance, self._sequence)
        permit = Permit(
            id=identity,
            correlation_id=latched.switch.id,
            causation_id=latched.switch.id,
            created_ns=wall_ns(),
            producer=settings.producer,
            state=latched.state,
            epoch=latched.epoch,
            sequence=self._sequence,
            lease_ns=lease_ns,
            actor=latched.switch.actor,
            reason=latched.switch.reason,
        )
        await self._nc.publish(PERMIT_SUBJECT, permit.encode())
        self._renewed_ns = boottime_ns()

    def _take(self, latched: Latched) -> None:
        """Keep a change of state, and tell of it once."""
        if self._latched is None or latched.epoch > self._latched.epoch:
            self._latched = latched
            self._changed(latched)

    def _halts(self) -> int:
        """Return how often this host was halted by the word, opening the word where that is still to do."""
        path = self._settings.word
        if path is None:
            return 0
        try:
            if self._word is not None and self._word.replaced:
                self._release_word()  # somebody removed the file: make it again, where others find it
            if self._writer is None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._writer = PermitWordWriter(str(path))
                self._word = Word(path)
                self._lifted = self._word.read().lifted
                self._covered = self._lifted
            assert self._word is not None
            halts = self._word.read().halts
        except (WordError, SharedMemoryError) as error:
            # Workers that read the word stay closed; those of other hosts go on.
            self._word_trouble = f"{type(error).__name__}: {error}"
            self._release_word()
            return self._lifted
        self._word_trouble = ""
        return halts

    def _standby(self) -> str:
        """Return who holds the office, "" where it is ours."""
        if self._office.held(boottime_ns()):
            return ""
        other = self._office.other
        return f"standby: {other.described if other is not None else 'another manager'} holds the office"

    def _release_word(self) -> None:
        """Let go of the word, so that the manager in office can write it."""
        self._writer = None
        self._word = None

    def _word_epoch(self) -> int:
        return word_epoch(self._settings.word) if self._settings.word is not None else 0

    async def _sleep(self, stopping: asyncio.Event, seconds: float) -> None:
        """Wait for the next turn, a call to hurry, or the end."""
        waits = {asyncio.create_task(self._wake.wait()), asyncio.create_task(stopping.wait())}
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
