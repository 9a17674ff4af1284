"""The external part's settings, as its modules want them."""

from __future__ import annotations

from markets.providers.answer import Bounds
from markets.providers.desk import Terms
from markets.providers.dflow import DFlow
from markets.providers.jupiter import Jupiter
from markets.providers.provider import Provider
from markets.providers.raydium import Raydium
from markets.providers.state import Patience
from pipeline.sections.external import ExternalSection, ProviderSection

APIS: dict[str, type[Provider]] = {"jupiter_lite": Jupiter, "jupiter_pro": Jupiter, "dflow": DFlow, "raydium": Raydium}
"""Section of the configuration -> whose API it is."""
SIMULATED = "simulated-"
"""What the names of simulated providers begin with, wherever they are seen."""


def providers_of(settings: ExternalSection, simulated_url: str) -> list[Provider]:
    """Return the providers to ask; those that need a key and have none are left out.

    Simulated ones have the real ones' shapes, at an address of this host.
    """
    found: list[Provider] = []
    simulated = settings.source == "simulated"
    for name, api in APIS.items():
        section: ProviderSection = getattr(settings, name)
        key = section.api_key.get_secret_value()
        if not section.enabled or (name == "jupiter_pro" and not key and not simulated):
            continue
        shown = f"{SIMULATED}{name}" if simulated else name
        url = f"{simulated_url}/{name}" if simulated else section.url
        # A key is for the real provider alone, and one that wants none gets none.
        key = "" if simulated or api is Raydium else key
        found.append(api(shown, url, key))
    return found


def patience_of(settings: ExternalSection, shown: str) -> Patience:
    """Return what a provider bears."""
    if shown.startswith(SIMULATED):
        rate_per_s, burst = settings.simulated.rate_per_s, settings.simulated.burst
    else:
        section: ProviderSection = getattr(settings, shown)
        rate_per_s, burst = section.rate_per_s, section.burst
    return Patience(
        rate_per_s=rate_per_s,
        burst=burst,
        breaker_failures=settings.breaker_failures,
        breaker_window=settings.breaker_window,
        breaker_open_s=settings.breaker_open_s,
        breaker_open_max_s=settings.breaker_open_max_s,
    )


def terms_of(settings: ExternalSection) -> Terms:
    """Return how pairs are asked for."""
    return Terms(
        timeout_s=settings.timeout_ms / 1000,
        deadline_s=settings.deadline_ms / 1000,
        retries=settings.retries,
        retry_wait_s=settings.retry_wait_ms / 1000,
        pair_gap_s=settings.pair_gap_ms / 1000,
        bounds=Bounds(settings.max_deviation_bps, settings.max_slots_behind, settings.max_slots_ahead),
    )
