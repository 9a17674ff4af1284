"""Make the books anew from the streams: the same bookings in the same order give the same books."""

from __future__ import annotations

from pipeline.bus import Bus
from pipeline.clock import wall_ns
from pipeline.config import Config
from pipeline.errors import Refused
from pipeline.ledger import Ledger, older_than
from workers.auditor.desk import Desk
from workers.auditor.follow import follow


async def rebuild(config: Config, *, discard_older: bool = False) -> None:
    """Empty the books and book everything that PLANNED and EXECUTED hold now.

    An auditor may be running: whoever comes second sees the position moved and goes on from there. What the final chain
    said is evidence and stays; the results are held against it again. Books of an older layout are replaced.

    Raises:
        Refused: if results have left the stream that the books still hold, unless they are to be discarded.
    """
    bus = await Bus.connect(config.nats, name="pnl-rebuild")
    try:
        stream = await bus.js.stream_info("EXECUTED")
        executed = stream.state
        planned = (await bus.js.stream_info("PLANNED")).state
        created_ns = int(stream.created.timestamp() * 1e9) if stream.created is not None else 0
        older = older_than(config.database_url, executed.first_seq, created_ns)
        if older and not discard_older:
            raise Refused(
                f"{older} booked results are older than the stream EXECUTED, which begins at {executed.first_seq}",
                "keep the books as they are, or give --discard-older and lose them",
            )
        capital = config.auditor.starting_capital_lamports
        ledger = Ledger(config.database_url, starting_capital_lamports=capital, replace_older=True)
        desk = Desk(bus, ledger, producer="pnl-rebuild", wall_ns=wall_ns, quiet=True)
        try:
            ledger.clear()
            await desk.open()
            batch = config.auditor.batch
            await follow(
                bus, "PLANNED", "planned.plan", desk.stored, desk.book_plans, batch=batch, until=planned.last_seq
            )
            await follow(
                bus, "EXECUTED", "executed.>", desk.stored, desk.book_results, batch=batch, until=executed.last_seq
            )
        finally:
            await desk.close()
    finally:
        await bus.close()
