"""Worker `market`: the offline market, its pools only computed or on a chain of its own."""

from __future__ import annotations

from localnet.chain_market import ChainMarket
from localnet.lockstep import LISTENED, Market
from localnet.paper_market import PaperMarket
from pipeline.context import WorkerContext


async def run(context: WorkerContext) -> None:
    """Run the market until it has closed, by itself or because it was told to stop, and everything is settled."""
    on_chain = context.config.executor.mode == "localnet"
    market: Market = ChainMarket(context) if on_chain else PaperMarket(context)
    for subject in LISTENED:
        await context.bus.watch(subject, market.on_message)
    try:
        await market.open()
        await trade(market)
    finally:
        await market.stop()


async def trade(market: Market) -> None:
    """Go on from slot to slot until the market has closed."""
    context = market.context
    while not market.over:
        await market.settle()
        if not market.finished:
            await market.next_slot()
            continue
        context.log.info("the market has closed and everything is settled", slot=market.world.slot)
        await context.stopping.wait()
        return
