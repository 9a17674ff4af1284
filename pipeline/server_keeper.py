"""The embedded nats-server under supervision: started, restarted with growing pauses, stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum

from pipeline.errors import Failure, UsageFailure
from pipeline.nats_server import MINIMUM_FREE_BYTES, EmbeddedNats, NatsServerError
from pipeline.sections import SupervisorSection

_LOOK_S = 2.0


class State(StrEnum):
    """Where a supervised process stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    """down, started again after the pause"""
    FINISHED = "finished"
    """ended by itself with exit code 0"""
    FAILED = "failed"
    """refused its configuration: started again it would refuse it again"""
    STOPPED = "stopped"


def next_wait_s(section: SupervisorSection, wait_s: float, *, ran_s: float) -> float:
    """Return the pause before the next restart: it doubles, and begins anew after a stable run."""
    if ran_s >= section.stable_s:
        return section.restart_wait_s
    return min(max(wait_s * 2, section.restart_wait_s), section.restart_wait_max_s)


class ServerKeeper:
    """Keep one embedded server alive."""

    def __init__(self, server: EmbeddedNats, section: SupervisorSection, say: Callable[[State, str], None]) -> None:
        """Take a server that is not yet started."""
        self.server = server
        self.restarts = 0
        self._section = section
        self._say = say
        self._wait_s = 0.0
        self._restart_at = 0.0
        self._started_at = 0.0
        self._look_at = 0.0
        self._refusal = ""

    async def start(self) -> str:
        """Start the server and return its address."""
        try:
            await asyncio.to_thread(self.server.start)
        except NatsServerError as error:
            what = f"the embedded NATS server did not start: {error}"
            if error.reason == "port_in_use":
                fix = (
                    "nats.embedded_port=0 takes a free port; nats.url=nats://HOST:PORT uses a server that runs already"
                )
                raise UsageFailure(what, fix) from error
            raise Failure(what) from error
        self._started_at = time.monotonic()
        self._say(State.READY, self.server.url)
        return self.server.url

    async def mind(self) -> None:
        """Look whether it lives, and bring it back when its pause is over."""
        now = time.monotonic()
        if self.server.running:
            await self._look(now)
            return
        if not self._restart_at:
            self._wait_s = next_wait_s(self._section, self._wait_s, ran_s=now - self._started_at)
            self._restart_at = now + self._wait_s
            self._say(State.RESTARTING, f"it died; again in {self._wait_s:.1f} s")
        elif now >= self._restart_at:
            self._restart_at, self._started_at = 0.0, now
            self.restarts += 1
            try:
                await asyncio.to_thread(self.server.start)
            except NatsServerError as error:
                self._say(State.RESTARTING, str(error))
            else:
                self._say(State.READY, self.server.url)

    async def _look(self, now: float) -> None:
        """Restart a server whose disk was full once there is room: by itself it takes no write any more."""
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_S
        known, self._refusal = self._refusal, await asyncio.to_thread(lambda: self.server.refusal)
        if self._refusal and self.server.has_room:
            self._refusal = ""
            await asyncio.to_thread(self.server.kill)
        elif self._refusal and not known:
            room = f"{MINIMUM_FREE_BYTES >> 20} MiB"
            self._say(State.RESTARTING, f"stores nothing; again once {room} are free: {self._refusal}")

    async def stop(self) -> None:
        """Stop it for good."""
        await asyncio.to_thread(self.server.stop)
