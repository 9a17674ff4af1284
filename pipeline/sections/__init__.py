"""The sections of the configuration: one frozen model each, values and comments in `config/default.toml`.

To add a key: a field here (with its bounds) and its value in `config/default.toml`; a test holds the two together.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.redact import hide_password
from pipeline.sections.base import Bps, Name, Natural, Port, Positive, Ratio, Seconds, Section, is_loopback
from pipeline.sections.discovery import DiscoverySection
from pipeline.sections.external import ExternalSection
from pipeline.sections.quoting import OracleSection, RoutesSection, ServeSection
from pipeline.sections.rpc import LocalnetSection, RpcSection
from pipeline.sections.trading import BlockEngineSection, ExecutorSection, TipSection, WalletsSection


class NatsSection(Section):
    """The NATS server and how it is reached."""

    url: str
    name: Name
    user: str
    password: SecretStr
    token: SecretStr
    credentials_file: str
    connect_timeout_s: Seconds
    reconnect_wait_s: Seconds
    reconnect_wait_max_s: Seconds
    publish_timeout_s: Seconds
    publish_deadline_s: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]  # shorter than the duplicate window
    max_pending: Positive
    max_in_flight: Positive
    ack_wait_s: Annotated[float, Field(ge=0.3, le=600, allow_inf_nan=False)]
    max_attempts: Positive
    retry_wait_s: Seconds
    retry_wait_max_s: Seconds
    embedded_port: Port
    embedded_store: str

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        """Accept `embedded` or a list of server addresses."""
        if url == "embedded":
            return url
        for part in url.split(","):
            if part.strip().split("://")[0] not in ("nats", "tls", "ws", "wss") or "://" not in part:
                raise ValueError(
                    'must be "embedded" or addresses like nats://host:4222 (nats, tls, ws, wss), comma-separated'
                )
        return url

    @property
    def shown_url(self) -> str:
        """Return the address without passwords."""
        return hide_password(self.url)

    @property
    def embedded(self) -> bool:
        """Tell whether `pipeline up` starts the server itself."""
        return self.url == "embedded"


class StreamsSection(Section):
    """The six streams: what differs from one installation to the next."""

    replicas: Annotated[int, Field(ge=1, le=5)]


class ShmSection(Section):
    """Shared memory between the workers of one host."""

    directory: str
    namespace: Name


class MarketSection(Section):
    """The offline market."""

    source: Literal["offline", "recorded"]
    recorded_path: str
    seed: Natural
    slot_ms: Positive
    paced: bool
    lockstep: bool
    slots: Natural
    barrier_timeout_s: Seconds
    keyframe_s: Seconds


class QuoteCoreSection(Section):
    """The quote core: which amounts are quoted, and how large its tables are."""

    amounts: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=64)]
    source: Literal["stream", "rpc"]
    rerate_ms: Positive
    external_max_age_ms: Positive
    capacity: Annotated[int, Field(ge=16, le=65_536)]
    ring: Annotated[int, Field(ge=16, le=65_536)]
    publish_quotes: bool


class ScannerSection(Section):
    """The scanner: what cycles cost, and how far their quotes are trusted."""

    enabled: bool
    settlement: Annotated[tuple[Literal["SOL", "USDC"], ...], Field(min_length=1)]
    expires_ms: Positive
    max_opportunities: Positive
    lamports_per_signature: Natural
    signatures: Positive
    compute_units: Natural
    compute_units_per_swap: Natural
    micro_lamports_per_unit: Natural


class TokenLimitsSection(Section):
    """What the planner allows for cycles of one token, in its base units."""

    min_amount_in: Positive
    max_amount_in: Positive
    min_profit: Positive
    max_open: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        """Refuse a range that nothing can be in."""
        if self.min_amount_in > self.max_amount_in:
            raise ValueError(
                f"min_amount_in ({self.min_amount_in}) must not be over max_amount_in ({self.max_amount_in})"
            )
        return self


class RiskSection(Section):
    """The four-factor risk score: weights, where a factor is full, and the highest score that is planned."""

    age_weight: Ratio
    profit_weight: Ratio
    confidence_weight: Ratio
    slippage_weight: Ratio
    too_good_profit_bps: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
    max_score: Ratio

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        """Keep the score within 0..1."""
        total = self.age_weight + self.profit_weight + self.confidence_weight + self.slippage_weight
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the four weights must sum to 1, not to {total:g}")
        return self


class PlannerSection(Section):
    """The planner's checks and limits."""

    enabled: bool
    max_in_flight: Positive
    max_age_ms: Positive
    max_quote_age_ms: Positive
    min_confidence: Ratio
    min_profit_bps: Bps
    max_price_impact_bps: Bps
    verify_profit_ratio: Ratio
    cautious_amount_ratio: Ratio
    blacklist: tuple[str, ...]
    max_plans: Positive
    window_ms: Positive
    rebuild_messages: Positive
    sol: TokenLimitsSection
    usdc: TokenLimitsSection
    risk: RiskSection


