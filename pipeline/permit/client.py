"""The connection of those who set the permit: the system manager, and `pipeline halt` and `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nats.aio.client import Client

from pipeline.permit.link import connection_name

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
        servers=[url.strip() for url in settings.url.split(",")],
        name=connection_name(settings, role),
        user=settings.user or None,
        password=settings.password.get_secret_value() or None,
        token=settings.token.get_secret_value() or None,
        user_credentials=Path(settings.credentials_file) if settings.credentials_file else None,
        connect_timeout=settings.connect_timeout_s,  # type: ignore[arg-type]
        allow_reconnect=patient,
        max_reconnect_attempts=-1 if patient else 1,
        reconnect_time_wait=settings.reconnect_wait_s,  # type: ignore[arg-type]
        ping_interval=1,
        max_outstanding_pings=2,
        pending_size=0,
        error_cb=ignore,
    )
    return client
