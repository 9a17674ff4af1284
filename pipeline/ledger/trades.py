"""One trade as the books have it in the end: the execution with its corrections, beside its plan. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.ledger.corrections import CORRECTION, SUMMED

_UNTOUCHED = {
    "DROPPED": "competitor",
    "EXPIRED": "expired",
    "REFUSED_BY_GATE": "gate",
    "REFUSED_BY_SIMULATION": "simulation",
    "REFUSED_BY_WALLET": "wallet",
    "ABANDONED": "abandoned",
}
# Why a trade came to something else than its plan expected -> what that means. Documented in docs/accounting.md.
CAUSES: dict[str, str] = {
    "slippage": "filled: the legs gave more or less than planned",
    "fee": "filled: base and priority fee, and the rate they were costed at, were others than planned",
    "tip": "filled: the tip was another than planned",
    "competitor": "DROPPED: outbid, or somebody else was faster and nothing was left",
    "reverted": "REVERTED: it landed and a leg could not give its minimum; the fees are lost as well",
    "expired": "EXPIRED: past its deadline at the gate, or its blockhash ran out",
    "simulation": "REFUSED_BY_SIMULATION",
    "wallet": "REFUSED_BY_WALLET",
    "gate": "REFUSED_BY_GATE: the permit did not allow it",
    "abandoned": "ABANDONED: the executor died before it began",
    "fork": "booked as landed, and taken back by a fork",
    "unknown": "the plan is not in the books any more, or the status is not known",
}


@dataclass(slots=True)
class Trade:
    """One execution; amounts are base units of its token unless the name says otherwise."""

    row: dict[str, Any]
    """The execution's row, with `other`, `legs` and the plan's figures under `plan_...`."""
    figures: dict[str, int]
    net_lamports: int | None
    net_usd_e6: int | None
    corrected: bool = False
    fills: list[Mapping[str, Any]] = field(default_factory=list)
    """What was filled in the end, in order."""

    @property
    def landed(self) -> bool:
        """Tell whether it paid anything."""
        return self.figures["base_fee"] > 0

    @property
    def venues(self) -> str:
        """Return the program families that it went through or was planned through, in order, joined by ` > `."""
        protocols = [fill["protocol"] for fill in self.fills] or [leg[1] for leg in self.legs]
        return " > ".join(protocols) or "?"

    @property
    def legs(self) -> list[list[str]]:
        """Return (pool, protocol, token in, token out) of each leg of the plan; none where it is not known."""
        return json.loads(self.row["legs"]) if self.row.get("legs") else []

    def causes(self) -> dict[str, int]:
        """Return realised less expected net profit by cause; the sum is the whole difference."""
        row, figures = self.row, self.figures
        difference = figures["net_profit"] - row["expected_profit"]
        if figures["filled"] <= 0:
            if self.landed:
                return {"reverted": difference}
            taken_back = row["status"] in ("FILLED", "REVERTED")
            return {"fork" if taken_back else _UNTOUCHED.get(row["status"], "unknown"): difference}
        if row.get("plan_cost") is None:
            return {"unknown": difference}
        slippage = figures["gross_profit"] - (row["plan_expected_amount_out"] - row["plan_amount_in"])
        costs = difference - slippage
        tip, paid = figures["tip"] - row["plan_tip"], figures["base_fee"] + figures["priority_fee"] + figures["tip"]
        rate = figures["cost"], paid
        # Of the difference in costs, the tip's part at the rate that was paid, towards zero; the rest is fees.
        share = 0 if not rate[1] else (abs(tip) * rate[0] // rate[1]) * (1 if tip >= 0 else -1)
        found = {"slippage": slippage, "tip": -share, "fee": costs + share}
        return {name: amount for name, amount in found.items() if amount}


def trades_of(rows: Iterable[Mapping[Any, Any]], fills: Mapping[str, list[Mapping[str, Any]]]) -> Iterator[Trade]:
    """Yield one trade for each execution, in the order of the stream; `fills` are by the id of their row."""
    made: dict[str, Trade] = {}
    for found in rows:
        row = {str(key): value for key, value in found.items()}
        if row["status"] != CORRECTION:
            own = [fill for fill in fills.get(row["id"], []) if fill["amount_in"] or fill["amount_out"]]
            figures = {name: row[name] for name in SUMMED}
            made[row["id"]] = Trade(row, figures, row["net_lamports"], row["net_usd_e6"], False, own)
        elif (trade := made.get(row["corrects"])) is not None:
            for name in SUMMED:
                trade.figures[name] += row[name]
            trade.net_lamports = _sum(trade.net_lamports, row["net_lamports"])
            trade.net_usd_e6 = _sum(trade.net_usd_e6, row["net_usd_e6"])
            trade.corrected = True
            if row["id"] in fills:
                # What is taken back stands there with negative amounts, what the chain has with positive ones.
                trade.fills = [fill for fill in fills[row["id"]] if fill["amount_in"] > 0]
            elif trade.figures["filled"] <= 0:
                trade.fills = []
    yield from made.values()


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
