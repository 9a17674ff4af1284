"""The offline chain's services in the shapes of the real ones: JSON-RPC, subscriptions, block engine."""
