"""Live mode: everything that it refuses to start without, one by one, and what cannot stand in for the flag."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nats.js.errors import NotFoundError
from solders.keypair import Keypair

from markets.solana.rpc.endpoint import EndpointSettings
from markets.solana.wallets.keys import KeySigner
from pipeline.config import ConfigError, load_config
from pipeline.errors import CheckFailed, ExitCode, Unreachable, UsageFailure
from pipeline.live import MAINNET, check_live, expected_chain
from pipeline.sections import Config
from pipeline.supervisor import worker_command
from pipeline.worker import find_worker
from workers.executor import live
from workers.system_manager.office import this_process

WORKERS = ["system_manager", "auditor", "executor", "planner", "quote_core", "scanner"]
WHOLE: dict[str, object] = {
    "executor.mode": "live",
    "rpc.endpoints": "http://127.0.0.1:9/?api-key=hunter22",
    "block_engine.url": "http://127.0.0.1:9",
    "wallets.source": "keystore",
    "quote_core.source": "rpc",
}


def config(**changes: object) -> Config:
    return load_config({**WHOLE, **{key.replace("__", "."): value for key, value in changes.items()}}, environment={})


def test_with_everything_and_the_flag_it_may_start() -> None:
    check_live(config(), live=True, workers=WORKERS)
    check_live(config(block_engine__url="", executor__route="rpc"), live=True, workers=WORKERS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rpc__endpoints": ""}, "needs rpc.endpoints"),
        ({"rpc__endpoints": "  "}, "needs rpc.endpoints"),
        ({"block_engine__url": ""}, "needs block_engine.url"),
        ({"block_engine__url": "", "executor__route": "both"}, "needs block_engine.url"),
        ({"wallets__source": "localnet"}, "wallets of its own"),
        ({"quote_core__source": "stream"}, "quote_core.source"),
    ],
)
def test_each_thing_that_is_missing_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageFailure, match=words) as caught:
        check_live(config(**changes), live=True, workers=WORKERS)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("name", ["market", "providers"])
def test_nothing_that_makes_up_a_market_runs_beside_it(name: str) -> None:
    with pytest.raises(UsageFailure, match=f"without the worker {name}"):
        check_live(config(), live=True, workers=[*WORKERS, name])


@pytest.mark.parametrize("engine", ["https://engine.example", "http://10.0.0.1:8080", "http://[2001:db8::1]"])
def test_the_offline_mode_hands_no_transaction_to_another_host(engine: str) -> None:
    with pytest.raises(UsageFailure, match=r"block_engine\.url is on another host") as caught:
        check_live(config(executor__mode="localnet", block_engine__url=engine), live=False)
    assert engine not in str(caught.value)
    for near in ("http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", ""):
        check_live(config(executor__mode="localnet", block_engine__url=near), live=False)


def test_the_flag_is_needed_and_belongs_to_live_mode_alone() -> None:
    with pytest.raises(UsageFailure, match="--live was not given"):
        check_live(config(), live=False, workers=WORKERS)
    for mode in ("paper", "localnet"):
        with pytest.raises(UsageFailure, match=f'executor.mode is "{mode}"'):
            check_live(config(executor__mode=mode), live=True)
        check_live(config(executor__mode=mode), live=False)


@pytest.mark.parametrize(
    "name", ["PIPELINE_LIVE", "PIPELINE_EXECUTOR__LIVE", "PIPELINE_SUPERVISOR__LIVE", "PIPELINE_WORKER__LIVE"]
)
def test_no_key_and_no_variable_stands_in_for_the_flag(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        load_config(environment={name: "true"})


def test_the_flag_reaches_the_executor_and_no_other_worker() -> None:
    assert "--live" in worker_command("executor", live=True)
    assert all("--live" not in worker_command(name, live=True) for name in WORKERS if name != "executor")
    assert all("--live" not in worker_command(name) for name in WORKERS)


def test_the_flag_is_no_part_of_a_workers_name() -> None:
    """Names may come from supervisor.workers, which a file can set."""
    with pytest.raises(UsageFailure, match="no role"):
        find_worker("executor--live")
    with pytest.raises(ConfigError):
        config(supervisor__workers=["executor --live"])


def test_the_chain_is_mainnets_unless_another_one_is_named() -> None:
    assert expected_chain(config()) == MAINNET == "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"
    assert expected_chain(config(executor__chain=str(Keypair().pubkey()))) != MAINNET
    with pytest.raises(ConfigError, match=r"executor\.chain"):
        config(executor__chain="mainnet-beta")


def environment(home: Path, **values: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIPELINE_", "XDG_"))}
    mine = {f"PIPELINE_{key.upper().replace('.', '__')}": str(value) for key, value in WHOLE.items()}
    folders = {
        "PIPELINE_WORKER__RUN_DIR": str(home / "run"),
        "PIPELINE_WORKER__DATA_DIR": str(home / "data"),
        "PIPELINE_SHM__DIRECTORY": str(home / "shm"),
    }
    return {**kept, "HOME": str(home), **mine, **folders, **values}


@pytest.mark.parametrize(
    ("arguments", "values", "words"),
    [
        (["up"], {}, "--live was not given"),
        (["worker", "executor"], {}, "--live was not given"),
        (["up", "--live"], {}, "market"),
        (["worker", "planner", "--live"], {}, "only the executor"),
    ],
)
def test_real_processes_refuse_with_a_stable_exit_code(
    tmp_path: Path, arguments: list[str], values: dict[str, str], words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        env=environment(tmp_path, **values),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == ExitCode.USAGE, done
    assert words in done.stdout + done.stderr
    assert "hunter22" not in done.stdout + done.stderr
    assert not (tmp_path / "run" / "logs").exists()


# What only the executor can see


class Latch:
    """The bucket in which the system manager in office says who it is."""

    def __init__(self, *modes: str | None) -> None:
        self.modes = list(modes)

    async def get_msg(self, stream: str, *, subject: str, direct: bool) -> Any:
        assert (stream, subject, direct) == ("KV_permit", "$KV.permit.manager", False)
        mode = self.modes.pop(0) if len(self.modes) > 1 else self.modes[0]
        if mode is None:
            raise NotFoundError
        return SimpleNamespace(data=b'{"mode":"%s"}' % mode.encode() if mode else b"{}")


def context(chain: str, latch: Latch, *, flag: bool = True) -> Any:
    said: list[str] = []
    return SimpleNamespace(
        name="executor",
        config=config(executor__chain=chain),
        live=flag,
        bus=SimpleNamespace(js=latch),
        log=SimpleNamespace(warning=lambda words, **_: said.append(words)),
        said=said,
    )


@pytest.fixture
def genesis(chain: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(live, "_MANAGER_WAIT_S", 0.5)
    return str(chain["genesis"])


SIGNERS = [KeySigner(Keypair())]
NOWHERE = EndpointSettings("http://127.0.0.1:9/?api-key=hunter22")


async def test_it_waits_for_a_manager_of_live_mode(genesis: str, node: str) -> None:
    latch = Latch(None, "", "paper", "live")
    there = context(genesis, latch)
    await live.confirm_live(there, [EndpointSettings(node)], SIGNERS)
    assert latch.modes == ["live"]
    assert there.said == ["live: real transactions once somebody resumes"]


@pytest.mark.parametrize("mode", [None, "", "paper", "localnet"])
async def test_without_a_manager_of_live_mode_it_does_not_start(genesis: str, node: str, mode: str | None) -> None:
    with pytest.raises(CheckFailed, match="needs a system manager of live mode"):
        await live.confirm_live(context(genesis, Latch(mode)), [EndpointSettings(node)], SIGNERS)


def test_a_manager_says_which_mode_it_manages() -> None:
    assert this_process(1, "live").mode == "live"


async def test_an_endpoint_of_another_chain_is_refused(genesis: str, node: str) -> None:
    with pytest.raises(UsageFailure, match=f"serves the chain {genesis}, and live mode trades on {MAINNET}"):
        await live.confirm_live(context("", Latch("live")), [EndpointSettings(node)], SIGNERS)


async def test_an_endpoint_that_is_silent_is_told_of_and_all_of_them_refused(genesis: str, node: str) -> None:
    there = context(genesis, Latch("live"))
    await live.confirm_live(there, [NOWHERE, EndpointSettings(node)], SIGNERS)
    assert there.said[0] == "an endpoint did not tell its chain"
    with pytest.raises(Unreachable) as caught:
        await live.confirm_live(context(genesis, Latch("live")), [NOWHERE], SIGNERS)
    assert "hunter22" not in str(caught.value)


async def test_a_wallet_that_does_not_sign_is_refused_before_anything_is_asked() -> None:
    class Mute:
        address = str(Keypair().pubkey())

        async def sign(self, message: bytes) -> bytes:
            return bytes(64)

    with pytest.raises(UsageFailure, match="not its key"):
        await live.confirm_live(context("", Latch("live")), [NOWHERE], [Mute()])


async def test_the_flag_is_looked_at_once_more() -> None:
    with pytest.raises(UsageFailure, match="not asked for by --live"):
        await live.confirm_live(context("", Latch("live"), flag=False), [NOWHERE], SIGNERS)
