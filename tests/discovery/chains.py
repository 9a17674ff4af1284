"""A chain that answers discovery's questions as a node would, or as a node should not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import base58

from markets.solana.rpc.accounts import AccountInfo, AccountsAt
from markets.solana.rpc.errors import RpcError
from markets.solana.venues import VENUES
from markets.solana.venues.shape import TOKEN_PROGRAM
from markets.tokens import SOL_MINT, USDC_MINT, Pair, Registry, Token
from pipeline.messages import Protocol
from tests.venues.recordings import laid_out
from tests.venues.samples import amm_v4, clmm, cpmm

SOL = Token("SOL", "Wrapped SOL", SOL_MINT, 9, "native", verified=True)
USDC = Token("USDC", "USD Coin", USDC_MINT, 6, "stable", verified=True)
REGISTRY = Registry((SOL, USDC), (Pair(SOL, USDC),))
GENESIS = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"
SLOT = 345_000_000


def address(number: int) -> str:
    return base58.b58encode(bytes([7]) * 30 + number.to_bytes(2, "big")).decode()


def token_account(mint: str, amount: int) -> bytes:
    return laid_out(165, (0, mint), (64, amount.to_bytes(8, "little")))


def with_vaults(data: bytes, offsets: tuple[int, int], number: int) -> bytes:
    return laid_out(len(data), (0, data), (offsets[0], address(number)), (offsets[1], address(number + 1)))


@dataclass
class FakeChain:
    """Accounts by address; `broken` holds programs, or `vaults`, that it does not answer for."""

    accounts: dict[str, AccountInfo] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    extra: list[AccountInfo] = field(default_factory=list)
    """Given in every answer, whatever was asked."""
    forgotten: set[str] = field(default_factory=set)
    """Not found by their program, though they are there."""
    asked: list[str] = field(default_factory=list)

    def put(self, at: str, owner: str, data: bytes) -> None:
        self.accounts[at] = AccountInfo(at, owner, 1, data)

    def add_pool(self, number: int, protocol: Protocol, *, sol: int = 10**12, usdc: int = 10**12, **shape: int) -> str:
        """Add a pool of SOL and USDC with both vaults; its addresses follow from the number."""
        build, offsets = {
            Protocol.RAYDIUM_AMM_V4: (amm_v4, (336, 368)),
            Protocol.RAYDIUM_CPMM: (cpmm, (72, 104)),
            Protocol.RAYDIUM_CLMM: (clmm, (137, 169)),
        }[protocol]
        self.put(address(number), VENUES[protocol].PROGRAMS[0], with_vaults(build(**shape), offsets, number + 1000))
        self.put(address(number + 1000), TOKEN_PROGRAM, token_account(SOL_MINT, sol))
        self.put(address(number + 1001), TOKEN_PROGRAM, token_account(USDC_MINT, usdc))
        return address(number)

    async def get_program_accounts(self, program: str, filters: Sequence[Mapping[str, object]]) -> AccountsAt:
        self.asked.append(program)
        if program in self.broken:
            raise RpcError(f"{program} has no answer")
        found: dict[str, AccountInfo | None] = {
            at: account
            for at, account in self.accounts.items()
            if account.owner == program and at not in self.forgotten and passes(account.data, filters)
        }
        return AccountsAt(SLOT, found | {account.address: account for account in self.extra})

    async def get_accounts(self, addresses: Sequence[str]) -> AccountsAt:
        assert len(addresses) <= 100
        self.asked.append("vaults")
        if "vaults" in self.broken:
            raise RpcError("the vaults have no answer")
        return AccountsAt(SLOT, {at: self.accounts.get(at) for at in addresses})


def passes(data: bytes, filters: Sequence[Mapping[str, object]]) -> bool:
    """Decide as a node does, from the filters as they stand in the call."""
    for one in filters:
        match one:
            case {"dataSize": int(size)}:
                if len(data) != size:
                    return False
            case {"memcmp": {"offset": int(offset), "bytes": str(text)}}:
                raw = base58.b58decode(text)
                if data[offset : offset + len(raw)] != raw:
                    return False
            case _:
                raise AssertionError(one)
    return True
