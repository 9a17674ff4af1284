"""Quotes served to others: over NATS services and over gRPC, from the same desk and the same subscriptions."""
