"""The six streams and the two key-value buckets as data, and what brings a server in line with them.

The table is the one home of every stream's subjects, limits and description. `reconcile` creates what is missing,
repairs what has drifted and reports what cannot be changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nats.errors import NoRespondersError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StoreCompression, StreamConfig
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

MIB = 1 << 20
GIB = 1 << 30
MINUTE_S = 60
HOUR_S = 3_600
DAY_S = 86_400
MAX_PAYLOAD = 4 * MIB  # as in compose/nats.conf; a test compares them


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream, or the stream under one key-value bucket."""

    name: str
    subjects: tuple[str, ...]
    description: str
    storage: Literal["file", "memory"]
    max_age_s: int
    max_bytes: int
    duplicate_window_s: int = 2 * MINUTE_S
    written_by: str = ""
    read_by: str = ""
    bucket: str = ""
    history: int = 0

    def config(self, replicas: int) -> StreamConfig:
        """Return the server's form of this row."""
        metadata = {"project": "arbitrage-pipeline", "written-by": self.written_by, "read-by": self.read_by}
        common: dict[str, Any] = {
            "name": self.name,
            "subjects": list(self.subjects),
            "description": self.description,
            "storage": StorageType(self.storage),
            "retention": RetentionPolicy.LIMITS,
            "max_age": float(self.max_age_s),
            "max_bytes": self.max_bytes,
            "max_msgs": -1,
            "max_consumers": -1,
            "max_msg_size": -1,
            "duplicate_window": float(self.duplicate_window_s),
            "num_replicas": replicas,
            "allow_direct": True,
            "allow_atomic": True,  # publishers under load store messages in batches, with one sync
            "compression": StoreCompression.NONE,
            "metadata": metadata,
        }
        if self.bucket:
            # What every NATS client expects of a bucket's stream. Full means refused: a claim or a latch is never
            # pushed out.
            return StreamConfig(
                **common,
                discard=DiscardPolicy.NEW,
                max_msgs_per_subject=self.history,
                allow_rollup_hdrs=True,
                deny_delete=True,
            )
        return StreamConfig(**common, discard=DiscardPolicy.OLD, max_msgs_per_subject=-1)


STREAMS: tuple[StreamSpec, ...] = (
    StreamSpec(
        name="OPPORTUNITIES",
        subjects=("opportunity.>",),
        description="What the scanner found: cycles that would have paid at the quotes they were found in",
        storage="file",
        max_age_s=HOUR_S,
        max_bytes=512 * MIB,
        written_by="scanner",
        read_by="planner, market",
    ),
    StreamSpec(
        name="PLANNED",
        subjects=("planned.>",),
        description="What the planner decided: plans, and refusals with their reasons",
        storage="file",
        max_age_s=DAY_S,
        max_bytes=GIB,
        written_by="planner",
        read_by="executor, planner, market",
    ),
    StreamSpec(
        name="EXECUTED",
        subjects=("executed.>",),
        description="What became of the plans: one result each",
        storage="file",
        max_age_s=7 * DAY_S,
        max_bytes=2 * GIB,
        written_by="executor",
        read_by="auditor, planner, market",
    ),
    StreamSpec(
        name="MARKET_DATA",
        subjects=("market_data.>",),
        description="The market as it is: quotes, pool states, book deltas and the market's clock",
        storage="memory",
        max_age_s=5 * MINUTE_S,
        max_bytes=256 * MIB,
        written_by="market, quote_core",
        read_by="quote_core, executor",
    ),
    StreamSpec(
        name="METRICS",
        subjects=("metrics.>",),
        description="How the pipeline is doing: health, scans, P&L, anomalies and dead letters",
        storage="file",
        max_age_s=DAY_S,
        max_bytes=512 * MIB,
        written_by="every worker",
        read_by="system_manager, market, operator",
    ),
    StreamSpec(
        name="SYSTEM",
        subjects=("system.>",),
        description="Who may trade: kill switch, permit and commands",
        storage="memory",
        max_age_s=MINUTE_S,
        max_bytes=16 * MIB,
        duplicate_window_s=MINUTE_S,
        written_by="system_manager, operator",
        read_by="every worker",
    ),
)

BUCKETS: tuple[StreamSpec, ...] = (
    StreamSpec(
        name="KV_claims",
        bucket="claims",
        subjects=("$KV.claims.>",),
        description="Effects claimed by id before they happen; kept for twice as long as the plans",
        storage="file",
        history=1,
        max_age_s=2 * DAY_S,
        max_bytes=GIB,
        written_by="executor",
        read_by="executor",
    ),
    StreamSpec(
        name="KV_permit",
        bucket="permit",
        subjects=("$KV.permit.>",),
        description="The latched state of the kill switch with its last 64 changes; kept for ever",
        storage="file",
        history=64,
        max_age_s=0,
        max_bytes=16 * MIB,
        written_by="system_manager, operator",
        read_by="every worker",
    ),
)

TABLE: tuple[StreamSpec, ...] = STREAMS + BUCKETS


