"""A small chain with wallets, a token and a lookup table, and nodes over it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from localnet.chain.chain import Chain
from localnet.chain_view import ChainAccount, account_of
from localnet.rpc_node import Faults, RpcNode
from markets.solana.transactions.tips import TIP_ACCOUNTS

SYSTEM = "11111111111111111111111111111111"
TOKENS = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
MEMO = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
TABLES = "AddressLookupTab1e1111111111111111111111111"
SOL = 10**9


def key(name: str) -> Keypair:
    return Keypair.from_seed(hashlib.sha256(f"node test {name}".encode()).digest())


def address(name: str) -> str:
    return str(key(name).pubkey())


MINT, PURSE_A, PURSE_B, TABLE = address("mint"), address("purse a"), address("purse b"), address("table")


def token_account(owner: str, amount: int) -> ChainAccount:
    data = bytes(Pubkey.from_string(MINT)) + bytes(key(owner).pubkey()) + struct.pack("<Q", amount)
    return account_of(TOKENS, data + bytes(36) + b"\1" + bytes(56))


def node_chain(**given: Any) -> Chain:
    """Wallets "a" and "b" with 10 SOL and a purse each; "a" has 5,000 of a token with 6 decimals; a lookup table."""
    chain = Chain(name="node test", **given)
    for name in ("a", "b"):
        chain.put(address(name), ChainAccount(SYSTEM, b"", 10 * SOL))
    mint = b"\1\0\0\0" + bytes(key("a").pubkey()) + struct.pack("<QBB", 5_000_000_000, 6, 1) + bytes(36)
    chain.put(MINT, account_of(TOKENS, mint))
    chain.put(PURSE_A, token_account("a", 5_000_000_000))
    chain.put(PURSE_B, token_account("b", 0))
    meta = struct.pack("<IQQBB", 1, 2**64 - 1, 0, 0, 1) + bytes(key("a").pubkey()) + bytes(2)
    entries = b"".join(bytes(Pubkey.from_string(one)) for one in (PURSE_A, PURSE_B, TIP_ACCOUNTS[1]))
    chain.put(TABLE, account_of(TABLES, meta + entries))
    return chain


def table() -> AddressLookupTableAccount:
    entries = [Pubkey.from_string(one) for one in (PURSE_A, PURSE_B, TIP_ACCOUNTS[1])]
    return AddressLookupTableAccount(Pubkey.from_string(TABLE), entries)


def pay(source: str, target: str, amount: int) -> Instruction:
    return transfer(
        TransferParams(from_pubkey=key(source).pubkey(), to_pubkey=Pubkey.from_string(target), lamports=amount)
    )


def move_tokens(amount: int) -> Instruction:
    """From the purse of "a" to that of "b"."""
    purses = [AccountMeta(Pubkey.from_string(one), False, True) for one in (PURSE_A, PURSE_B)]
    owner = AccountMeta(key("a").pubkey(), True, False)
    return Instruction(Pubkey.from_string(TOKENS), b"\3" + struct.pack("<Q", amount), [*purses, owner])


def memo(text: str) -> Instruction:
    return Instruction(Pubkey.from_string(MEMO), text.encode(), [])


def signed(
    chain: Chain,
    *instructions: Instruction,
    payer: str = "a",
    blockhash: str | None = None,
    legacy: bool = False,
    tables: Sequence[AddressLookupTableAccount] = (),
) -> VersionedTransaction:
    chosen = Hash.from_string(blockhash or chain.latest_blockhash("processed")[0])
    keys = key(payer)
    if legacy:
        return VersionedTransaction(Message.new_with_blockhash(list(instructions), keys.pubkey(), chosen), [keys])
    return VersionedTransaction(MessageV0.try_compile(keys.pubkey(), list(instructions), list(tables), chosen), [keys])


def payment(chain: Chain, amount: int = SOL, *, tip: int = 0, **more: Any) -> VersionedTransaction:
    extra = [pay("a", TIP_ACCOUNTS[0], tip)] if tip else []
    return signed(chain, pay("a", address("b"), amount), *extra, **more)


def text(transaction: VersionedTransaction) -> str:
    return base64.b64encode(bytes(transaction)).decode()


class Stage:
    """One or two nodes over a chain, and a client."""

    def __init__(self, chain: Chain, nodes: list[RpcNode], urls: list[str], session: aiohttp.ClientSession) -> None:
        self.chain = chain
        self.nodes = nodes
        self.urls = urls
        self.session = session

    @property
    def node(self) -> RpcNode:
        return self.nodes[0]

    @property
    def url(self) -> str:
        return self.urls[0]

    def step(self, slots: int = 1) -> None:
        for _ in range(slots):
            block = self.chain.produce()
            for node in self.nodes:
                node.told(block)

    async def raw(self, body: bytes | str, path: str = "/", node: int = 0) -> tuple[int, str]:
        async with self.session.post(self.urls[node] + path, data=body) as response:
            return response.status, await response.text()

    async def whole(self, method: str, *params: Any, path: str = "/", node: int = 0) -> dict[str, Any]:
        """Return the whole answer to one call."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        async with self.session.post(self.urls[node] + path, json=body) as response:
            found: dict[str, Any] = await response.json()
        assert found["jsonrpc"] == "2.0"
        assert found["id"] == 1
        return found

    async def ask(self, method: str, *params: Any, path: str = "/", node: int = 0) -> Any:
        """Return a result; an error fails the test."""
        found = await self.whole(method, *params, path=path, node=node)
        assert "error" not in found, found
        return found["result"]

    async def refused(self, method: str, *params: Any, path: str = "/", node: int = 0) -> dict[str, Any]:
        """Return an error; a result fails the test."""
        found = await self.whole(method, *params, path=path, node=node)
        assert "result" not in found, found
        error: dict[str, Any] = found["error"]
        return error

    async def fault(self, node: int = 0, **changes: Any) -> None:
        async with self.session.put(self.urls[node] + "/faults", json=changes) as response:
            assert response.status == 204, await response.text()

    async def happened(self, node: int = 0) -> dict[str, int]:
        async with self.session.get(self.urls[node] + "/faults") as response:
            counts: dict[str, int] = (await response.json())["happened"]
        return counts

    async def send(self, transaction: VersionedTransaction, **options: Any) -> str:
        signature: str = await self.ask("sendTransaction", text(transaction), {"encoding": "base64"} | options)
        return signature


