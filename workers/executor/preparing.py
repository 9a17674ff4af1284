"""What `pipeline wallet show` and `prepare` do on chain, as plain values; the command line loads this by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from markets.solana.landing.balances import read_balances, token_program_of
from markets.solana.pool_cache import CacheRefused, load
from markets.solana.rpc.endpoint import endpoints_in, offline_endpoint
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.rpc.settings import PoolSettings
from markets.solana.transactions.lookup_tables import TABLE_PROGRAM, parse_table, tables_of
from markets.solana.venues.shape import BadAccount
from markets.solana.wallets import WalletBalance, WalletError, close_signers, open_signers, public_addresses
from markets.solana.wallets.pool_addresses import read_addresses
from markets.solana.wallets.sending import send_and_wait
from markets.solana.wallets.upkeep import Step, lamports_short, open_steps, table_steps, wrap_step
from markets.tokens import SOL_MINT, load_registry
from pipeline import run_files
from pipeline.config import Config
from pipeline.errors import CheckFailed, Refused, Unreachable, UsageFailure
from pipeline.live import MAINNET, required_chain
from workers.executor.live import genesis_hashes
from workers.executor.wallet_desk import configured, said

__all__ = ["Wanted", "prepare", "shown"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the wallets are to have."""

    wrapped: int = 0
    """lamports as wrapped SOL, in each wallet"""
    exactly: bool = False
    """what is wrapped beyond that is unwrapped"""
    tables: bool = False
    """lookup tables for the pools that discovery found"""
    micro_lamports: int = 10_000
    """price per compute unit of the transactions that prepare"""


@dataclass(frozen=True, slots=True)
class _Survey:
    chain: str
    balances: dict[str, WalletBalance]
    steps: list[Step]
    notes: list[str]


def shown(config: Config) -> dict[str, Any]:
    """Return what every wallet holds, as plain values.

    Raises:
        Failure: if the wallets are not known, or no node tells.
    """
    return _run(_shown(config))