class AuditorSection(Section):
    """The auditor's books."""

    database_url: SecretStr
    starting_capital_lamports: Positive
    batch: Positive
    plan_grace_s: Seconds
    walk_s: Seconds


class PermitSection(Section):
    """The permit's lease."""

    renew_ms: Positive
    lease_ms: Annotated[int, Field(gt=0, le=10_000)]
    shared_memory: Literal["auto", "required", "off"]

    @model_validator(mode="after")
    def _lease_outlives_renewal(self) -> Self:
        """Hold the lease longer than two renewals, so that one lost message does not stop trading."""
        if self.lease_ms < 2 * self.renew_ms:
            raise ValueError(f"lease_ms ({self.lease_ms}) must be at least twice renew_ms ({self.renew_ms})")
        return self


class RulesSection(Section):
    """When the system manager halts by itself."""

    enabled: bool
    error_ratio: Ratio
    error_window_s: Seconds
    error_min_messages: Positive
    drawdown_ratio: Ratio
    drawdown_window_s: Seconds
    drawdown_min_executions: Positive
    rpc_failure_ratio: Ratio
    rpc_window_s: Seconds
    rpc_min_calls: Positive
    memory_ratio: Ratio
    memory_window_s: Seconds
    memory_min_reports: Positive
    silent_s: Seconds
    silent_min_reports: Positive
    unbooked_s: Seconds


class SystemManagerSection(Section):
    """The system manager's control endpoint."""

    host: str
    port: Port
    token: SecretStr

    @field_validator("host")
    @classmethod
    def _loopback(cls, host: str) -> str:
        """Accept an address of this host alone: whoever reaches the endpoint and knows the token can resume trading."""
        if host != "localhost" and not is_loopback(host):
            raise ValueError("must be a loopback address, such as 127.0.0.1; reach it from elsewhere through a tunnel")
        return host

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr) -> SecretStr:
        """Accept no token, or one that cannot be guessed."""
        if token.get_secret_value() and len(token.get_secret_value()) < 16:
            raise ValueError("must have at least 16 characters, or be empty: then one is made at the start")
        return token


class TelemetrySection(Section):
    """Logs, metrics and traces."""

    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["json", "console"]
    http_host: str
    http_port_base: Port
    otlp_endpoint: str
    trace_sample_ratio: Ratio

    @field_validator("otlp_endpoint")
    @classmethod
    def _http(cls, url: str) -> str:
        """Accept an HTTP address, or nothing."""
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must be empty (no traces) or an address like http://host:4318")
        return url


class WorkerSection(Section):
    """The life of a worker process."""

    run_dir: str
    data_dir: str
    drain_s: Seconds
    health_s: Seconds
    memory_limit_bytes: Natural
    uvloop: bool


class SupervisorSection(Section):
    """How `pipeline up` keeps the workers alive."""

    workers: tuple[Name, ...]
    ready_timeout_s: Seconds
    restart_wait_s: Seconds
    restart_wait_max_s: Seconds
    stable_s: Seconds
    stop_timeout_s: Seconds


class Config(Section):
    """The whole configuration."""

    nats: NatsSection
    streams: StreamsSection
    shm: ShmSection
    market: MarketSection
    quote_core: QuoteCoreSection
    discovery: DiscoverySection
    external: ExternalSection
    oracle: OracleSection
    routes: RoutesSection
    serve: ServeSection
    rpc: RpcSection
    localnet: LocalnetSection
    scanner: ScannerSection
    planner: PlannerSection
    executor: ExecutorSection
    tip: TipSection
    wallets: WalletsSection
    block_engine: BlockEngineSection
    auditor: AuditorSection
    permit: PermitSection
    rules: RulesSection
    system_manager: SystemManagerSection
    telemetry: TelemetrySection
    worker: WorkerSection
    supervisor: SupervisorSection

    @property
    def shm_directory(self) -> Path:
        """Return the directory of the shared-memory files."""
        return Path(self.shm.directory or f"/dev/shm/pipeline-{self.shm.namespace}")

    @property
    def data_directory(self) -> Path:
        """Return the directory of what outlives a run: the embedded server's store, the auditor's SQLite file."""
        if self.worker.data_dir:
            return Path(self.worker.data_dir).expanduser()
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
        return Path(base).expanduser() / f"pipeline-{self.shm.namespace}"

    @property
    def database_url(self) -> str:
        """Return the auditor's database address: the configured one, or SQLite in the data directory."""
        given = self.auditor.database_url.get_secret_value()
        return given or f"sqlite:///{self.data_directory / 'pipeline.sqlite3'}"

    @property
    def run_directory(self) -> Path:
        """Return the directory of run files: ports, logs, the embedded server's address."""
        if self.worker.run_dir:
            return Path(self.worker.run_dir).expanduser()
        base = os.environ.get("XDG_RUNTIME_DIR") or f"{tempfile.gettempdir()}/pipeline-{os.getuid()}"
        return Path(base) / f"pipeline-{self.shm.namespace}"
