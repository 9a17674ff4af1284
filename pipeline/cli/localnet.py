"""`pipeline localnet`: the offline chain by itself."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import asdict
from importlib import import_module
from json import dumps
from typing import Annotated, Any

import typer

from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_line
from pipeline.config import Config

_STANDALONE = "localnet.standalone"


def localnet(
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Same seed, same chain.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="On loopback; 0 = a free one.", show_default=False)
    ] = None,
    slot_ms: Annotated[int, typer.Option("--slot-ms", min=10, max=60_000, help="Milliseconds per slot.")] = 400,
    no_traders: Annotated[bool, typer.Option("--no-traders", help="Nobody trades but you.")] = False,
    json: JsonOption = False,
) -> None:
    """Run the offline Solana chain alone, with traders, RPC and a block engine.

    Nothing on it is worth anything.
    """
    chosen: dict[str, object] = {"market.slot_ms": slot_ms, "market.source": "offline"}
    chosen |= {key: value for key, value in (("market.seed", seed), ("localnet.rpc_port", port)) if value is not None}
    config = settings.load(chosen).config
    asyncio.run(_run(config, traders=not no_traders, as_json=json))


async def _run(config: Config, *, traders: bool, as_json: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    chain = import_module(_STANDALONE).Standalone(config, traders=traders)
    places = asdict(await chain.start())
    try:
        if as_json:
            print_json(places)
        else:
            _introduce(places)
        await chain.run(stop, lambda second: _show(asdict(second), as_json=as_json))
    finally:
        await chain.stop()
    if not as_json:
        print_line(("\n" if sys.stdout.isatty() else "") + "stopped: the chain is gone")


def _introduce(places: dict[str, Any]) -> None:
    wallet = places["wallets"][0]
    airdrop = {"jsonrpc": "2.0", "id": 1, "method": "requestAirdrop", "params": [wallet, 1_000_000_000]}
    rows = [
        ("RPC", places["rpc"]),
        ("websocket", places["websocket"]),
        ("block engine", places["block_engine"]),
        ("tip floor", places["tip_floor"]),
        ("faults", f"PUT {places['faults']}, see docs/localnet-rpc.md"),
        ("pools", f"{places['pools']}, {places['left_out']} left out: no stand-in program"),
        ("slot", f"{places['slot']}, one every {places['slot_ms']} ms; seed {places['seed']}"),
        *((f"wallet {index}", address) for index, address in enumerate(places["wallets"])),
    ]
    for name, value in rows:
        print_line(f"{name:<13}{value}")
    print_line("\nAnybody can make the wallets' keys; nothing here is worth anything. For example:")
    body = dumps(airdrop).replace(', "params"', ',\n        "params"')  # a terminal would break it anywhere
    print_line(f"  curl -s {places['rpc']} -H 'content-type: application/json' \\\n    -d '{body}'")
    print_line(
        "\n  import asyncio\n"
        "  from solana.rpc.async_api import AsyncClient\n"
        "  from markets.solana.wallets.keys import offline_keypair\n"
        "  async def main():\n"
        f"    async with AsyncClient({places['rpc']!r}) as client:\n"
        f"      print((await client.get_balance(offline_keypair({places['seed']}, 0).pubkey())).value)\n"
        "  asyncio.run(main())"
    )
    print_line("\nCtrl-C stops it.\n")


def _show(second: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(dumps(second) + "\n")
    else:
        wrong = f", {second['differences']} DIFFERENCES" if second["differences"] else ""
        line = (
            f"slot {second['slot']}: {second['transactions']} transactions ({second['trades']} of traders, "
            f"{second['failed']} failed), {second['bundles']} bundles{wrong}"
        )
        # On a terminal the line is written over.
        sys.stdout.write(f"\r\x1b[K{line}" if sys.stdout.isatty() else f"{line}\n")
    sys.stdout.flush()
