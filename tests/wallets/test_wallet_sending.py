"""One transaction of upkeep on its way, and a node that lies, lags or falls silent: what became of it is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from solders.keypair import Keypair
from solders.system_program import TransferParams, transfer

from markets.solana.rpc.accounts import Malformed
from markets.solana.rpc.errors import NotAllowed as Forbidden
from markets.solana.rpc.errors import Refused, RpcError, Unanswered
from markets.solana.wallets import KeySigner, sending
from markets.solana.wallets.sending import Confirmed, NotAllowed, NotLanded, Unclear, send_and_wait

KEY = Keypair.from_seed(bytes(32))
INSTRUCTION = transfer(TransferParams(from_pubkey=KEY.pubkey(), to_pubkey=KEY.pubkey(), lamports=1))
BLOCKHASH = str(Keypair.from_seed(b"1" * 32).pubkey())
LAST, SLOT = 1_000, 2_000
LANDED = {"slot": 77, "err": None, "confirmationStatus": "confirmed"}


class Node:
    """Says what it is told to say."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "getLatestBlockhash": {"value": {"blockhash": BLOCKHASH, "lastValidBlockHeight": LAST}},
            "simulateTransaction": {"value": {"err": None}},
            "sendTransaction": "signature",
            "getSignatureStatuses": [{"value": [None]}, {"value": [LANDED]}],
            "getBlockHeight": LAST - 100,
        } | answers
        self.asked: list[str] = []
        self.newest: list[int] = []
        self.slots = SimpleNamespace(best=lambda: SLOT - 5)

    async def call(self, method: str, params: Any, *, read: Callable[[Any], Any], **more: Any) -> Any:
        self.asked.append(method)
        self.newest.append(more.get("min_slot", 0))
        answer = self.answers[method]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, RpcError):
            raise answer
        try:
            return read(answer)
        except Malformed:
            raise silent(method) from None

    async def get_slot(self) -> int:
        return SLOT

    async def everywhere(
        self, method: str, _params: Any, *, read: Callable[[Any], Any], may: Callable[[], bool]
    ) -> list[Any]:
        if not may():
            return [Forbidden("node", "was not written to")]
        self.asked.append(method)
        return [self.answers[method]]

    async def send(self, **more: Any) -> Confirmed:
        rpc: Any = self
        return await send_and_wait(rpc, KeySigner(KEY), [INSTRUCTION], micro_lamports=1, **more)

    def sent(self) -> int:
        return self.asked.count("sendTransaction")


def silent(method: str = "getSignatureStatuses") -> Unanswered:
    return Unanswered(method, [], {})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_LOOK_S", 0.0)


async def test_it_is_waited_for_until_it_is_confirmed_and_sent_again_meanwhile() -> None:
    waits: list[Any] = [{"value": [None]}] * 6 + [{"value": [LANDED | {"confirmationStatus": "processed"}]}]
    node = Node(getSignatureStatuses=[*waits, {"value": [LANDED]}])
    found = await node.send()
    assert (found.slot, node.sent()) == (77, 2)
    assert len(found.signature) > 80


@pytest.mark.parametrize(
    "answer", [silent("sendTransaction"), Refused("sendTransaction", -32002, "has already been processed")]
)
async def test_a_node_that_took_it_and_answers_otherwise_is_no_failure(answer: RpcError) -> None:
    node = Node(sendTransaction=answer)
    assert (await node.send()).slot == 77
    assert node.sent() == 1


async def test_what_would_fail_is_not_sent() -> None:
    node = Node(simulateTransaction={"value": {"err": {"InstructionError": [2, "InsufficientFunds"]}}})
    with pytest.raises(NotLanded, match=r"not sent: .*InsufficientFunds"):
        await node.send()
    assert node.sent() == 0
    node = Node(simulateTransaction={"value": 7})
    with pytest.raises(RpcError):
        await node.send()
    assert node.sent() == 0


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ({"getSignatureStatuses": {"value": [LANDED | {"err": "AccountInUse"}]}}, NotLanded, "AccountInUse"),
        (
            {"getSignatureStatuses": {"value": [None]}, "getBlockHeight": LAST + 1},
            NotLanded,
            "before its blockhash ran out",
        ),
        ({"getSignatureStatuses": silent()}, Unclear, "nobody tells what became of"),
        ({"getSignatureStatuses": {"value": [{"err": None}]}}, Unclear, "nobody tells what became of"),
    ],
)
async def test_what_became_of_it_is_told_apart(answers: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        await Node(**answers).send()


async def test_a_node_that_is_behind_is_not_believed_that_it_ran_out() -> None:
    node = Node(getBlockHeight=LAST + 1)  # the second answer, of a slot that is new enough, knows it
    assert (await node.send()).slot == 77
    assert max(node.newest) == SLOT


async def test_a_height_that_cannot_be_of_this_chain_is_not_believed() -> None:
    waits: list[Any] = [{"value": [None]}] * 8
    node = Node(getBlockHeight=SLOT + 1, getSignatureStatuses=[*waits, {"value": [LANDED]}])
    assert (await node.send()).slot == 77


@pytest.mark.parametrize("blockhash", ["1" * 44, "0" * 44, "", "x" * 200, 7, None])
async def test_a_blockhash_that_is_none_ends_before_anything_is_signed(blockhash: Any) -> None:
    node = Node(getLatestBlockhash={"value": {"blockhash": blockhash, "lastValidBlockHeight": LAST}})
    with pytest.raises(RpcError):
        await node.send()
    assert node.sent() == 0


async def test_a_chain_that_stands_still_is_not_waited_for_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_LONGEST_S", 0.05)
    node = Node(
        getSignatureStatuses={"value": [None]},
        getLatestBlockhash={"value": {"blockhash": BLOCKHASH, "lastValidBlockHeight": 2**62}},
    )
    with pytest.raises(Unclear, match="neither landed nor ran out"):
        await node.send()


async def test_nothing_is_sent_that_is_not_allowed_any_more() -> None:
    node = Node()
    with pytest.raises(NotAllowed):
        await node.send(allowed=lambda: False)
    assert node.sent() == 0
    # Once sent, it is followed to its end, and not sent again.
    answers = iter([True])
    node = Node(getSignatureStatuses=[*[{"value": [None]}] * 12, {"value": [LANDED]}])
    assert (await node.send(allowed=lambda: next(answers, False))).slot == 77
    assert node.sent() == 1
