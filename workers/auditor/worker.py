"""Wire the auditor: EXECUTED and PLANNED in, the books and what they say out.

It reads the streams in order from the positions in its own database, where a durable consumer would deliver out of
order after a crash: booking and position are one transaction, so nothing is booked twice or passed over, and the
drawdown is that of the stream's order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from nats.errors import Error as NatsError
from sqlalchemy.exc import SQLAlchemyError

from pipeline.context import WorkerContext
from pipeline.crashpoint import crashpoint
from pipeline.errors import Failure, UsageFailure
from pipeline.ledger import Ledger, Span
from pipeline.tasks import end_tasks
from workers.auditor.desk import Desk
from workers.auditor.follow import Item, follow

_CHECK_S = 1.0
_WAIT_S = 0.2
_WAIT_MAX_S = 5.0


async def run(context: WorkerContext) -> None:
    """Book until told to stop; what is not committed then is read again at the next start."""
    settings = context.config.auditor
    ledger = await asyncio.to_thread(
        Ledger, context.config.database_url, starting_capital_lamports=settings.starting_capital_lamports
    )
    desk = Desk(context.bus, ledger, producer=context.name, wall_ns=context.clock)

    async def results(items: list[Item], span: Span) -> None:
        crashpoint("booking")
        await desk.book_results(items, span)
        crashpoint("booked")

    async def follow_results() -> None:
        await follow(context.bus, "EXECUTED", "executed.>", desk.stored, results, batch=settings.batch)

    async def follow_plans() -> None:
        await follow(context.bus, "PLANNED", "planned.plan", desk.stored, desk.book_plans, batch=settings.batch)

    async def check_plans() -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            await desk.check_plans(int(settings.plan_grace_s * 1e9))

    async def tell_notices() -> None:
        while True:
            await desk.tell_notices()
            await asyncio.sleep(_CHECK_S)

    try:
        await desk.open()
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "results": follow_results,
            "plans": follow_plans,
            "check": check_plans,
            "notices": tell_notices,
        }
        if context.config.executor.mode != "paper":
            parts["chain"] = _chain_part(context, desk, ledger)
        tasks = [asyncio.create_task(_keep(context, name, part), name=name) for name, part in parts.items()]
        stopping = asyncio.create_task(context.stopping.wait(), name="stopping")
        try:
            done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end_tasks([stopping, *tasks])
    finally:
        with suppress(SQLAlchemyError):
            await desk.close()


def _chain_part(context: WorkerContext, desk: Desk, ledger: Ledger) -> Callable[[], Awaitable[None]]:
    # Solana and the wallets take a while to load, and paper mode needs neither.
    from markets.solana.wallets import WalletError, public_addresses, wallet_settings
    from workers.auditor.chain import ChainDesk

    config = context.config
    settings = wallet_settings(config.wallets, seed=config.market.seed, data_directory=config.data_directory)
    try:
        wallets = public_addresses(settings)
    except WalletError as error:
        what = f"the auditor does not know whom to follow: {error}"
        raise UsageFailure(what, "name them in wallets.addresses") from None
    return ChainDesk(context, desk, ledger, wallets).run


async def _keep(context: WorkerContext, name: str, part: Callable[[], Awaitable[None]]) -> None:
    """Run a part for ever; where the database or the server fails, say so and begin again from the stored position."""
    wait_s = _WAIT_S
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await part()
        except (SQLAlchemyError, Failure, NatsError, OSError) as error:
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            context.log.error("booking failed; beginning again", part=name, error=words, wait_s=wait_s)
            context.health.degraded(f"books: {words}", cause=f"books {name}")
        if asyncio.get_running_loop().time() - started > _WAIT_MAX_S:
            wait_s = _WAIT_S
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, _WAIT_MAX_S)
        context.health.recovered(cause=f"books {name}")