def prepare(config: Config, wanted: Wanted, *, send: bool, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return what the wallets lack, and with `send` give it to them; `tell` hears of every transaction.

    Raises:
        Failure: if it is not known, or a transaction did not land. What landed before stays, and is not done again.
    """
    return _run(_prepare(config, wanted, send=send, tell=tell))


async def _shown(config: Config) -> dict[str, Any]:
    async with open_node(config) as rpc:
        chain = await _chain_of(rpc)
        balances, _ = await _balances(config, rpc)
        return _document(config, _Survey(chain, balances, [], []))


async def _prepare(config: Config, wanted: Wanted, *, send: bool, tell: Callable[[str], None]) -> dict[str, Any]:
    settings = configured(config)
    async with open_node(config) as rpc:
        survey = await _survey(config, rpc, wanted)
        document = _document(config, survey)
        if not send or not survey.steps:
            return document
        if survey.chain == MAINNET and settings.source == "localnet":
            raise Refused("the wallets of the offline market are known to everybody", "set wallets.source")
        if (meant := required_chain(config)) and survey.chain != meant:
            what = f"the endpoints serve chain {survey.chain}, and executor.chain means {meant}; nothing was sent"
            raise Refused(what, "look at PIPELINE_RPC__ENDPOINTS")
        if short := [one["address"] for one in document["wallets"] if one["short"]]:
            raise Refused(f"{short[0]} has not the lamports for that; nothing was sent", "send some SOL to it first")
        with said():
            signers = {signer.address: signer for signer in open_signers(settings)}
        try:
            for step in survey.steps:
                tell(f"{step.wallet}: {step.does} ...")
                with _naming(step):
                    sent = await send_and_wait(
                        rpc, signers[step.wallet], step.instructions, micro_lamports=wanted.micro_lamports
                    )
                tell(f"  confirmed: {sent.signature}")
        finally:
            await close_signers(list(signers.values()))
        left = await _survey(config, rpc, wanted)
        return {**_document(config, left), "sent": len(survey.steps)}


@contextmanager
def _naming(step: Step) -> Iterator[None]:
    """Turn a step that did not land into a failure that names it."""
    try:
        yield
    except (WalletError, RpcError) as error:
        raise CheckFailed(
            f"{step.wallet}: {step.does}: {error}", "run it again: what landed is not done twice"
        ) from None


async def _survey(config: Config, rpc: RpcPool, wanted: Wanted) -> _Survey:
    chain = await _chain_of(rpc)
    balances, programs = await _balances(config, rpc)
    names = load_registry().by_mint
    steps: list[Step] = []
    notes: list[str] = []
    for wallet, balance in balances.items():
        steps += open_steps(wallet, balance, programs, {mint: token.symbol for mint, token in names.items()})
        if wanted.wrapped:
            wrap = wrap_step(wallet, balance, wanted.wrapped, exactly=wanted.exactly)
            steps += [wrap] if wrap is not None else []
    if wanted.tables:
        steps += await _table_steps(config, rpc, chain, list(balances), notes)
    return _Survey(chain, balances, steps, notes)


async def _table_steps(config: Config, rpc: RpcPool, chain: str, wallets: list[str], notes: list[str]) -> list[Step]:
    """Return what the first wallet's lookup tables lack of the pools that discovery found."""
    try:
        found = load(config.data_directory / "pools.json", chain=chain)
    except CacheRefused as refusal:
        notes.append(f"no lookup tables: {refusal}; `pipeline pools discover` finds the pools")
        return []
    told = await rpc.get_program_accounts(TABLE_PROGRAM, tables_of(wallets[0]).rpc())
    tables = []
    for address, account in told.accounts.items():
        try:
            tables += [parse_table(address, account.owner, account.data)] if account is not None else []
        except BadAccount:
            continue
    slot = await rpc.call("getSlot", [{"commitment": "finalized"}], read=_slot)
    return table_steps(wallets[0], tables, await read_addresses(rpc, found.pools), slot)


async def _balances(config: Config, rpc: RpcPool) -> tuple[dict[str, WalletBalance], dict[str, str]]:
    """Return what every wallet holds, and each token's program."""
    with said():
        wallets = public_addresses(configured(config))
    mints = list(dict.fromkeys([SOL_MINT, *(token.mint for token in load_registry().tokens)]))
    told = (await rpc.get_accounts(mints)).accounts
    programs = {mint: token_program_of(account.owner) for mint, account in told.items() if account is not None}
    return await read_balances(rpc, wallets, programs), programs


def _document(config: Config, survey: _Survey) -> dict[str, Any]:
    return {
        "chain": survey.chain,
        "mainnet": survey.chain == MAINNET,
        "notes": survey.notes,
        "wallets": [
            _wallet(wallet, balance, [step for step in survey.steps if step.wallet == wallet], config)
            for wallet, balance in survey.balances.items()
        ],
    }


def _wallet(wallet: str, balance: WalletBalance, steps: list[Step], config: Config) -> dict[str, Any]:
    return {
        "address": wallet,
        "slot": balance.slot,
        "lamports": balance.lamports,
        "tokens": dict(balance.tokens),
        "steps": [{"does": step.does, "lamports": step.lamports} for step in steps],
        "short": lamports_short(balance, steps, config.wallets.min_lamports) if steps else 0,
    }


def open_node(config: Config) -> RpcPool:
    """Return a client for the configured endpoints, or for the offline chain that runs here.

    Raises:
        UsageFailure: if there are none, or one is no address. It does not say which: addresses hold keys.
    """
    section = config.rpc
    try:
        endpoints = endpoints_in(section.endpoints.get_secret_value(), section.rate_per_s, section.burst)
    except ValueError as error:
        raise UsageFailure(f"rpc.endpoints: {error}", "look at PIPELINE_RPC__ENDPOINTS") from None
    entry = run_files.read(config, run_files.OFFLINE_CHAIN)
    if not endpoints and entry is not None and entry.url:
        endpoints = [offline_endpoint(entry.url)]
    if not endpoints:
        raise UsageFailure(
            "no Solana RPC endpoint is configured, and no offline chain runs here",
            "set PIPELINE_RPC__ENDPOINTS, or PIPELINE_RPC__ENDPOINTS_FILE to a file; or bring an offline chain with "
            "`pipeline up --set executor.mode=localnet`",
        )
    return RpcPool(
        endpoints,
        PoolSettings(
            timeout_s=section.timeout_s,
            deadline_s=section.deadline_s,
            attempts=section.attempts,
            commitment="confirmed",
            max_lag_slots=section.max_lag_slots,
        ),
    )


async def _chain_of(rpc: RpcPool) -> str:
    """Return the genesis hash that all endpoints serve which say so."""
    told = await genesis_hashes([one.settings for one in rpc.endpoints], rpc.settings)
    chains = {answer for _, answer in told if isinstance(answer, str)}
    if not chains:
        raise Unreachable(f"no RPC endpoint answers: {told[0][1]}", "look at PIPELINE_RPC__ENDPOINTS")
    if len(chains) > 1:
        raise UsageFailure("the endpoints serve different chains", "look at PIPELINE_RPC__ENDPOINTS")
    return chains.pop()


def _slot(result: Any) -> int:
    return int(result)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except RpcError as error:
        raise Unreachable(f"the chain does not answer: {error}", "look at PIPELINE_RPC__ENDPOINTS") from None
