"""How any connection of ours introduces itself to the server: name, login and patience, in one place."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.sections import NatsSection


def connection_name(settings: NatsSection, role: str) -> str:
    """Return the name under which the server reports a connection."""
    return f"{settings.name}/{role}@{socket.gethostname()}:{os.getpid()}"


def client_options(settings: NatsSection, role: str) -> dict[str, Any]:
    """Return what every nats-py client is connected with; times in seconds."""
    return {
        "servers": [url.strip() for url in settings.url.split(",")],
        "name": connection_name(settings, role),
        "user": settings.user or None,
        "password": settings.password.get_secret_value() or None,
        "token": settings.token.get_secret_value() or None,
        "user_credentials": Path(settings.credentials_file).expanduser() if settings.credentials_file else None,
        "connect_timeout": settings.connect_timeout_s,
        "reconnect_time_wait": settings.reconnect_wait_s,
    }