def spec_of(name: str) -> StreamSpec:
    """Return the row of a stream by name, in any case."""
    for spec in TABLE:
        if name.upper() in (spec.name.upper(), spec.bucket.upper() or None):
            return spec
    raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the table and the server, and what was done about it."""

    stream: str
    action: Literal["create", "update", "cannot_change"]
    field: str = ""
    was: object = None
    wanted: object = None
    advice: str = ""
    done: bool = False

    def __str__(self) -> str:
        """Return the change as one line."""
        if self.action == "create":
            return f"{self.stream}: {'created' if self.done else 'missing'}"
        line = f"{self.stream}.{self.field}: {_shown(self.was)} -> {_shown(self.wanted)}"
        if self.action == "cannot_change":
            return f"{line}: cannot be changed in place; {self.advice}"
        return line if self.done else f"{line} (drifted)"


_COMPARED = (
    *(
        "subjects",
        "description",
        "storage",
        "retention",
        "discard",
        "max_age",
        "max_bytes",
        "max_msgs",
        "max_msgs_per_subject",
    ),
    *(
        "max_msg_size",
        "max_consumers",
        "duplicate_window",
        "num_replicas",
        "allow_direct",
        "allow_atomic",
        "allow_rollup_hdrs",
        "deny_delete",
    ),
    *("deny_purge", "no_ack", "sealed", "compression", "metadata"),
)
_FIXED = frozenset({"storage", "retention", "max_consumers", "deny_delete", "deny_purge", "sealed"})


async def reconcile(
    js: JetStreamContext,
    replicas: int = 1,
    *,
    check: bool = False,
    report: Callable[[Change], None] | None = None,
    table: Iterable[StreamSpec] = TABLE,
) -> list[Change]:
    """Bring the server's streams and buckets in line with the table and return each change; with `check`, change
    nothing.

    Running it again returns an empty list. A change that the server does not allow in place is returned with
    `cannot_change` and with what to do; everything else of that stream is repaired all the same.
    """
    changes: list[Change] = []
    for spec in table:
        found = await _reconcile_one(js, spec, replicas, check)
        for change in found:
            if report is not None:
                report(change)
        changes += found
    return changes


async def _reconcile_one(js: JetStreamContext, spec: StreamSpec, replicas: int, check: bool) -> list[Change]:
    wanted = spec.config(replicas)
    try:
        present = (await js.stream_info(spec.name)).config
    except NotFoundError:
        if check:
            return [Change(spec.name, "create")]
        try:
            await js.add_stream(wanted)
        except APIError as error:
            return [Change(spec.name, "cannot_change", "stream", None, "created", _advice(spec, error))]
        return [Change(spec.name, "create", done=True)]

    different = [name for name in _COMPARED if _value(present, name) != _value(wanted, name)]
    fixed = [name for name in different if name in _FIXED]
    changes = [
        Change(
            spec.name,
            "cannot_change",
            name,
            _value(present, name),
            _value(wanted, name),
            f"back it up, delete it and create it again: `nats stream backup {spec.name} DIR`, "
            f"`nats stream rm {spec.name}`, `pipeline init-streams`, `nats stream restore DIR`",
        )
        for name in fixed
    ]
    loose = [name for name in different if name not in _FIXED]
    if loose and not check:
        refused = await _update(js, present, wanted, loose)
        changes += [
            Change(spec.name, "cannot_change", n, _value(present, n), _value(wanted, n), _advice(spec, error))
            for n, error in refused.items()
        ]
        loose = [name for name in loose if name not in refused]
    return changes + [
        Change(spec.name, "update", n, _value(present, n), _value(wanted, n), done=not check) for n in loose
    ]


async def _update(
    js: JetStreamContext, present: StreamConfig, wanted: StreamConfig, names: list[str]
) -> dict[str, APIError]:
    """Set the named fields, all at once or else one by one; return what the server refused."""
    values = {name: getattr(wanted, name) for name in names}
    # Keys that the server itself keeps in the metadata (_nats.*) stay.
    if "metadata" in values:
        kept = {key: value for key, value in (present.metadata or {}).items() if key.startswith("_nats.")}
        values["metadata"] = {**kept, **(wanted.metadata or {})}
    try:
        await js.update_stream(present.evolve(**values))
    except APIError as error:
        if len(names) == 1:
            return {names[0]: error}
    else:
        return {}
    refused: dict[str, APIError] = {}
    for name, value in values.items():
        try:
            present = (await js.update_stream(present.evolve(**{name: value}))).config
        except APIError as error:
            refused[name] = error
    return refused


def _value(config: StreamConfig, name: str) -> object:
    """Return one field in a form that compares: absent and default are the same thing."""
    value = getattr(config, name)
    match name:
        case "metadata":
            return {key: text for key, text in (value or {}).items() if not key.startswith("_nats.")}
        case "subjects":
            return sorted(value or [])
        case "max_msgs" | "max_consumers" | "max_msg_size" | "max_bytes" | "max_msgs_per_subject":
            return value or -1
        case "storage" | "retention" | "discard" | "compression":
            return str(getattr(value, "value", value) or "none")
        case "max_age" | "duplicate_window":
            return float(value or 0)
        case "allow_direct" | "allow_atomic" | "allow_rollup_hdrs" | "deny_delete" | "deny_purge" | "no_ack" | "sealed":
            return bool(value)
        case "description":
            return value or ""
    return value


def _advice(spec: StreamSpec, error: APIError) -> str:
    said = error.description or str(error)
    match error.err_code:
        case 10065:
            subjects = ", ".join(spec.subjects)
            return f"another stream holds its subjects ({subjects}): `nats stream ls --subjects` shows which; {said}"
        case 10074 | 10005:
            return f"this server is no cluster of enough peers: set streams.replicas = 1 or add servers; {said}"
        case 10028 | 10047 | 10022 | 10023:
            return f"JetStream limits too low, or the disk is full: see max_file_store in nats.conf; {said}"
    return said


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={text}" for key, text in sorted(value.items())) + "}"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


async def missing_streams(js: JetStreamContext) -> list[str]:
    """Return the names of the table that the server does not have; raise ConnectionError where it has no JetStream at
    all."""
    missing = []
    for spec in TABLE:
        try:
            await js.stream_info(spec.name)
        except NotFoundError:
            missing.append(spec.name)
        except (NoRespondersError, ServiceUnavailableError) as error:
            raise ConnectionError("the server runs without JetStream: start it with compose/nats.conf") from error
    return missing
