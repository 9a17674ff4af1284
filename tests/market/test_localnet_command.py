"""`pipeline localnet` as a person runs it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request

import pytest

from localnet.chain_genesis import FIRST_SLOT
from markets.solana.wallets.keys import offline_keypair
from pipeline.config import load_config

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()", "localnet"]


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def ask(url: str, method: str, *params: object) -> object:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["result"]


def test_it_names_its_places_answers_there_tells_of_every_second_and_stops_cleanly():
    process = started("--port", "0", "--slot-ms", "50", "--seed", "3", "--json")
    try:
        assert process.stdout is not None
        places = json.loads(process.stdout.readline())
        assert places["wallets"] == [str(offline_keypair(3, index).pubkey()) for index in range(2)]
        assert ask(places["rpc"], "getHealth") == "ok"
        balance = ask(places["rpc"], "getBalance", places["wallets"][0])
        assert isinstance(balance, dict)
        assert balance["value"] > 0
        with urllib.request.urlopen(places["tip_floor"], timeout=30) as answer:
            assert isinstance(json.load(answer), list)
        seconds = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert seconds[0]["slot"] < seconds[1]["slot"]
        assert seconds[1]["slot"] > FIRST_SLOT
        assert sum(second["trades"] for second in seconds) > 0
        assert seconds[1]["differences"] == 0
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert not said


def test_without_traders_there_are_no_transactions_and_the_text_says_where_everything_is():
    process = started("--port", "0", "--slot-ms", "50", "--no-traders")
    assert process.stdout is not None
    lines: list[str] = []
    while not (lines and lines[-1].startswith("slot 2998")):
        lines.append(process.stdout.readline())
    example = textwrap.dedent(
        "".join(lines[lines.index("  import asyncio\n") : lines.index("  asyncio.run(main())\n") + 1])
    )
    ran = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60, check=False)
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=30)
    text = "".join(lines)
    assert process.returncode == 0
    assert ": 0 transactions" in lines[-1]
    for word in ("RPC", "websocket", "block engine", "tip floor", "wallet 0", "requestAirdrop"):
        assert word in text
    assert (ran.stdout, ran.stderr) == (f"{load_config(environment={}).localnet.wallet_lamports}\n", "")
    assert "the chain is gone" in rest


def test_a_port_that_is_taken_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = started("--port", str(taken.getsockname()[1]))
        _, said = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "--port 0" in said
