"""From a plan to a signed transaction: fees and blockhash, lane, building, simulation, signature. Nothing is sent."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.instruction import CompiledInstruction
from solders.message import MessageV0, to_bytes_versioned
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from markets.market_view import MarketView
from markets.solana.landing.blockhashes import Blockhash
from markets.solana.landing.engine import bundle_id, bundle_request
from markets.solana.landing.link import ChainLink
from markets.solana.landing.pool_accounts import PoolAccounts
from markets.solana.landing.reference import Reference
from markets.solana.landing.settings import LandingSettings
from markets.solana.landing.simulate import Asked, simulate
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.line import Line
from markets.solana.transactions.cycle import CycleOrder, Unbuildable, build_cycle, mints_of, needs_of
from markets.solana.transactions.effects import LAMPORTS_PER_SIGNATURE
from markets.solana.transactions.fees import (
    MAX_COMPUTE_UNITS,
    affordable_micro_lamports,
    compute_limit,
    micro_lamports_for,
    priority_fee,
    raised_tip,
)
from markets.solana.transactions.tips import tip_account
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues.shape import Accounts, BadAccount
from markets.solana.wallets.keys import Signer, SigningFailed
from markets.solana.wallets.lanes import Lane, Lanes, NoLane
from markets.venue import NotPrepared, Prepared, RefusedBySimulation, RefusedByWallet, Simulated, Trace, in_token
from pipeline.messages import ExecutionPlan

# Until a cycle's own units are known.
_UNITS, _UNITS_PER_LEG = 30_000, 150_000
# Over what a cycle used at most so far: another amount may cross more of a pool's ticks.
_SPARE_UNITS = 50_000
_REMEMBERED = 10_000
_SPREAD = 1_024


@dataclass(frozen=True)
class ChainPrepared(Prepared):
    """A signed transaction, and the connections that it will be written to."""

    raw: bytes = field(default=b"", repr=False)
    lane: Lane | None = field(default=None, repr=False)
    bundle: str = ""
    bundle_line: Line | None = field(default=None, repr=False)
    bundle_body: bytes = field(default=b"", repr=False)
    rpc_line: Line | None = field(default=None, repr=False)
    rpc_body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class _Job:
    """One plan's transaction in the making."""

    plan: ExecutionPlan
    link: ChainLink
    slot: int
    accounts: Accounts
    blockhash: Blockhash
    lane: Lane

    def build(self, order: CycleOrder) -> MessageV0:
        return build_cycle(order, self.accounts, self.link.tables, self.blockhash.hash)


class _Refused(Exception):
    """The plan ends here."""

    def __init__(self, ending: NotPrepared) -> None:
        self.ending = ending


