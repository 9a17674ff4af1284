"""nats-py's client with a lean path for what is hot: messages in and commands out.

nats-py hands every message to a queue and a task per subscription, and every publish to another queue and a flusher
task; that is about half of its cost per message. Here a subscription may have a plain function that is called from
the read loop, in the order in which the messages came in on the socket, and all commands of one turn of the event
loop leave in one write. Connecting, authentication, TLS, reconnecting and resubscribing stay with nats-py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nats import errors
from nats.aio.client import DEFAULT_FLUSH_TIMEOUT, Client
from nats.aio.subscription import Subscription
from nats.protocol.parser import PERMISSIONS_ERR, STALE_CONNECTION

# subject, reply, payload, raw headers (None or empty where the message has none)
DirectHandler = Callable[[bytes, bytes, bytes, bytes | None], None]

log = logging.getLogger(__name__)


class LeanClient(Client):
    """A NATS connection with direct subscriptions and batched writes."""

    def __init__(self) -> None:
        super().__init__()
        self._direct: dict[int, DirectHandler] = {}
        self._write_scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def subscribe_direct(self, subject: str, handler: DirectHandler, queue: str = "") -> Subscription:
        """Subscribe a plain function, called from the read loop; what is published from now on reaches it."""
        sid = self._sid + 1  # registered before the server can answer
        self._direct[sid] = handler
        subscription = await self.subscribe(subject, queue=queue)
        assert subscription._id == sid, "nats-py numbers subscriptions otherwise than expected"
        if self.is_connected:
            with suppress(errors.Error):  # a connection lost now subscribes again when it is back
                await self.flush(2)
        return subscription

    async def unsubscribe_direct(self, subscription: Subscription) -> None:
        """End a direct subscription; what is already in the socket's buffer is ignored."""
        self._direct.pop(subscription._id, None)
        if not self.is_closed and not self.is_draining:
            await subscription.unsubscribe()

    def send(self, command: bytes) -> bool:
        """Send a protocol command with all others of this turn of the loop; return False while not connected."""
        if self._status != Client.CONNECTED:
            return False
        self._pending.append(command)
        self._pending_data_size += len(command)
        if not self._write_scheduled:
            self._write_scheduled = True
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._write_pending)
        return True

    def _write_pending(self) -> None:
        self._write_scheduled = False
        if not self._pending or self._transport is None or self._status != Client.CONNECTED:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_data_size = 0
        try:
            self._transport.write(data)
        except (OSError, RuntimeError) as error:  # the read loop sees the same and reconnects
            log.debug("write failed: %s", error)

    # What follows overrides nats-py's own steps; a test holds them to the version in use.

    async def flush(self, timeout: int = DEFAULT_FLUSH_TIMEOUT) -> None:
        """Wait until the server has read all that was sent before."""
        # nats-py writes its PING at once, and what was sent before may still wait for its flusher.
        self._write_pending()
        await super().flush(timeout)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        handler = self._direct.get(sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        try:
            handler(subject, reply, data, headers)
        except Exception:  # a fault of ours must not end nats-py's read loop
            log.exception("a message on %s could not be taken", subject.decode())

    async def _process_pong(self) -> None:
        # nats-py sets the result of a flush that may have given up meanwhile, and its read loop dies of the error.
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
            self._pings_outstanding = 0
            return
        await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        # nats-py closes for good on most errors of the server ("slow consumer", "server shutdown"); we reconnect.
        if STALE_CONNECTION in err_msg or PERMISSIONS_ERR in err_msg:
            await super()._process_err(err_msg)
            return
        self._err = errors.Error(f"nats: {err_msg.strip(chr(39))}")
        await self._error_cb(self._err)
        await self._process_op_err(self._err)
