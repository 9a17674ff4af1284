"""`/healthz`, `/readyz` and `/metrics` of one worker."""

from __future__ import annotations

import json
import os
import socket

from aiohttp import web

from pipeline.errors import UsageFailure
from pipeline.health import Health, metrics_page
from pipeline.messages import WorkerState
from pipeline.sections import TelemetrySection

# Added to telemetry.http_port_base. A name that is not here gets a free port.
PORT_OFFSETS = {
    name: offset
    for offset, name in enumerate(
        (
            *("system_manager", "auditor", "executor", "planner", "quote_core", "scanner", "market"),
            *("initializer", "collector", "notifier", "event_logger", "gateway", "providers"),
        )
    )
}


def port_of(worker: str, base: int) -> int:
    """Return the worker's port; 0 stands for a free one."""
    return base + PORT_OFFSETS[worker] if base and worker in PORT_OFFSETS else 0


class HealthServer:
    """HTTP server of one worker, on loopback unless configured otherwise."""

    def __init__(self, health: Health, section: TelemetrySection) -> None:
        """Prepare the routes; `start` binds the port."""
        self._health = health
        self._section = section
        self._runner: web.AppRunner | None = None

    async def start(self, worker: str) -> str:
        """Bind the port and return the server's address."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        host, port = self._section.http_host, port_of(worker, self._section.http_port_base)
        try:
            await web.TCPSite(self._runner, host, port, reuse_address=True).start()
        except OSError as error:
            raise UsageFailure(
                f"cannot serve health on {host}:{port}: {os.strerror(error.errno) if error.errno else error}",
                f"end what holds the port (`ss -ltnp 'sport = :{port}'`), "
                "or choose other ports: telemetry.http_port_base (0 = free ports)",
            ) from None
        bound = self._runner.addresses[0]
        shown = "127.0.0.1" if bound[0] == "0.0.0.0" else bound[0]
        return f"http://[{shown}]:{bound[1]}" if ":" in shown else f"http://{shown}:{bound[1]}"

    async def stop(self) -> None:
        """Close the server; connections that are open end within a second."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, _request: web.Request) -> web.Response:
        """Answer while the event loop turns: a liveness probe."""
        return self._answer(200)

    async def _readyz(self, _request: web.Request) -> web.Response:
        """Answer 200 while the worker does its work and nothing it depends on is missing."""
        return self._answer(200 if self._health.state is WorkerState.READY else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        page, content_type = metrics_page(self._health)
        return web.Response(body=page, headers={"Content-Type": content_type})

    def _answer(self, status: int) -> web.Response:
        health = self._health
        body = {
            "worker": health.worker,
            "instance": health.instance,
            "state": WorkerState(health.state).name,
            "detail": health.detail,
            "host": socket.gethostname(),
        }
        return web.Response(text=json.dumps(body), status=status, content_type="application/json")