@dataclass(slots=True)
class Preparer:
    """Makes transactions of plans."""

    settings: LandingSettings
    lanes: Lanes
    signers: Mapping[str, Signer]
    """By wallet."""
    market: MarketView
    accounts: PoolAccounts
    warn: Callable[[str], object] = lambda _: None
    _units: OrderedDict[tuple[str, ...], int] = field(default_factory=OrderedDict)
    _learned: list[tuple[tuple[str, ...], int]] = field(default_factory=list)
    _made_before: OrderedDict[int, None] = field(default_factory=OrderedDict)

    async def prepare(self, plan: ExecutionPlan, link: ChainLink) -> ChainPrepared | NotPrepared:
        """Return the plan's transaction, signed and ready to be written, or why there is none."""
        slot = max(self.market.slot, plan.slot)
        try:
            return await self._prepare(plan, link, slot)
        except _Refused as refused:
            return refused.ending
        except (RpcError, Unbuildable, BadAccount, SigningFailed) as error:
            return RefusedByWallet(slot, f"no transaction was made: {error}")

    def learn(self, plan: ExecutionPlan, units: int) -> None:
        """Remember what a cycle used, from the next slot on: within one, all plans are made alike.

        0 where it was more than its limit: the next time it is simulated before it is signed.
        """
        self._learned.append((_cycle(plan), units))

    def turn(self) -> None:
        """Go on to a slot: take in what was learned in the one before."""
        for cycle, units in self._learned:
            self._units[cycle] = max(units, self._units.pop(cycle, 0))
        self._units |= {cycle: 0 for cycle, units in self._learned if not units}
        self._learned.clear()
        while len(self._units) > _REMEMBERED:
            self._units.popitem(last=False)

    async def _prepare(self, plan: ExecutionPlan, link: ChainLink, slot: int) -> ChainPrepared:
        samples = asyncio.ensure_future(link.fees.samples(slot, list(dict.fromkeys(leg.pool for leg in plan.legs))))
        try:
            facts, accounts = await asyncio.gather(link.fees.facts(slot), self.accounts.of(link.rpc, plan.legs))
            if isinstance(accounts, str):
                raise _Refused(RefusedByWallet(slot, f"no transaction was made: {accounts}"))
            blockhash = link.fees.blockhash(slot)
            if blockhash is None:
                wanted = self.settings.lifetime_slots
                raise _Refused(RefusedByWallet(slot, f"no blockhash is known that lives for {wanted} blocks"))
            order = self._order(plan, self._tip(plan, facts.tip_floor))
            needs = needs_of(order)
            # Every token on the way needs an account: none is opened inside a trade.
            tokens = dict.fromkeys(mints_of(plan.legs), 0) | needs.tokens
            fees = LAMPORTS_PER_SIGNATURE + plan.priority_fee
            lane = self.lanes.pick(plan.id, tokens, needs.lamports + fees)
            if isinstance(lane, NoLane):
                raise _Refused(RefusedByWallet(slot, f"{lane.reason}: {lane.detail}"))
            job = _Job(plan, link, slot, accounts, blockhash, lane)
            return await self._made(job, replace(order, wallet=lane.address), samples)
        finally:
            samples.cancel()

    async def _made(
        self, job: _Job, order: CycleOrder, samples: asyncio.Future[tuple[int, ...] | None]
    ) -> ChainPrepared:
        """Simulate and sign the transaction, the one beside the other unless it used more than its limit before."""
        plan, link = job.plan, job.link
        trace = Trace(wallet=order.wallet, last_valid_block_height=job.blockhash.last_valid_block_height)
        units = self._units.get(_cycle(plan))
        ask_first = self.settings.simulate and units == 0
        units = units + _SPARE_UNITS if units else _UNITS + _UNITS_PER_LEG * len(plan.legs)
        message: MessageV0 | None = None
        trial: asyncio.Task[Simulated | RefusedBySimulation] | None = None
        if self.settings.simulate:
            if not ask_first:
                order = replace(order, compute_limit=self._limit(plan, units))
            message = job.build(order)
            trace = replace(trace, built_ns=link.wall_ns())
            trial = asyncio.create_task(self._trial(job, message, order.min_amount_out, trace))
        try:
            if trial is not None and ask_first:
                told = await trial
                if isinstance(told, RefusedBySimulation):
                    raise _Refused(told)
                units = told.units or units
            least, order = order.min_amount_out, self._priced(plan, order, units, await samples)
            if message is not None and least == order.min_amount_out:
                message = self._new(job, order, repriced(message, order))
            else:
                message = self._new(job, order, job.build(order))
            trace = replace(trace, built_ns=trace.built_ns or link.wall_ns())
            body = bytes(to_bytes_versioned(message))
            signature = Signature.from_bytes(await self.signers[job.lane.address].sign(body))
            ready = await self._ready(link, VersionedTransaction.populate(message, [signature]), trace, job.lane)
        except BaseException:
            if trial is not None:
                trial.cancel()
            raise
        return replace(ready, trial=trial)

    def _new(self, job: _Job, order: CycleOrder, message: MessageV0) -> MessageV0:
        """Return the message, or where it was made before one that asks for a few units less.

        The same cycle with the same blockhash must not be the same transaction.
        """
        while (known := hash(bytes(to_bytes_versioned(message)))) in self._made_before:
            order = replace(order, compute_limit=order.compute_limit - 1)
            message = job.build(order)
        self._made_before[known] = None
        if len(self._made_before) > _REMEMBERED:
            self._made_before.popitem(last=False)
        return message

    async def _trial(self, job: _Job, message: MessageV0, least: int, trace: Trace) -> Simulated | RefusedBySimulation:
        """Return what a node tells of a message that is signed, and perhaps claimed, meanwhile."""
        plan, link, slot, wallet = job.plan, job.link, job.slot, job.lane.address
        asked = Asked(plan.legs, plan.token, wallet, associated_address(wallet, plan.token))
        try:
            simulation = await simulate(link.rpc, message, link.tables, asked)
        except RpcError as error:
            return RefusedBySimulation(slot, f"no node simulated it: {error}", trace)
        except Exception as error:
            # Nobody could take the plan back from here: it ends, whatever that was.
            self.warn(f"a simulation could not be made out: {error!r}")
            return RefusedBySimulation(slot, f"no simulation could be made out: {type(error).__name__}", trace)
        failure = simulation.failure
        if failure is None and simulation.amount_out < least:
            reason = f"the simulation gives {simulation.amount_out}, under the {least} that cover all costs"
            return RefusedBySimulation(slot, reason, replace(trace, simulated_ns=link.wall_ns()))
        if failure is None:
            self.learn(plan, simulation.units)
            return Simulated(simulation.amount_out, simulation.units, link.wall_ns())
        if failure.kind == "compute_exceeded":
            self.learn(plan, 0)
        where = f"leg {failure.leg}: " if failure.leg >= 0 else ""
        trace = replace(trace, simulated_ns=link.wall_ns(), compute_units=simulation.units)
        return RefusedBySimulation(slot, f"{failure.kind}: {where}{failure.text}", trace)

    async def _ready(
        self, link: ChainLink, transaction: VersionedTransaction, trace: Trace, lane: Lane
    ) -> ChainPrepared:
        """Take the connections that the transaction will be written to."""
        raw, signature = bytes(transaction), str(transaction.signatures[0])
        by_bundle = link.engine is not None and self.settings.route != "rpc" and link.engine.may_send()
        if self.settings.route == "bundle" and link.engine is not None and not by_bundle:
            # By RPC everybody would see it, and a failure would cost its fee.
            raise _Refused(RefusedByWallet(self.market.slot, "no bundle was made: the block engine's rate is used up"))
        by_rpc = self.settings.route != "bundle" or not by_bundle
        bundle = bundle_id([signature]) if by_bundle else ""
        bundle_line = await link.engine.take() if by_bundle and link.engine is not None else None
        try:
            rpc_line = await link.rpc_line() if by_rpc else None
        except BaseException:
            if bundle_line is not None:
                bundle_line.give_back()
            raise
        return ChainPrepared(
            str(Reference(signature, trace.last_valid_block_height, trace.wallet)),
            replace(trace, signature=signature, bundle=bundle),
            raw=raw,
            lane=lane,
            bundle=bundle,
            bundle_line=bundle_line,
            bundle_body=bundle_request([raw]) if by_bundle else b"",
            rpc_line=rpc_line,
            rpc_body=send_request(raw) if by_rpc else b"",
        )

    def _tip(self, plan: ExecutionPlan, floor: int) -> int:
        """Return the plan's tip, raised to what others paid lately as far as the profit bears it."""
        if self.settings.route == "rpc":
            return 0
        most = self.settings.max_tip_lamports
        return raised_tip(min(plan.tip, most), self._profit_lamports(plan), floor=floor, most=most)

    def _profit_lamports(self, plan: ExecutionPlan) -> int:
        """Return the expected profit before the tip, lamports rounded down."""
        planned = plan.base_fee + plan.priority_fee + plan.tip
        profit = max(plan.expected_profit, 0)
        return plan.tip + (profit * planned // plan.cost if plan.cost else 0)

    def _order(self, plan: ExecutionPlan, tip: int) -> CycleOrder:
        """Return what is put into the transaction that is simulated: with the plan's priority fee, the most it pays."""
        return CycleOrder(
            legs=plan.legs,
            token=plan.token,
            amount_in=plan.amount_in,
            min_amount_out=_least(plan, plan.priority_fee, tip),
            wallet="",
            compute_limit=MAX_COMPUTE_UNITS,
            micro_lamports=1,  # there is a price, and which one it is can be changed afterwards
            tip=tip,
            tip_account=tip_account(plan.id),
        )

    def _limit(self, plan: ExecutionPlan, units: int) -> int:
        """Return the compute limit for so many units."""
        # A few units more, other ones for each plan: the same cycle twice is then still two transactions.
        spread = zlib.crc32(plan.id.encode()) % _SPREAD
        return min(compute_limit(units, self.settings.compute_margin_ratio) + spread, MAX_COMPUTE_UNITS)

    def _priced(
        self, plan: ExecutionPlan, order: CycleOrder, units: int, samples: tuple[int, ...] | None
    ) -> CycleOrder:
        """Return the order with its limit, its price, and the minimum that covers what it costs."""
        limit = self._limit(plan, units)
        most = min(self.settings.max_micro_lamports, affordable_micro_lamports(plan.priority_fee, limit))
        # Where no node tells what others pay, the plan's own price is offered.
        price = most if samples is None else micro_lamports_for(samples, self.settings.priority_percentile, most)
        least = _least(plan, priority_fee(limit, price), order.tip)
        return replace(order, compute_limit=limit, micro_lamports=price, min_amount_out=least)


def repriced(message: MessageV0, order: CycleOrder) -> MessageV0:
    """Return a message that has a price with the limit and the price of an order, everything else as it is."""
    limit, price, *others = message.instructions
    data = set_compute_unit_limit(order.compute_limit).data, set_compute_unit_price(order.micro_lamports).data
    changed = [
        CompiledInstruction(one.program_id_index, bytes(new), bytes(one.accounts))
        for one, new in zip((limit, price), data, strict=True)
    ]
    return MessageV0(
        message.header,
        message.account_keys,
        message.recent_blockhash,
        [*changed, *others],
        message.address_table_lookups,
    )


def _cycle(plan: ExecutionPlan) -> tuple[str, ...]:
    return tuple(leg.pool for leg in plan.legs)


def send_request(raw: bytes) -> bytes:
    """Return the body of a sendTransaction call that nobody simulates again."""
    params = [base64.b64encode(raw).decode(), {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}]
    request = {"jsonrpc": "2.0", "id": 1, "method": "sendTransaction", "params": params}
    return json.dumps(request, separators=(",", ":")).encode()


def _least(plan: ExecutionPlan, priority: int, tip: int) -> int:
    """Return the least the cycle must give: the plan's minimum, and never less than what covers the costs."""
    return max(plan.min_amount_out, plan.amount_in + in_token(plan, LAMPORTS_PER_SIGNATURE + priority + tip))
