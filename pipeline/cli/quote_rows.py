"""The quote tables in shared memory as rows for people: who gives most for an amount, computed here and asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from pathlib import Path

from pipeline.clock import wall_ns
from pipeline.errors import BadData, Refused, Unreachable
from pipeline.messages import ConfidenceBand, Protocol, Staleness, enum_name
from pipeline.shm import (
    QUOTE_VOID,
    QUOTES_EXTERNAL,
    QUOTES_INTERNAL,
    QuoteEntry,
    QuoteTable,
    SharedMemoryDenied,
    SharedMemoryError,
    SharedMemoryMissing,
)

RATE_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Tokens:
    """What makes amounts readable: symbols and decimals by mint."""

    symbols: Mapping[str, str]
    decimals: Mapping[str, int]

    def symbol(self, mint: str) -> str:
        """Return a mint's symbol, or the mint, shortened."""
        return self.symbols.get(mint) or (f"{mint[:4]}..{mint[-4:]}" if len(mint) > 12 else mint)

    def amount(self, mint: str, amount: int) -> str:
        """Return an amount in whole tokens with its symbol, or in base units where the decimals are not known."""
        decimals = self.decimals.get(mint)
        if decimals is None:
            return f"{amount:,} base units of {self.symbol(mint)}"
        shown = f"{Decimal(amount).scaleb(-decimals):,f}"
        return f"{shown.rstrip('0').rstrip('.') if '.' in shown else shown} {self.symbol(mint)}"

    def rate(self, token_in: str, token_out: str, amount_in: int, amount_out: int) -> str:
        """Return whole tokens received per whole token given, or nothing where the decimals are not known."""
        decimals_in, decimals_out = self.decimals.get(token_in), self.decimals.get(token_out)
        if decimals_in is None or decimals_out is None or not amount_in:
            return ""
        rate = Decimal(amount_out).scaleb(-decimals_out) / Decimal(amount_in).scaleb(-decimals_in)
        return f"{rate.normalize(Context(prec=RATE_DIGITS)):f}"


@dataclass(frozen=True, slots=True)
class Side:
    """The best quote of one kind."""

    kind: str
    """internal: computed here from a pool; external: a provider's answer."""
    source: str
    """Pool address, or the provider's name."""
    protocol: str
    amount_out: int
    rate: str
    confidence: float
    band: str
    factors: dict[str, float]
    age_s: float
    staleness: str
    price_impact_bps: float
    oracle_bps: float | None
    """How much more (or less) than the oracle's price it gives; None without one."""
    hops: int
    slot: int
    route: str
    others: int
    """How many more sources of this kind gave a quote."""

    @property
    def score(self) -> float:
        """Return the confidence-weighted output."""
        return self.amount_out * self.confidence


@dataclass(frozen=True, slots=True)
class QuoteRow:
    """One direction and amount."""

    pair: str
    token_in: str
    token_out: str
    amount_in: int
    internal: Side | None
    external: Side | None

    @property
    def best(self) -> str:
        """Return which of the two is better by confidence-weighted output."""
        if self.internal is None or self.external is None:
            return "external" if self.external else "internal"
        return "external" if self.external.score > self.internal.score else "internal"


@dataclass(frozen=True, slots=True)
class Writer:
    """How the process that writes the tables is."""

    alive: bool
    pid: int
    silent_s: float
    """Since its last sign of life."""
    slot: int
    market_ns: int
    void: int
    """Quotes that no pool gives at present."""


@dataclass(frozen=True, slots=True)
class Board:
    """Everything that the tables say at one moment."""

    writer: Writer
    rows: tuple[QuoteRow, ...]
    pairs: tuple[str, ...]
    """Every pair that the tables know."""


def open_table(path: Path) -> QuoteTable:
    """Open a quote table.

    Raises:
        Failure: saying why there is none to be read.
    """
    try:
        return QuoteTable(path)
    except SharedMemoryMissing:
        raise Unreachable(
            f"no quote core has written here: {path} does not exist",
            "start one with `pipeline up`, or name its files with --set shm.namespace=NAME",
        ) from None
    except SharedMemoryDenied as error:
        raise Refused(f"{path} cannot be read: {error}", "run this as the user that runs the quote core") from None
    except SharedMemoryError as error:
        raise BadData(f"{path} cannot be read: {error}", "restart the quote core: it replaces its own files") from None


