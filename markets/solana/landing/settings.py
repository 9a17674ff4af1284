"""How transactions are made, sent and followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Commitment = Literal["processed", "confirmed", "finalized"]
Route = Literal["bundle", "both", "rpc"]


@dataclass(frozen=True, slots=True)
class LandingSettings:
    """What the configuration says; `executor` and `tip` of config/default.toml explain each."""

    simulate: bool = True
    route: Route = "bundle"
    fallback_slots: int = 4
    commitment: Commitment = "confirmed"
    lifetime_slots: int = 40
    rebroadcast_s: float = 0.4
    confirm_timeout_s: float = 45.0
    compute_margin_ratio: float = 0.1
    priority_percentile: int = 50
    max_micro_lamports: int = 1_000_000
    max_tip_lamports: int = 1_000_000
    floor_percentile: int = 50
    lookup_tables: tuple[str, ...] = ()
    look_s: float = 0.0
    """Least time between two looks at fees and blockhashes; 0: in every slot."""
