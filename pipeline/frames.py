"""A quote table as a pandas `DataFrame`, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.messages import ConfidenceBand, Protocol, Staleness
from pipeline.shm import QUOTE_VOID, QuoteTable, as_array

if TYPE_CHECKING:
    import pandas

FACTORS: Final = ("age", "hops", "oracle", "provider", "slippage")
_FACTOR_BITS: Final = 12
_AMOUNTS: Final = ("amount_in", "amount_out", "fee_amount", "oracle_amount_out")


def to_pandas(table: QuoteTable) -> pandas.DataFrame:
    """Return every entry that could be read whole, one row each, its index the entry's.

    Ids become names (None for those of no pool or provider); protocol, band and staleness become words; amounts, slots
    and routes stay unsigned 64-bit integers, so nothing is lost in a float. `attrs` says which commit it is (`slot`,
    `market_ns`), whether all rows belong to it (`whole`), and which entries were busy and are missing (`busy`).

    Raises:
        ImportError: if pandas is not installed.
    """
    try:
        import numpy as np
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "to_pandas() needs pandas: install it, or this package with its extra 'notebook'", name=error.name
        ) from error
    snapshot = table.snapshot()
    present = np.delete(np.arange(len(snapshot)), snapshot.busy)
    entries = as_array(snapshot)[present]

    def words(meaning: dict[int, str], field: str) -> pd.Categorical:
        return pd.Categorical([meaning.get(int(value)) for value in entries[field]])

    def names(kind: Any, field: str) -> pd.Categorical:
        return words(dict(enumerate(table.names(kind), start=1)), field)

    band = np.digitize(entries["confidence"], (0.5, 0.7, 0.9))
    shift = (_FACTOR_BITS * np.arange(len(FACTORS), dtype=np.uint64)).astype(np.uint64)
    whole = np.uint64((1 << _FACTOR_BITS) - 1)
    factors = (entries["factors"][:, None] >> shift & whole) / float(whole)
    columns: dict[str, Any] = {
        "pair": names("pair", "pair"),
        "pool": names("pool", "pool"),
        "provider": names("provider", "provider"),
        "protocol": words({int(one): one.name.lower() for one in Protocol}, "protocol"),
        "token_in": names("token", "token_in"),
        "token_out": names("token", "token_out"),
        "amount_index": entries["amount_index"],
        **{name: entries[name] for name in _AMOUNTS},
        "price_impact_bps": entries["price_impact_bps"],
        "confidence": entries["confidence"],
        "band": pd.Categorical([ConfidenceBand(int(value)).name.lower() for value in band]),
        **{f"factor_{name}": factors[:, place] for place, name in enumerate(FACTORS)},
        "staleness": words(
            {QUOTE_VOID: "void"} | {int(one): one.name.lower().replace("_", " ") for one in Staleness}, "staleness"
        ),
        "slot": entries["slot"],
        "write_version": entries["write_version"],
        "quoted_ns": entries["quoted_ns"],
        "route": entries["route"],
        "hops": entries["hops"],
        "batch": entries["batch"],
    }
    frame = pd.DataFrame(columns, index=pd.Index(present, name="entry"))
    frame.attrs |= {
        "slot": snapshot.slot,
        "market_ns": snapshot.market_ns,
        "whole": snapshot.whole,
        "busy": snapshot.busy,
    }
    return frame
