"""JSON-RPC methods of the simulated node: answers and errors in the shapes of the real one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from localnet.services import accounts, cluster, transactions
from localnet.services.errors import not_found
from localnet.services.params import Params
from localnet.services.state import NodeState

METHODS: Mapping[str, Callable[[NodeState, Params], object]] = {
    **cluster.METHODS,
    **accounts.METHODS,
    **transactions.METHODS,
}


def answer(node: NodeState, method: str, params: Params) -> object:
    """Return a method's result.

    Raises:
        MethodError: as the node would; methods that need transactions do not exist where there is no chain.
    """
    known = METHODS.get(method)
    if known is None:
        raise not_found()
    return known(node, params)
