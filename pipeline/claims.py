"""Claims: an effect belongs to whoever created its key first.

The key-value bucket `claims` (pipeline/streams.py) is the one authority on who acts. `create` is compare-and-set on
the server, so of any number of processes, restarts and redeliveries exactly one gets the revision. A claim is kept for
two days after its last write, twice as long as any message that it is for can be delivered again; then the server
removes it. Nothing else removes one: a full bucket refuses new claims, and an effect without a claim does not happen.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, NamedTuple

from nats import errors
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from pipeline.bus.errors import PublishFailed
from pipeline.errors import CheckFailed, Failure

if TYPE_CHECKING:
    from pipeline.bus import Bus

BUCKET = "claims"
_STREAM = f"KV_{BUCKET}"
_KEY = re.compile(r"[A-Za-z0-9_=/-]+(\.[A-Za-z0-9_=/-]+)*")
_WRONG_REVISION = frozenset({10071, 10164})


class ClaimsUnavailable(Failure):
    """The bucket does not answer: nothing is known about the claim, and nothing may be done under it."""


class Claim(NamedTuple):
    """What a key holds, and the revision that the next update must name."""

    value: bytes
    revision: int


class Claims:
    """Create, read and update claims; made by `Claims.open`."""

    def __init__(self, bus: Bus, bucket: KeyValue, timeout_s: float) -> None:
        self._bus = bus
        self._bucket = bucket
        self._timeout_s = timeout_s
        self._instance = uuid.uuid4().hex
        self._writes = 0

    @classmethod
    async def open(cls, bus: Bus, timeout_s: float = 5.0) -> Claims:
        """Open the bucket; raise CheckFailed where the server does not have it."""
        try:
            return cls(bus, await bus.js.key_value(BUCKET), timeout_s)
        except BucketNotFoundError as error:
            raise CheckFailed("there is no bucket for claims", "run `pipeline init-streams`") from error
        except (errors.Error, TimeoutError) as error:
            raise ClaimsUnavailable(f"the bucket for claims does not answer: {error}") from error

    async def create(self, key: str, value: bytes) -> int | None:
        """Claim a key and return its revision; return None where it is claimed already.

        On ClaimsUnavailable the claim may stand all the same: let the value say who claimed it, and `get` it.
        """
        return await self._write(key, value, 0)

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Write over the given revision and return the new one; return None where another write came first."""
        if revision < 1:
            raise ValueError(f"{revision} is no revision: `create` makes the first")
        return await self._write(key, value, revision)

    async def get(self, key: str) -> Claim | None:
        """Return a claim, or None where nobody holds the key."""
        try:
            entry = await self._bucket.get(key)
        except KeyNotFoundError:
            return None
        except (APIError, errors.Error, TimeoutError, OSError) as error:
            raise ClaimsUnavailable(f"claim {key} could not be read: {error}") from error
        assert entry.revision is not None
        return Claim(entry.value or b"", entry.revision)

    async def _write(self, key: str, value: bytes, revision: int) -> int | None:
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"{key!r} is no key: letters, digits, '-', '_', '=', '/' and single dots")
        self._writes += 1
        message_id = f"{self._instance}.{self._writes}"
        try:
            stored = await self._bus.publish_bytes(
                f"$KV.{BUCKET}.{key}",
                value,
                stream=_STREAM,
                message_id=message_id,
                headers={"Nats-Expected-Last-Subject-Sequence": str(revision)},
                timeout_s=self._timeout_s,
                alone=False,
            )
        except PublishFailed as error:
            if error.code in _WRONG_REVISION:
                return await self._own_revision(key, message_id)
            raise ClaimsUnavailable(f"claim {key} was not written: {error.what}", error.fix) from error
        return stored.sequence

    async def _own_revision(self, key: str, message_id: str) -> int | None:
        """Return the revision of a write that was repeated because its acknowledgement was lost; None: another's."""
        try:
            newest = await self._bus.js.get_last_msg(_STREAM, f"$KV.{BUCKET}.{key}", direct=True)
        except NotFoundError:
            return None
        except (APIError, errors.Error, TimeoutError, OSError) as error:
            raise ClaimsUnavailable(f"claim {key} could not be read: {error}") from error
        return newest.seq if (newest.headers or {}).get("Nats-Msg-Id") == message_id else None
