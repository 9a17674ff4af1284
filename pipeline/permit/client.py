"""The connection of those who set the permit: the system manager, and `pipeline halt` and `resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats.aio.client import Client

from pipeline.nats_options import client_options

if TYPE_CHECKING:
    from pipeline.sections import NatsSection

__all__ = ["connect"]


async def connect(settings: NatsSection, role: str, *, patient: bool) -> Client:
    """Connect once, or raise; a `patient` connection comes back by itself when it is lost, for ever.

    Nothing published while it is away is kept: what is said about the permit is true now or not at all.
    """
    client = Client()

    async def ignore(_: Exception) -> None:
        """Leave it to the caller, who sees the failing call."""

    await client.connect(
        **client_options(settings, role),
        allow_reconnect=patient,
        max_reconnect_attempts=-1 if patient else 1,
        ping_interval=1,
        max_outstanding_pings=2,
        pending_size=0,
        error_cb=ignore,
    )
    return client