class Boards:
    """Both tables, opened once and looked at often."""

    def __init__(self, directory: Path, tokens: Tokens, *, clock: Callable[[], int] = wall_ns) -> None:
        """Open them; the table of external quotes may be missing.

        Raises:
            Failure: if the table of internal quotes cannot be read.
        """
        self._directory, self._tokens, self._clock = directory, tokens, clock
        self.internal = open_table(directory / QUOTES_INTERNAL)
        try:
            self._external: QuoteTable | None = QuoteTable(directory / QUOTES_EXTERNAL)
        except SharedMemoryError:
            self._external = None

    def reopened(self) -> Boards:
        """Return these, or the files that have taken their names since."""
        replaced = self.internal.replaced or (self._external is not None and self._external.replaced)
        return Boards(self._directory, self._tokens, clock=self._clock) if replaced or self._external is None else self

    def look(self, pair: str | None = None, amounts: str = "middle") -> Board:
        """Return the present quotes of one pair or of all; `amounts` is `middle` (of each direction) or `all`."""
        table = self.internal
        inside, void = self._sides("internal", table, pair)
        outside, _ = self._sides("external", self._external, pair) if self._external is not None else ({}, 0)
        keys = sorted(inside.keys() | outside.keys(), key=self._order)
        if amounts == "middle":
            keys = _middle(keys, inside)
        rows = tuple(
            QuoteRow(*key, _best(inside.get(key, ())), _best(outside.get(key, ())))
            for key in keys
            if key in inside or key in outside
        )
        writer = Writer(
            alive=table.writer_alive,
            pid=table.writer_pid,
            silent_s=table.heartbeat_age_ns / 1e9,
            slot=table.slot,
            market_ns=table.market_ns,
            void=void,
        )
        return Board(writer, rows, tuple(sorted(table.names("pair"))))

    def _order(self, key: tuple[str, str, str, int]) -> tuple[str, bool, str, int]:
        """Sort by pair, what is given of its first token before what is given of its second."""
        pair, token_in, _, amount = key
        return pair.lower(), self._tokens.symbol(token_in) != pair.partition("/")[0], token_in, amount

    def _sides(
        self, kind: str, table: QuoteTable, pair: str | None
    ) -> tuple[dict[tuple[str, str, str, int], list[Side]], int]:
        """Return the quotes of a table by direction and amount, and how many are void."""
        snapshot = table.snapshot()
        elapsed_ns = max(0, self._clock() - snapshot.committed_ns) if snapshot.committed_ns else 0
        found: dict[tuple[str, str, str, int], list[Side]] = {}
        void = 0
        for index in range(len(snapshot)):
            entry = snapshot[index]
            if entry is None:
                continue
            name = table.name("pair", entry.pair) or ""
            if pair is not None and name != pair:
                continue
            if entry.void or entry.staleness == QUOTE_VOID or not entry.amount_out:
                void += 1
                continue
            token_in, token_out = table.name("token", entry.token_in) or "", table.name("token", entry.token_out) or ""
            age_ns = max(0, snapshot.market_ns - entry.quoted_ns) + elapsed_ns
            side = self._side(kind, table, entry, (token_in, token_out), age_ns)
            found.setdefault((name, token_in, token_out, entry.amount_in), []).append(side)
        return found, void

    def _side(self, kind: str, table: QuoteTable, entry: QuoteEntry, tokens: tuple[str, str], age_ns: int) -> Side:
        pool = table.name("pool", entry.pool) if entry.pool else None
        worth = entry.oracle_amount_out
        names = ("age", "hops", "oracle", "provider", "slippage")
        return Side(
            kind=kind,
            source=pool or table.name("provider", entry.provider) or "",
            protocol=enum_name(_named(Protocol, entry.protocol)).lower(),
            amount_out=entry.amount_out,
            rate=self._tokens.rate(*tokens, entry.amount_in, entry.amount_out),
            confidence=entry.confidence,
            band=enum_name(_named(ConfidenceBand, entry.band)).lower(),
            factors=dict(zip(names, entry.factors, strict=True)),
            age_s=age_ns / 1e9,
            staleness=enum_name(_named(Staleness, entry.staleness)).lower().replace("_", " "),
            price_impact_bps=entry.price_impact_bps,
            oracle_bps=(entry.amount_out / worth - 1) * 1e4 if worth else None,
            hops=entry.hops,
            slot=entry.slot,
            route=f"{entry.route:016x}",
            others=0,
        )


def _named(kind: type[Protocol] | type[ConfidenceBand] | type[Staleness], value: int) -> int:
    """Return a value of an enumeration, or the number where this version does not know it."""
    try:
        return kind(value)
    except ValueError:
        return value


def _best(sides: Iterable[Side]) -> Side | None:
    """Return the best quote of a kind by confidence-weighted output; of equals the first source."""
    ranked = sorted(sides, key=lambda side: (-side.score, -side.amount_out, side.source))
    if not ranked:
        return None
    best = ranked[0]
    return replace(best, others=len(ranked) - 1)


def _middle(
    keys: list[tuple[str, str, str, int]], inside: Mapping[tuple[str, str, str, int], object]
) -> list[tuple[str, str, str, int]]:
    """Keep the middle one of each direction's amounts; of those that are computed here, where there are any."""
    by_direction: dict[tuple[str, str, str], list[tuple[str, str, str, int]]] = {}
    for key in keys:
        by_direction.setdefault(key[:3], []).append(key)
    kept = []
    for amounts in by_direction.values():
        own = [key for key in amounts if key in inside] or amounts
        kept.append(own[len(own) // 2])
    return kept
