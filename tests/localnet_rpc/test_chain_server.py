"""The services as the market worker starts them."""

from __future__ import annotations

import aiohttp

from localnet.served import ChainServer
from pipeline.config import load_config

from .nodekit import address, node_chain, payment


async def test_several_nodes_serve_one_chain():
    settings = {
        "localnet.rpc_nodes": 2,
        "localnet.rpc_port": 0,
        "localnet.fault_slow_ms": 30,
        "localnet.fault_expired_blockhash": 0.25,
    }
    section = load_config(settings, environment={}).localnet
    chain = node_chain()
    server = ChainServer(chain, section)
    urls = await server.start()
    try:
        assert len(set(urls)) == 2
        assert all(url.startswith("http://127.0.0.1:") for url in urls)
        assert server.nodes[0].faults.expired_blockhash == 0.25
        assert server.nodes[0].faults.slow_s == 0.03
        chain.send(bytes(payment(chain, 5)))
        server.tell(chain.produce())
        async with aiohttp.ClientSession() as session:
            body = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "getBalance",
                "params": [address("b"), {"commitment": "processed"}],
            }
            for url in urls:
                async with session.post(url, json=body) as response:
                    assert (await response.json())["result"]["value"] == 10**10 + 5
    finally:
        await server.stop()


async def test_there_is_one_node_at_least():
    section = load_config({"localnet.rpc_nodes": 0, "localnet.rpc_port": 0}, environment={}).localnet
    server = ChainServer(node_chain(), section)
    assert len(await server.start()) == 1
    await server.stop()
