"""From a built transaction to its place on the chain: simulation, bundle, RPC, confirmation, recovery."""
