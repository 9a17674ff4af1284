"""The system manager: its connections, what it listens to, and what it says."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import web
from nats.errors import Error as NatsError

from pipeline import run_files
from pipeline.bus import Backlogged, PublishFailed
from pipeline.clock import NS_PER_S, wall_ns
from pipeline.ids import deterministic_id
from pipeline.messages import Anomaly, InvalidMessage, PermitState, PnlSnapshot, Severity, WorkerHealth
from pipeline.permit.change import Latched, Person, Rule
from pipeline.permit.client import connect
from pipeline.permit.halting import HaltReport
from pipeline.permit.link import SWITCH_SUBJECT
from pipeline.permit.state import boottime_ns
from pipeline.permit.store import PermitStore
from pipeline.permit.word import word_path
from workers.system_manager.books import look
from workers.system_manager.control import application, make_token, switch_as_dict
from workers.system_manager.office import Office, this_process
from workers.system_manager.renewal import Renewal, RenewalSettings
from workers.system_manager.rules import Broken
from workers.system_manager.watch import Watch

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from pipeline.context import WorkerContext

__all__ = ["run"]

NAME = "system_manager"
_LOOK_S = 0.25
_BOOKS_S = 1.0
# A turn that comes so late means that this process was stopped or starved: silence was ours.
_STARVED_S = 1.0
_PORT_RETRY_S = 5.0
_REPLAYED_SNAPSHOTS = 100_000
_ANOMALIES_KEPT = 50


class SystemManager:
    """Renewal, rules and control endpoint of one process."""

    def __init__(self, context: WorkerContext, nc: Client) -> None:
        """Wire the parts; nothing runs yet."""
        config = context.config
        self._context = context
        self._nc = nc
        self._watch = Watch(config.rules, time.monotonic())
        js = nc.jetstream(timeout=1.0)
        self._store = PermitStore(js, producer=NAME, replicas=config.streams.replicas)
        off = config.permit.shared_memory == "off"
        self._renewal = Renewal(
            nc,
            self._store,
            Office(js, this_process(wall_ns(), config.executor.mode)),
            RenewalSettings(
                renew_s=config.permit.renew_ms / 1000,
                lease_s=config.permit.lease_ms / 1000,
                mode=config.executor.mode,
                word=None if off else word_path(config.shm_directory),
            ),
            changed=self._on_change,
            troubled=self._on_trouble,
        )
        self._anomalies: deque[dict[str, Any]] = deque(maxlen=_ANOMALIES_KEPT)
        self._was_halted = True
        self._runner: web.AppRunner | None = None

    async def run(self) -> None:
        """Work until told to stop."""
        context = self._context
        await self._store.ensure()
        await self._nc.subscribe(SWITCH_SUBJECT, cb=self._on_switch)
        await context.bus.watch("metrics.health.*", self._on_health)
        await context.bus.watch("metrics.pnl.*", self._on_pnl)
        # The gates close on what they cannot read, and say nothing: watched here, it becomes a dead letter.
        await context.bus.watch("system.>", lambda _message, _delivery: None)
        # The permit is renewed while the past is read: that may take a while.
        tasks = [
            asyncio.create_task(self._renewal.run(context.stopping), name="renewal"),
            asyncio.create_task(self._serve(), name="control endpoint"),
            asyncio.create_task(self._look(), name="rules"),
            asyncio.create_task(self._look_at_books(), name="books"),
        ]
        stop = asyncio.create_task(context.stopping.wait())
        try:
            done, _ = await asyncio.wait({*tasks, stop}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await asyncio.wait({tasks[0]}, timeout=2.0)
        finally:
            for task in (*tasks, stop):
                task.cancel()
            if self._runner is not None:
                await self._runner.cleanup()
            run_files.remove(context.config, "control")
            with suppress(NatsError, OSError, TimeoutError):
                await self._nc.close()

    # What the control endpoint may do.

    async def halt(self, person: Person, reason: str) -> HaltReport:
        """Halt in a person's name."""
        report = await self._renewal.halt(person, reason)
        self._log_halt(report, person.actor, reason)
        return report

    async def resume(self, person: Person, reason: str) -> Latched:
        """Resume in a person's name."""
        return await self._renewal.resume(person, reason)

    async def state(self) -> dict[str, Any]:
        """Describe the permit, the manager, the rules and the last changes."""
        standing = self._renewal.standing()
        try:
            changes = [switch_as_dict(change) for change in await asyncio.wait_for(self._store.history(), 1.0)]
        except Exception as error:  # the state is worth telling without its history
            changes = [{"error": f"{type(error).__name__}: {error}"}]
        now_s, wall_s = time.monotonic(), time.time()
        return {
            "state": standing.state.name,
            "epoch": standing.epoch,
            "by": standing.actor,
            "reason": standing.reason,
            "since_ns": standing.since_ns,
            "in_office": standing.in_office,
            "renewals": standing.renewals,
            "last_renewal_s": standing.renewed_age_s,
            "trouble": standing.trouble,
            "unlatched_halt": standing.unlatched,
            "word": standing.word,
            "mode": self._context.config.executor.mode,
            "rules": [
                {"outcome": type(outcome).__name__, **{name: getattr(outcome, name) for name in outcome.__slots__}}
                for outcome in self._watch.outcomes(now_s, wall_s)
            ],
            "anomalies": list(self._anomalies),
            "changes": changes,
        }

    # What it hears.

    async def _on_switch(self, message: Msg) -> None:
        """Renew at once on somebody else's halt: the latch says what it is worth."""
        self._renewal.hurry()

    def _on_health(self, message: object, _delivery: object) -> None:
        if isinstance(message, WorkerHealth):
            self._watch.health(message, time.monotonic())

    def _on_pnl(self, message: object, _delivery: object) -> None:
        if isinstance(message, PnlSnapshot):
            self._watch.pnl(message, message.created_ns / NS_PER_S)

    def _on_change(self, latched: Latched) -> None:
        switch = latched.switch
        self._context.log.warning(
            "permit changed", state=latched.state.name, epoch=latched.epoch, actor=switch.actor, reason=switch.reason
        )
        halted = latched.state is PermitState.HALTED
        if self._was_halted and not halted:
            # Whoever resumed accepts what was: the windows begin anew.
            self._watch.restart(time.monotonic())
        self._was_halted = halted

    def _on_trouble(self, trouble: str) -> None:
        if trouble:
            self._context.log.warning("permit not renewed", cause=trouble)
            self._context.health.degraded(f"permit not renewed: {trouble}", cause="permit")
        else:
            self._context.log.info("permit renewed")
            self._context.health.recovered(cause="permit")

    # The rules.

    async def _look(self) -> None:
        """Read the P&L of the drawdown's window, then look at the rules several times a second."""
        if not self._context.config.rules.enabled:
            self._context.log.warning("rules are off: only a person halts")
            await self._context.stopping.wait()
            return
        await self._replay()
        before = boottime_ns()
        while True:
            await asyncio.sleep(_LOOK_S)
            now_ns = boottime_ns()
            if now_ns - before > _STARVED_S * NS_PER_S or not self._context.bus.connected:
                self._watch.deaf(time.monotonic())
            before = now_ns
            standing = self._renewal.standing()
            if not standing.in_office or standing.state is PermitState.HALTED:
                continue
            for broken in self._watch.broken(time.monotonic(), time.time()):
                await self._break(broken)

    async def _look_at_books(self) -> None:
        """Look once a second; while the server does not answer, nothing is measured."""
        while True:
            with suppress(NatsError, OSError, TimeoutError):
                self._watch.books(await look(self._context.bus.js), time.monotonic())
            await asyncio.sleep(_BOOKS_S)

    async def _break(self, broken: Broken) -> None:
        """Stop first, publish and latch second, report third."""
        report = await self._renewal.halt(Rule(broken.rule), broken.detail, causation_id=broken.cause_id)
        self._log_halt(report, broken.rule, broken.detail)
        now_ns = wall_ns()
        anomaly = Anomaly(
            id=deterministic_id("anomaly", broken.rule, broken.subject, report.published, now_ns),
            correlation_id=broken.cause_id,
            causation_id=broken.cause_id,
            created_ns=now_ns,
            producer=NAME,
            severity=Severity.CRITICAL,
            rule=broken.rule,
            measured=broken.measured,
            limit=broken.limit,
            detail=broken.detail,
        )
        self._anomalies.append(anomaly.to_dict())
        # Not awaited: METRICS may be what is broken.
        with suppress(Backlogged, PublishFailed):
            self._context.bus.publish_soon(anomaly).add_done_callback(_forget)

    async def _replay(self) -> None:
        """Read the booked P&L of the drawdown's window, no further back than the last resume."""
        window_s = self._context.config.rules.drawdown_window_s
        try:
            latched = await self._store.read()
        except Exception:  # the renewal says so
            latched = None
        start_ns = wall_ns() - int(window_s * NS_PER_S)
        if latched is not None and latched.state is not PermitState.HALTED:
            start_ns = max(start_ns, latched.switch.created_ns)
        count = 0
        try:
            async for message, _ in self._context.bus.read("METRICS", "metrics.pnl.*", last=_REPLAYED_SNAPSHOTS):
                if isinstance(message, InvalidMessage) or not isinstance(message, PnlSnapshot):
                    continue
                if message.created_ns >= start_ns:
                    self._watch.pnl(message, message.created_ns / NS_PER_S)
                    count += 1
        except Exception as error:
            self._context.log.warning("booked P&L of the past was not read", error=str(error))
        self._context.log.info("watching", snapshots_read=count)

    def _log_halt(self, report: HaltReport, actor: str, reason: str) -> None:
        self._context.log.error(
            "halted",
            actor=actor,
            reason=reason,
            word=report.word.trouble or "halted",
            published=report.publish_trouble or report.published,
            latched=report.latch_trouble or "latched",
        )

    # The control endpoint.

    async def _serve(self) -> None:
        """Open the control endpoint; where its port is taken, say so and try again: renewing matters more."""
        context = self._context
        section = context.config.system_manager
        token = section.token.get_secret_value() or make_token(run_files.run_directory(context.config))
        self._runner = web.AppRunner(application(self, token), access_log=None)
        await self._runner.setup()
        while True:
            site = web.TCPSite(self._runner, section.host, section.port)
            try:
                await site.start()
                break
            except OSError as error:
                context.log.error("control endpoint cannot listen", port=section.port, error=str(error))
                context.health.degraded(
                    f"control endpoint: port {section.port} is taken; set system_manager.port", cause="control"
                )
                await asyncio.sleep(_PORT_RETRY_S)
        context.health.recovered(cause="control")
        port = self._runner.addresses[0][1]
        host = f"[{section.host}]" if ":" in section.host else section.host
        entry = run_files.RunFile("control", this_process(0).pid, context.health.started_ns, f"http://{host}:{port}")
        run_files.write(context.config, entry)
        context.log.info("control endpoint open", url=entry.url)
        await asyncio.Event().wait()


async def run(context: WorkerContext) -> None:
    """Run the system manager."""
    nc = await connect(context.config.nats, f"{NAME} permit", patient=True)
    await SystemManager(context, nc).run()


def _forget(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
