"""What a demonstration takes from its user's configuration, and what it must not."""

from __future__ import annotations

from pipeline.config import load_config
from pipeline.demo.run import Folders
from pipeline.live import check_live


def test_who_has_configured_live_trading_shows_the_demonstration_none_of_it() -> None:
    live = {
        "PIPELINE_EXECUTOR__MODE": "live",
        "PIPELINE_RPC__ENDPOINTS": "https://node.example/KEY",
        "PIPELINE_BLOCK_ENGINE__URL": "https://engine.example",
        "PIPELINE_BLOCK_ENGINE__TIP_FLOOR_URL": "https://engine.example/tip_floor",
        "PIPELINE_BLOCK_ENGINE__AUTH": "hunter22hunter22",
        "PIPELINE_WALLETS__SOURCE": "keystore",
        "PIPELINE_WALLETS__ADDRESSES": '["So11111111111111111111111111111111111111112"]',
        "PIPELINE_QUOTE_CORE__SOURCE": "rpc",
        "PIPELINE_SUPERVISOR__WORKERS": '["system_manager", "auditor", "executor", "planner", "quote_core", "scanner"]',
    }
    check_live(load_config(environment=live), live=True, workers=["executor"])
    folders = Folders()
    try:
        shown = load_config({**folders.overrides(), "executor.mode": "localnet"}, environment=live)
    finally:
        folders.remove()
    usual = load_config(environment={})
    assert shown.wallets == usual.wallets
    assert shown.block_engine == usual.block_engine
    assert shown.rpc == usual.rpc
    assert shown.quote_core == usual.quote_core
    assert shown.supervisor == usual.supervisor
