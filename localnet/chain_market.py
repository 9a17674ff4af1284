"""The offline market on a chain of its own: transactions land, and the pools are what its programs make of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter

from localnet.barrier import ChainBarrier
from localnet.chain.faults import ChainFaults
from localnet.chain_genesis import FIRST_SLOT, Funds
from localnet.chain_world import ChainTerms, ChainWorld, open_chain
from localnet.lockstep import Market
from localnet.oracle import EVERY_SLOTS, Oracle
from localnet.served import ChainServer
from localnet.world import Advance
from pipeline import run_files
from pipeline.clock import wall_ns
from pipeline.config import Config
from pipeline.context import WorkerContext
from pipeline.errors import BadData, Refused
from pipeline.ids import deterministic_id
from pipeline.messages import Anomaly, ExecutionResult, ExecutionSubmitted, Message, Severity, SlotUpdate
from pipeline.sections.rpc import LocalnetSection

"""Names the address of the chain's services in the run directory."""
EMPTY_SLOTS = 40
"""Slots after the last outcome, so that everything becomes final."""
SLOTS_AFTER_FORK = 190
"""Slots after a fork that took transactions, until their blockhashes have run out for good: 150, and 40 as above."""
MOST_CLOSING_SLOTS = 250
"""Slots in which a closed market waits for outcomes: a blockhash has run out long before."""
ARRIVAL_S, ARRIVAL_LOOKS = 0.05, 50
"""What was said to be sent is on this host and arrives at once; so long it is waited for, in case a fault has it."""
_DEPTHS = {"processed": 0, "confirmed": 1, "finalized": 2}


