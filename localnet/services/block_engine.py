"""A block engine in the shapes of Jito's: bundles in, statuses and the tips that landed out.

Methods, shapes and limits: https://docs.jito.wtf/lowlatencytxnsend/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from localnet.chain.chain import Chain
from localnet.chain.records import BundleStatus, ChainRefusal
from localnet.services.errors import MethodError, invalid, not_found
from localnet.services.params import Params, at, bytes_of, needed
from localnet.services.state import NodeState
from localnet.services.transactions import send_transaction

MAX_BUNDLE = 5
MAX_IDS = 5
BUSY = MethodError(-32097, "Network congested. Endpoint is globally rate limited.")
"""What a caller is told who asks too often, with HTTP 429."""
_LAMPORTS = 1_000_000_000
_PERCENTILES = (25, 50, 75, 95, 99)
_EMA_WEIGHT = 0.1
"""Of the newest slot's median in its moving average; Jito does not tell its own."""
_REASONS = {
    "AlreadyProcessed": "bundle contains an already processed transaction",
    "BlockhashNotFound": "bundle contains an expired blockhash",
}


class BlockEngine:
    """Takes bundles for a chain; knows the newest slot whatever the node beside it knows."""

    def __init__(self, node: NodeState) -> None:
        """Serve a node's chain."""
        self._node = node
        self._ema: float | None = None

    def call(self, method: str, params: Params) -> object:
        """Run a method.

        Raises:
            MethodError: as the block engine would.
        """
        chain = self._node.chain()
        match method:
            case "sendBundle":
                return self._send(chain, params)
            case "getBundleStatuses":
                return _statuses(chain, params)
            case "getInflightBundleStatuses":
                return _inflight(chain, params)
            case "getTipAccounts":
                return sorted(chain.auction.tip_accounts)
            case "sendTransaction":
                # Jito passes transactions on without a simulation.
                options = at(params, 1)
                chosen = options if isinstance(options, dict) else {}
                return send_transaction(self._node, [needed(params, 0), chosen | {"skipPreflight": True}])
        raise not_found()

    def note(self) -> None:
        """Go on by a slot."""
        if self._node.ledger is None:
            return
        landed = self._node.ledger.landed_tips()
        if landed:
            median = _percentile(sorted(landed), 50)
            self._ema = median if self._ema is None else self._ema + _EMA_WEIGHT * (median - self._ema)

    def tip_floor(self) -> list[dict[str, object]]:
        """Return the tips that landed in the last 150 slots, SOL; zeros where there were none.

        Raises:
            MethodError: where there is no chain.
        """
        chain = self._node.chain()
        landed = sorted(chain.landed_tips())
        time = datetime.fromtimestamp(chain.unix_time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        told: dict[str, object] = {"time": time}
        for percent in _PERCENTILES:
            told[f"landed_tips_{percent}th_percentile"] = _percentile(landed, percent) / _LAMPORTS
        told["ema_landed_tips_50th_percentile"] = (self._ema or 0.0) / _LAMPORTS
        return [told]

    def _send(self, chain: Chain, params: Params) -> str:
        texts = needed(params, 0)
        options = at(params, 1)
        encoding = options.get("encoding") if isinstance(options, dict) else None
        if not isinstance(texts, list) or not texts:
            raise invalid("bundles must hold at least one transaction")
        if len(texts) > MAX_BUNDLE:
            raise invalid(f"bundles must hold at most {MAX_BUNDLE} transactions")
        raws = [_raw(number, text, encoding) for number, text in enumerate(texts)]
        try:
            return chain.send_bundle(raws)
        except ChainRefusal as refusal:
            known = _REASONS.get(refusal.error) if isinstance(refusal.error, str) else None
            raise invalid(known or str(refusal)) from None


def _raw(number: int, text: object, encoding: object) -> bytes:
    try:
        return bytes_of(text, encoding)
    except MethodError:
        raise invalid(f"transaction #{number} could not be decoded") from None


def _ids(params: Params) -> list[str]:
    ids = needed(params, 0)
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise invalid("expected an array of bundle ids")
    if len(ids) > MAX_IDS:
        raise invalid(f"too many bundle ids; at most {MAX_IDS}")
    return ids


def _statuses(chain: Chain, params: Params) -> dict[str, object]:
    """Tell of bundles that landed; others are left away."""
    found = [status for one in _ids(params) if (status := chain.bundle(one)) is not None and status.state == "Landed"]
    return _in_context(chain, [_landed(chain, status) for status in found])


def _landed(chain: Chain, status: BundleStatus) -> dict[str, object]:
    stands = chain.status(status.signatures[0], history=True)
    return {
        "bundle_id": status.id,
        "confirmation_status": "processed" if stands is None else stands.commitment,
        "err": {"Ok": None},
        "slot": status.slot,
        "transactions": list(status.signatures),
    }


def _inflight(chain: Chain, params: Params) -> dict[str, object]:
    told = []
    for id_ in _ids(params):
        status = chain.bundle(id_)
        told.append(
            {
                "bundle_id": id_,
                "landed_slot": None if status is None else status.slot,
                "status": "Invalid" if status is None else status.state,
            }
        )
    return _in_context(chain, told)


def _in_context(chain: Chain, value: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    return {"context": {"slot": chain.slot}, "value": list(value)}


def _percentile(ordered: Sequence[int], percent: int) -> float:
    """Return a percentile of sorted values, between two of them in proportion; 0 of none."""
    if not ordered:
        return 0.0
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