@asynccontextmanager
async def stage(chain: Chain | None = None, *faults: Faults) -> AsyncIterator[Stage]:
    chain = chain or node_chain()
    nodes = [RpcNode(chain, one, seed=number) for number, one in enumerate(faults or (Faults(),))]
    async with aiohttp.ClientSession() as session:
        try:
            yield Stage(chain, nodes, [await node.start() for node in nodes], session)
        finally:
            for node in nodes:
                await node.stop()


@asynccontextmanager
async def ticking(on: Stage, pause_s: float = 0.01) -> AsyncIterator[None]:
    """Produce blocks while something goes on."""

    async def tick() -> None:
        while True:
            on.step()
            await asyncio.sleep(pause_s)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Line:
    """A websocket that knows calls from notifications."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._told: list[dict[str, Any]] = []

    async def call(self, method: str, *params: Any) -> Any:
        await self._socket.send_json({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
        while True:
            message = await self._socket.receive_json(timeout=5)
            if "id" in message:
                return message.get("result", message.get("error"))
            self._told.append(message)

    async def next(self, timeout_s: float = 5) -> dict[str, Any]:
        if self._told:
            return self._told.pop(0)
        message: dict[str, Any] = await self._socket.receive_json(timeout=timeout_s)
        return message

    async def quiet(self) -> bool:
        """Tell that nothing more comes: the answer to a call is the next message."""
        await self.call("slotUnsubscribe", 0)
        return not self._told


@asynccontextmanager
async def line(on: Stage, node: int = 0) -> AsyncIterator[Line]:
    async with on.session.ws_connect(on.urls[node]) as socket:
        yield Line(socket)