class ChainMarket(Market):
    """A chain with its traders and services. It lives in this process's memory: a restart begins another one."""

    world: ChainWorld
    looks_back_slots = 200

    def __init__(self, context: WorkerContext) -> None:
        """Prepare all but the chain, which `open` makes.

        Raises:
            BadData: where the pools should be recorded ones: they are on no chain.
        """
        self.transactions = ChainBarrier(ended=self._ended)
        super().__init__(context, self.transactions)
        if self.settings.source != "offline":
            raise BadData(
                'recorded pools are on no chain: market.source must be "offline" in mode "localnet"',
                "leave market.source out, or trade recorded pools on paper",
            )
        self.base_slot = FIRST_SLOT - 1
        self.server: ChainServer | None = None
        self._commitment = _DEPTHS[context.config.executor.commitment]
        # By both ways at once, a bundle that failed says nothing: the transaction may land by itself.
        self._bundles_decide = context.config.executor.route == "bundle"
        self._seen_landed: set[str] = set()
        self._said_to_be_sent: set[str] = set()
        self._closed_slots = 0
        self._forked_in = 0
        self._quiet_slots = 0

    async def open(self) -> None:
        """Begin a chain, after the slots of any earlier one, and have it answer before its first slot."""
        bus, config = self.context.bus, self.context.config
        slots: list[SlotUpdate] = []
        if self.publishes:
            slots = [message for _, message in await bus.last("market_data.slot") if isinstance(message, SlotUpdate)]
            if slots or await bus.last("market_data.pool.>"):
                await bus.js.purge_stream("MARKET_DATA")
        after = await self._after(slots)
        # Prices are posted in every fourth slot, counted from where they stand where they start.
        after += -after % EVERY_SLOTS
        if after >= FIRST_SLOT:
            self.context.log.warning(
                "another chain begins: the one before lived in the memory of a process that is gone, and with it all "
                "that was on its way or in its wallets",
                slot=after + 1,
            )
        self.base_slot = after
        self.world = open_chain(
            self.registry, chain_terms(config, first_slot=after + 1), faults=chain_faults(config.localnet)
        )
        self.oracle = Oracle(self.settings.seed, self.registry, self.context.name, after)
        await self._serve(config.localnet)
        left = Counter(pool.venue for pool in self.world.left_out)
        self.context.log.info(
            "the offline chain begins",
            slot=after + 1,
            pools=len(self.world.pools),
            left_out={venue: f"{count} pools: no stand-in program" for venue, count in left.items()},
            genesis=self.world.chain.genesis_hash,
        )
        await self.next_slot()

    async def stop(self) -> None:
        """Close the services."""
        run_files.remove(self.context.config, run_files.OFFLINE_CHAIN)
        if self.server is not None:
            await self.server.stop()

    async def _serve(self, section: LocalnetSection) -> None:
        self.server = ChainServer(self.world.chain, section)
        try:
            urls = await self.server.start()
        except OSError as error:
            what = f"the offline chain cannot listen on port {section.rpc_port}: {error.strerror or error}"
            raise Refused(what, "set localnet.rpc_port to another one, or to 0 for a free one") from error
        run_files.write(
            self.context.config, run_files.RunFile(run_files.OFFLINE_CHAIN, os.getpid(), wall_ns(), urls[0], ready=True)
        )
        self.context.log.info("the offline chain's services", addresses=urls)

    def on_message(self, message: Message, delivery: object) -> None:
        """Take note of what the lockstep waits for."""
        if isinstance(message, ExecutionSubmitted):
            self._said_to_be_sent.add(message.signature)
        elif isinstance(message, ExecutionResult):
            self._seen_landed.discard(message.signature)
        super().on_message(message, delivery)

    async def settle(self) -> None:
        """Wait until the workers have settled the slot and what they sent for the next one is here."""
        await super().settle()
        if self.waits:
            # The word of it may be faster than the transaction, which takes another way.
            for _ in range(ARRIVAL_LOOKS):
                if not any(map(self._absent, self._said_to_be_sent)):
                    break
                await asyncio.sleep(ARRIVAL_S / ARRIVAL_LOOKS)
        self._said_to_be_sent.clear()

    def _moves(self, advance: Advance) -> bool:
        """Tell whether anything is under way in a closed market, or just happened."""
        block = advance.block
        return (self.barrier.busy and self.publishes) or (block is not None and bool(block.records or block.forked))

    async def _results_first(self) -> None:
        """Have the results of what the block decided before the planner hears of the block.

        The executor asks the chain and needs no word of ours. Who was told of both at once would find them in one order
        or the other.
        """
        if not self.waits:
            return
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.settings.barrier_timeout_s
        while self.transactions.due and not self.over and loop.time() < ends:
            if not await self._listen():
                await self._look_again()

    @property
    def finished(self) -> bool:
        """Tell whether the market is closed, nothing is under way any more, and all that happened is final."""
        if not self.world.closing:
            return False
        if self._closed_slots > MOST_CLOSING_SLOTS + EMPTY_SLOTS:
            return True
        return self._quiet_slots > EMPTY_SLOTS and self.world.slot > self._forked_in + SLOTS_AFTER_FORK

    @property
    def hurries(self) -> bool:
        """Tell whether slots need not take their time: those of a closed market that its workers settle."""
        return self.world.closing and self.waits

    async def _happened(self, advance: Advance) -> None:
        if self.world.closing:
            self._closed_slots += 1
            self._quiet_slots = 0 if self._moves(advance) else self._quiet_slots + 1
        if self.server is not None and advance.block is not None:
            self.server.tell(advance.block)
        if advance.block is not None and advance.block.forked:
            self._forked_in = advance.slot
            self.context.log.warning(
                "a fork took blocks back", slot=advance.slot, transactions=len(advance.block.forked)
            )
        for number, difference in enumerate(advance.differences):
            self.context.log.error("a stand-in program differs from the core's math", what=difference)
            self.context.bus.publish_soon(
                Anomaly(
                    id=deterministic_id("stand-in-differs", self.world.id, advance.slot, number),
                    created_ns=self.context.clock(),
                    producer=self.context.name,
                    severity=Severity.CRITICAL,
                    rule="stand_in_differs",
                    detail=difference,
                )
            )
        await self._results_first()

    def _ended(self, signature: str, last_valid_block_height: int) -> bool:
        """Tell whether the chain knows by now how one of our transactions ended, so that its result is due."""
        chain = self.world.chain
        status = chain.status(signature, history=True)
        if status is not None:
            self._seen_landed.add(signature)
            return _DEPTHS[status.commitment] >= self._commitment
        # A fork takes height back: only the final one is past for good.
        if chain.views.by("finalized").block_height > last_valid_block_height:
            return True
        if not self._bundles_decide or signature in self._seen_landed:
            return False
        bundle = chain.bundle(_bundle_id(signature))
        return bundle is not None and bundle.state == "Failed"

    def _absent(self, signature: str) -> bool:
        """Tell whether the chain has not seen a transaction, by whichever way."""
        chain = self.world.chain
        return (
            chain.bundle(_bundle_id(signature)) is None
            and not chain.queued(signature)
            and chain.status(signature, history=True) is None
        )


def _bundle_id(signature: str) -> str:
    """Return the id of the bundle that holds this transaction and no other."""
    return hashlib.sha256(signature.encode()).hexdigest()


def chain_terms(config: Config, *, first_slot: int = FIRST_SLOT, traders: bool = True) -> ChainTerms:
    """Return what a chain begins with, as the configuration wants it; without traders there is no rival either."""
    section = config.localnet
    return ChainTerms(
        seed=config.market.seed,
        slot_ms=config.market.slot_ms,
        first_slot=first_slot,
        wallets=config.wallets.count,
        funds=Funds(section.wallet_lamports, section.wallet_wrapped, section.wallet_usdc),
        rival_chance=section.rival_chance if traders else 0.0,
        traders=traders,
    )


def chain_faults(section: LocalnetSection) -> ChainFaults:
    """Return the faults of the chain itself, as the configuration wants them."""
    return ChainFaults(
        dropped=section.fault_dropped,
        late=section.fault_late,
        late_slots=section.fault_late_slots,
        bundle_lost=section.fault_bundle_lost,
        fork_chance=section.fault_fork,
        fork_slots=section.fault_fork_slots,
        seed=section.fault_seed,
    )
