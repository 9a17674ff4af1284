"""Plan -> bundle as one first writes it: nats-py, solana-py and aiohttp, each step awaited after the one before."""

from __future__ import annotations

import time

import aiohttp
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from solders.message import to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from bench.execute_baseline import encoded, naive_message
from bench.execute_build import Bench
from bench.execute_recorder import Recorder
from pipeline.ids import deterministic_id

BUCKET = "textbook"


async def textbook(
    js: JetStreamContext, chain_url: str, engine_url: str, recorder: Recorder, *, count: int, simulate: bool
) -> list[float]:
    """Return, for so many cycles, the milliseconds until a bundle's bytes are at the other end of the socket.

    Pools and lookup tables are known beforehand, connections stay open. Nothing else runs meanwhile, which is in its
    favour: the market has closed. So a simulation finds no profit and fails in the last leg; the answer comes all the
    same.
    """
    from solana.rpc.async_api import AsyncClient

    bench = Bench.prepared()
    claims = await js.create_key_value(KeyValueConfig(bucket=BUCKET, storage=StorageType.FILE, history=1))
    begun: dict[str, int] = {}
    try:
        async with AsyncClient(chain_url) as rpc, aiohttp.ClientSession() as session:
            for order in bench.orders(-(-count // len(bench.pairs))):
                at_ns = time.time_ns()
                blockhash = (await rpc.get_latest_blockhash()).value.blockhash
                fees = await rpc.get_recent_prioritization_fees([Pubkey.from_string(leg.pool) for leg in order.legs])
                async with session.get(f"{chain_url}/api/v1/bundles/tip_floor") as response:
                    floors = await response.json()
                assert fees.value is not None
                assert floors
                message = naive_message(order, bench.accounts, bench.tables, str(blockhash))
                if simulate:
                    unsigned = VersionedTransaction.populate(message, [Signature.default()])
                    await rpc.simulate_transaction(unsigned, sig_verify=False)
                signature = bench.wallet.sign_message(to_bytes_versioned(message))
                raw = bytes(VersionedTransaction.populate(message, [signature]))
                await claims.create(deterministic_id("textbook", str(signature)), str(signature).encode())
                begun[str(signature)] = at_ns
                params = [[encoded(raw)], {"encoding": "base64"}]
                request = {"jsonrpc": "2.0", "id": 1, "method": "sendBundle", "params": params}
                async with session.post(f"{engine_url}/api/v1/bundles", json=request) as response:
                    assert "result" in await response.json()
    finally:
        await js.delete_key_value(BUCKET)
    arrived = {signature: one.at_ns for one in recorder.arrivals for signature in one.signatures}
    assert begun.keys() <= arrived.keys(), "a bundle did not arrive"
    return [(arrived[signature] - at_ns) / 1e6 for signature, at_ns in begun.items()]
