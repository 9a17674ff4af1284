"""The offline market served as a chain: simulated nodes over the world's pools, told slot by slot."""

from __future__ import annotations

from collections.abc import Iterable

from localnet.chain_view import ChainAccount, ChainView, account_of, mint_account
from localnet.layouts import TOKEN_PROGRAM
from localnet.publication import HeldState
from localnet.rpc_node import Faults, RpcNode
from localnet.world import World
from markets.tokens import Registry
from pipeline.clock import NS_PER_S
from pipeline.sections.rpc import LocalnetSection


class ServedChain:
    """The nodes, and the chain that they all serve."""

    def __init__(self, section: LocalnetSection, registry: Registry, world: World) -> None:
        """Begin with the world as it is now, and with the mints of every known token."""
        self.chain = ChainView(
            world.id, {token.mint: mint_account(token.decimals, TOKEN_PROGRAM) for token in registry.tokens}
        )
        self.nodes = [
            RpcNode(self.chain, _faults(section), seed=section.fault_seed + number)
            for number in range(section.rpc_nodes)
        ]
        self._port = section.rpc_port
        self.tell(world, world.pools.values())

    async def start(self) -> list[str]:
        """Open the nodes' ports, one after the other; return their addresses."""
        return [await node.start(self._port + number if self._port else 0) for number, node in enumerate(self.nodes)]

    async def stop(self) -> None:
        """Close them."""
        for node in self.nodes:
            await node.stop()

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
    )
