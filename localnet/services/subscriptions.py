"""Websocket subscriptions: who wants to be told of what, and what each slot has them told.

Methods and shapes: https://solana.com/docs/rpc/websocket; defaults: rpc/src/rpc_pubsub.rs of anza-xyz/agave.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localnet.chain.records import Commitment, ErrorForm
from localnet.chain_view import FINAL_AFTER, ChainAccount, View
from localnet.services.accounts import CLOSED, encoder, in_context
from localnet.services.errors import invalid, not_found
from localnet.services.params import (
    Params,
    address_of,
    at,
    commitment_of,
    filters_of,
    flag_of,
    needed,
    options_of,
    signature_of,
)
from localnet.services.state import COMMITMENTS, NodeState

Put = Callable[[object], None]
_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class _Account:
    address: str
    commitment: Commitment
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Program:
    program: str
    commitment: Commitment
    options: Mapping[str, Any]
    passes: Sequence[Callable[[bytes], bool]]


@dataclass(frozen=True, slots=True)
class _Logs:
    mentions: str | None
    commitment: Commitment


@dataclass(frozen=True, slots=True)
class _Signature:
    signature: str
    commitment: Commitment
    received: bool


_Wanted = _Account | _Program | _Logs | _Signature | str
"""What one subscription is about; the streams without parameters are just their name."""


class News:
    """What became visible at each commitment since the last slot."""

    def __init__(self, node: NodeState) -> None:
        """Begin with what is visible now."""
        self._node = node
        self._last = {commitment: node.view(commitment).slot for commitment in COMMITMENTS}
        self.fresh: dict[Commitment, list[View]] = {commitment: [] for commitment in COMMITMENTS}
        """Views, oldest first."""

    def look(self) -> None:
        """Find what is new."""
        kept: list[View] = []
        for commitment in COMMITMENTS:
            last, newest = self._last[commitment], self._node.view(commitment).slot
            if newest > last and not kept:
                kept = self._after(min(self._last.values()))
            self.fresh[commitment] = [view for view in kept if last < view.slot <= newest] if newest > last else []
            self._last[commitment] = max(last, newest)

    def _after(self, slot: int) -> list[View]:
        """Return the views behind a slot, oldest first."""
        views = self._node.views
        found: list[View] = []
        while True:
            view = views.at(len(found))
            if view.slot <= slot or (found and view is found[-1]):
                return found[::-1]
            found.append(view)


class Subscriptions:
    """The subscriptions of one connection; `put` sends a message to it."""

    def __init__(self, node: NodeState, put: Put) -> None:
        """Begin without any."""
        self._node = node
        self._put = put
        self._wanted: dict[int, _Wanted] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def call(self, method: str, params: Params) -> object:
        """Run a method of the websocket.

        Raises:
            MethodError: as the node would.
        """
        if method.endswith("Unsubscribe"):
            return self._unsubscribe(method.removesuffix("Unsubscribe"), params)
        make = _KINDS.get(method.removesuffix("Subscribe")) if method.endswith("Subscribe") else None
        if make is None:
            raise not_found()
        wanted = make(self._node, params)
        id_ = next(_ids)
        self._wanted[id_] = wanted
        return id_

    def forget(self, kind: str) -> None:
        """Lose the subscriptions of a kind without a word, as nodes have been seen to do."""
        self._wanted = {id_: wanted for id_, wanted in self._wanted.items() if _kind_of(wanted) != kind}

    def answered(self, id_: object) -> None:
        """Tell at once, behind the answer, what a new subscription about a signature already has to say."""
        if isinstance(id_, int) and not isinstance(id_, bool):
            wanted = self._wanted.get(id_)
            if isinstance(wanted, _Signature):
                self._settle(id_, wanted)

    def received(self, signature: str) -> None:
        """Tell that the node took a transaction."""
        for id_, wanted in self._wanted.items():
            if isinstance(wanted, _Signature) and wanted.received and wanted.signature == signature:
                value = in_context(self._node.view(), "receivedSignature")
                self._put(_notification("signature", id_, value))

    def tell(self, news: News) -> None:
        """Tell what is new."""
        for id_, wanted in list(self._wanted.items()):
            match wanted:
                case _Account():
                    self._tell_account(id_, wanted, news.fresh[wanted.commitment])
                case _Program():
                    self._tell_program(id_, wanted, news.fresh[wanted.commitment])
                case _Logs():
                    self._tell_logs(id_, wanted, news.fresh[wanted.commitment])
                case _Signature():
                    self._settle(id_, wanted)
                case "slot":
                    for view in news.fresh["processed"]:
                        slot = {"parent": view.slot - 1, "root": max(0, view.slot - FINAL_AFTER), "slot": view.slot}
                        self._put(_notification("slot", id_, slot))
                case "root":
                    for view in news.fresh["finalized"]:
                        self._put(_notification("root", id_, view.slot))

    def _tell_account(self, id_: int, wanted: _Account, views: Sequence[View]) -> None:
        for view in views:
            if wanted.address in view.changed:
                encode = encoder(wanted.options, view)
                # A closed account is told as one of the system program with nothing in it.
                value = encode(wanted.address, view.accounts.get(wanted.address, CLOSED))
                self._put(_notification("account", id_, in_context(view, value)))

    def _tell_program(self, id_: int, wanted: _Program, views: Sequence[View]) -> None:
        for view in views:
            encode = encoder(wanted.options, view)
            for address, account in _written(view):
                if account.owner == wanted.program and all(one(account.data) for one in wanted.passes):
                    value = {"pubkey": address, "account": encode(address, account)}
                    self._put(_notification("program", id_, in_context(view, value)))

    def _tell_logs(self, id_: int, wanted: _Logs, views: Sequence[View]) -> None:
        if not views:
            return
        by_slot = {view.slot: view for view in views}
        for block in self._node.blocks:
            view = by_slot.get(block.slot)
            if view is None:
                continue
            for record in block.records:
                if wanted.mentions is None or wanted.mentions in record.keys:
                    value = {"err": record.error, "logs": list(record.logs), "signature": record.signature}
                    self._put(_notification("logs", id_, in_context(view, value)))

    def _settle(self, id_: int, wanted: _Signature) -> None:
        """Tell that a transaction is as far as was asked, once."""
        status = self._node.chain().status(wanted.signature, history=True)
        if status is not None and self._node.reached(status, wanted.commitment):
            del self._wanted[id_]
            value: dict[str, ErrorForm | None] = {"err": status.error}
            self._put(_notification("signature", id_, in_context(self._node.view(wanted.commitment), value)))

    def _unsubscribe(self, kind: str, params: Params) -> bool:
        if kind not in _KINDS:
            raise not_found()
        id_ = at(params, 0)
        known = self._wanted.get(id_) if isinstance(id_, int) and not isinstance(id_, bool) else None
        if known is None or _kind_of(known) != kind or not isinstance(id_, int):
            raise invalid("Invalid subscription id.")
        del self._wanted[id_]
        return True


def _written(view: View) -> Iterator[tuple[str, ChainAccount]]:
    for address in sorted(view.changed):
        account = view.accounts.get(address)
        if account is not None:
            yield address, account


def _kind_of(wanted: _Wanted) -> str:
    return wanted if isinstance(wanted, str) else type(wanted).__name__[1:].lower()


def _account(node: NodeState, params: Params) -> _Wanted:
    address, options = address_of(needed(params, 0)), options_of(params, 1)
    encoder(options, node.view())
    return _Account(address, commitment_of(options), options)


def _program(node: NodeState, params: Params) -> _Wanted:
    program, options = address_of(needed(params, 0)), options_of(params, 1)
    encoder(options, node.view())
    return _Program(program, commitment_of(options), options, filters_of(options.get("filters")))


def _logs(node: NodeState, params: Params) -> _Wanted:
    node.chain()
    chosen, commitment = needed(params, 0), commitment_of(options_of(params, 1))
    if chosen in ("all", "allWithVotes"):
        return _Logs(None, commitment)
    mentions = chosen.get("mentions") if isinstance(chosen, dict) else None
    if not isinstance(mentions, list):
        raise invalid("Invalid params: expected all, allWithVotes or mentions.")
    if len(mentions) != 1:
        raise invalid("Invalid Request: Only 1 address supported")
    return _Logs(address_of(mentions[0]), commitment)


def _signature(node: NodeState, params: Params) -> _Wanted:
    node.chain()
    signature, options = signature_of(needed(params, 0)), options_of(params, 1)
    return _Signature(signature, commitment_of(options), flag_of(options, "enableReceivedNotification"))


_KINDS: Mapping[str, Callable[[NodeState, Params], _Wanted]] = {
    "account": _account,
    "program": _program,
    "logs": _logs,
    "signature": _signature,
    "slot": lambda _node, _params: "slot",
    "root": lambda _node, _params: "root",
}


def _notification(kind: str, id_: int, result: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": f"{kind}Notification", "params": {"result": result, "subscription": id_}}
