"""Ask the offline chain's node what became of a run: plain JSON-RPC, apart from everything the workers use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from pipeline.demo.proof import SOL, ChainFacts, Landed, balances_of
from pipeline.errors import CheckFailed
from pipeline.messages import ExecutionPlan, ExecutionResult, ExecutionStatus

TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
_STATUSES_AT_ONCE = 256
_PAGE = 1000


class Node:
    """One node's JSON-RPC."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Remember where it is."""
        self._session = session
        self._url = url

    async def call(self, method: str, *params: object) -> Any:
        """Return a method's result.

        Raises:
            CheckFailed: if the node does not answer, or answers with an error.
        """
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            async with self._session.post(self._url, json=body) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CheckFailed(f"the offline chain does not answer {method}: {error or type(error).__name__}") from error
        if "result" not in answer:
            raise CheckFailed(f"the offline chain refuses {method}: {answer.get('error')}")
        return answer["result"]

    async def faults(self) -> dict[str, dict[str, Any]]:
        """Return the faults as they are set, and how often each has happened."""
        async with self._session.get(f"{self._url}/faults") as response:
            found: dict[str, dict[str, Any]] = await response.json()
            return found

    async def set_faults(self, faults: dict[str, float]) -> None:
        """Switch faults on or off."""
        async with self._session.put(f"{self._url}/faults", json=faults) as response:
            if response.status >= 300:
                raise CheckFailed(f"the offline chain refuses the faults {faults}: {await response.text()}")


def open_session() -> aiohttp.ClientSession:
    """Return a session for `Node`."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))


async def read_facts(
    node: Node,
    signatures: Iterable[str],
    results: Iterable[ExecutionResult],
    plans: dict[str, ExecutionPlan],
    wallets: Iterable[str],
) -> ChainFacts:
    """Return what the chain says of these signatures and wallets, and of the pools of these results."""
    known = list(results)
    facts = ChainFacts(landed=await _landed(node, sorted({*signatures, *(r.signature for r in known if r.signature)})))
    filled = [result for result in known if result.status == ExecutionStatus.FILLED and result.signature]
    histories: dict[str, list[dict[str, Any]]] = {}
    for result in filled:
        plan = plans.get(result.plan_id)
        for leg in plan.legs if plan is not None else ():
            if leg.pool not in histories:
                histories[leg.pool] = await _history(node, leg.pool)
            if moved_before(histories[leg.pool], result.signature, leg.slot):
                facts.disturbed.add(result.signature)
    held: Counter[str] = Counter()
    for wallet in wallets:
        held += Counter(await _holdings(node, wallet))
    facts.holdings = dict(held)
    return facts


@dataclass(frozen=True, slots=True)
class Rivalry:
    """What the chain's history says of the rival."""

    landed: int
    """transactions of its own that landed"""
    first: int
    """dropped plans of ours of which it was the first to move a pool after the quote"""


async def read_rivalry(
    node: Node, rival: str, results: Iterable[ExecutionResult], plans: dict[str, ExecutionPlan]
) -> Rivalry:
    """Return what became of the rival, by its address, and at which of these plans it was faster than we."""
    its = {entry["signature"] for entry in await _history(node, rival) if entry["err"] is None}
    histories: dict[str, list[dict[str, Any]]] = {}
    beaten = 0
    for result in results:
        plan = plans.get(result.plan_id)
        first: set[str] = set()
        for leg in plan.legs if plan is not None and result.status == ExecutionStatus.DROPPED else ():
            if leg.pool not in histories:
                histories[leg.pool] = await _history(node, leg.pool)
            # The slot after the one it ended in is the first in which it could have landed.
            first.add(first_after(histories[leg.pool], leg.slot, result.slot + 1))
        beaten += bool(first & its)
    return Rivalry(len(its), beaten)


def first_after(history: Sequence[dict[str, Any]], after_slot: int, until_slot: int) -> str:
    """Return who moved a pool first after a slot and until another, by signature; "" where nobody did."""
    moved = [entry for entry in history if entry["err"] is None and after_slot < entry["slot"] <= until_slot]
    return str(moved[-1]["signature"]) if moved else ""


def moved_before(history: Sequence[dict[str, Any]], signature: str, after_slot: int) -> bool:
    """Tell whether a pool's history, newest first, has a transaction of another between a slot and a signature."""
    older = False
    for entry in history:
        if entry["signature"] == signature:
            older = True
        elif older and entry["slot"] <= after_slot:
            return False
        elif older and entry["err"] is None:
            return True
    return False


async def _landed(node: Node, signatures: list[str]) -> dict[str, Landed]:
    found: dict[str, Landed] = {}
    for start in range(0, len(signatures), _STATUSES_AT_ONCE):
        part = signatures[start : start + _STATUSES_AT_ONCE]
        answer = await node.call("getSignatureStatuses", part, {"searchTransactionHistory": True})
        for signature, status in zip(part, answer["value"], strict=True):
            if status is not None:
                final = status["confirmationStatus"] == "finalized"
                found[signature] = Landed(status["slot"], status["err"] is not None, final)
    return found


async def _history(node: Node, address: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        options = {"limit": _PAGE, "commitment": "confirmed"} | ({"before": found[-1]["signature"]} if found else {})
        page = await node.call("getSignaturesForAddress", address, options)
        found += page
        if len(page) < _PAGE:
            return found


async def _holdings(node: Node, wallet: str) -> dict[str, int]:
    own = await node.call("getBalance", wallet, {"commitment": "finalized"})
    options = {"encoding": "jsonParsed", "commitment": "finalized"}
    accounts = await node.call("getTokenAccountsByOwner", wallet, {"programId": TOKEN_PROGRAM}, options)
    held = balances_of(accounts["value"])
    held[SOL] = held.get(SOL, 0) + own["value"]
    return held
