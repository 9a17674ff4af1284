"""Simulated nodes over the offline world, told slot by slot: over its pools alone, or over its chain."""

from __future__ import annotations

from collections.abc import Iterable

from localnet.chain.chain import Chain
from localnet.chain.records import Block
from localnet.chain_view import ChainAccount, ChainView, account_of, mint_account
from localnet.layouts import TOKEN_PROGRAM
from localnet.publication import HeldState
from localnet.rpc_node import Faults, RpcNode
from localnet.world import World
from markets.tokens import Registry
from pipeline.clock import NS_PER_S
from pipeline.sections.rpc import LocalnetSection


class Nodes:
    """The nodes over one chain, on ports one after the other."""

    def __init__(self, chain: ChainView | Chain, section: LocalnetSection, count: int) -> None:
        """Have so many nodes, each with faults and draws of its own."""
        self.nodes = [RpcNode(chain, _faults(section), seed=section.fault_seed + number) for number in range(count)]
        self._port = section.rpc_port

    async def start(self) -> list[str]:
        """Open the nodes' ports; return their addresses."""
        return [await node.start(self._port + number if self._port else 0) for number, node in enumerate(self.nodes)]

    async def stop(self) -> None:
        """Close them."""
        for node in self.nodes:
            await node.stop()


class ChainServer(Nodes):
    """The services over a chain that runs transactions; the first address has the block engine that is meant."""

    def __init__(self, chain: Chain, section: LocalnetSection) -> None:
        """Have `rpc_nodes` nodes, one at least."""
        super().__init__(chain, section, max(1, section.rpc_nodes))

    def tell(self, block: Block) -> None:
        """Tell every node of the block that was just produced."""
        for node in self.nodes:
            node.told(block)


class ServedChain(Nodes):
    """The nodes over a market that has pools and no chain, and what they all serve."""

    def __init__(self, section: LocalnetSection, registry: Registry, world: World) -> None:
        """Begin with the world as it is now, and with the mints of every known token."""
        self.chain = ChainView(
            world.id, {token.mint: mint_account(token.decimals, TOKEN_PROGRAM) for token in registry.tokens}
        )
        super().__init__(self.chain, section, section.rpc_nodes)
        self.tell(world, world.pools.values())

    def tell(self, world: World, changed: Iterable[HeldState]) -> None:
        """Go on to the world's slot, which changed some pools."""
        known = self.chain.newest.accounts
        written: list[tuple[str, ChainAccount | None]] = []
        for held in changed:
            for address, owner, data, *rest in held.pool.accounts():
                account = account_of(owner, bytes(data), rest[0] if rest else 0)
                if known.get(address) != account:
                    written.append((address, account))
        self.chain.advance(max(world.slot, 1), world.market_ns // NS_PER_S, written)
        for node in self.nodes:
            node.told()


def _faults(section: LocalnetSection) -> Faults:
    return Faults(
        limited=section.fault_limited,
        failed=section.fault_failed,
        truncated=section.fault_truncated,
        slow=section.fault_slow,
        slow_s=section.fault_slow_ms / 1000,
        cut_chance=section.fault_cut,
        expired_blockhash=section.fault_expired_blockhash,
    )
