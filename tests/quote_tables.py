"""Write pools into the quote core's tables as the aggregator does, for tests of whoever reads them."""

from collections.abc import Sequence

from pipeline._core import Grid, Pool, quote_grids
from workers.quote_core.parts import PoolGrid
from workers.quote_core.rating import rate_grid
from workers.quote_core.tables import Tables


def grid_of(pool: Pool, amounts: Sequence[int], observed_ns: int = 0) -> PoolGrid:
    (grid,) = quote_grids([pool], list(amounts))
    return PoolGrid(pool, grid, observed_ns, observed_ns, "cause")


def write_pool(tables: Tables, pool: Pool, observed_ns: int, amounts: Sequence[int] = (10**9,)) -> Grid:
    """Write one state with everything known about it in good order, but for an oracle."""
    value = grid_of(pool, amounts, observed_ns)
    ratings = rate_grid(value.grid, age_ns=0, reliability=1.0, forward=None, reverse=None)
    tables.write(value, observed_ns, ratings, (1, 2))
    return value.grid
