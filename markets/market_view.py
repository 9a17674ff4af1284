"""The market as its messages tell it: pools that change all at once with their slot, market time, the price of SOL."""

from __future__ import annotations

from markets.pool_states import PoolStates
from markets.tokens import LAMPORTS_PER_SOL, SOL_MINT, USDC_MINT
from pipeline._core import Pool, PoolRefused, QuoteError
from pipeline.messages import PoolState, SlotUpdate


class MarketView:
    """What a venue knows of the market."""

    def __init__(self) -> None:
        """Start without pools; they come with `take_pool` and `take_slot`."""
        self.states = PoolStates()
        self.slot = 0
        """The newest slot that is whole."""
        self.now_ns = 0
        """Market time of that slot, ns."""
        self._waiting: list[PoolState] = []
        self._market: str | None = None
        self._price: int | None = None

    def take_pool(self, state: PoolState) -> None:
        """Keep a pool's state until its slot is whole."""
        self._waiting.append(state)

    def take_slot(self, update: SlotUpdate) -> bool | None:
        """Make the states of a slot the present ones; return whether none was missed, None for a slot that is over."""
        changed = sum(state.slot == update.slot for state in self._waiting)
        if self._another_market(update):
            changed = -1
        elif update.slot < self.slot:
            return None
        self.slot, self.now_ns = update.slot, max(self.now_ns, update.market_ns)
        self._adopt()
        return changed >= update.pools_changed and not self.states.broken()

    def load(self, states: list[PoolState], update: SlotUpdate | None) -> None:
        """Take over states read from the stream: the start, or after a state was missed."""
        self._waiting += states
        if update is not None and (self._another_market(update) or update.slot >= self.slot):
            self.slot, self.now_ns = update.slot, max(self.now_ns, update.market_ns)
        self._adopt()
        self.states.drop_broken()

    def pool(self, address: str) -> Pool | None:
        """Return a pool as it is now; None where it is not known, or cannot be read."""
        try:
            return self.states.get(address)
        except PoolRefused:
            return None

    def sol_price_usd_e6(self) -> int:
        """Return what one SOL fetches in millionths of a USD on the best pool, 0 where none is known."""
        if self._price is None:
            self._price = max((self._one_sol(address) for address in self.states.addresses()), default=0)
        return self._price

    def _another_market(self, update: SlotUpdate) -> bool:
        """Forget the market so far where the update is of another one: its slots and times mean something else."""
        known, self._market = self._market, update.causation_id
        if known in (None, update.causation_id):
            return False
        self.states = PoolStates()
        self.slot = self.now_ns = 0
        return True

    def _adopt(self) -> None:
        for state in self._waiting:
            self.states.apply(state)
        self._waiting.clear()
        self._price = None

    def _one_sol(self, address: str) -> int:
        pool = self.pool(address)
        if pool is None or {pool.token_a, pool.token_b} != {SOL_MINT, USDC_MINT}:
            return 0
        try:
            return int(pool.quote_in(pool.token_a == SOL_MINT, LAMPORTS_PER_SOL).amount_out)
        except QuoteError:
            return 0
