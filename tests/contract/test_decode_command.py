"""`pipeline decode`: raw FlatBuffer in, JSON out, exit code 5 on anything else."""

import json
import subprocess
import sys
from time import perf_counter

from pipeline.messages import ExecutionPlan, Leg, Mode, Protocol


def run(data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pipeline", "decode", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=30)


def test_any_message_becomes_json() -> None:
    plan = ExecutionPlan(id="p", mode=Mode.LOCALNET, amount_in=2**63, legs=[Leg(protocol=Protocol.RAYDIUM_CPMM)])
    begun = perf_counter()
    done = run(plan.encode())
    taken = perf_counter() - begun
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"type": "ExecutionPlan", **plan.to_dict()}
    assert done.stdout.count(b"\n") == 1
    assert taken < 10  # it is started once per message by `nats stream view --translate`; 0.2 s on a quiet machine


def test_bad_data_is_one_line_and_exit_code_5() -> None:
    for data, reason in ((b"", b"too_short"), (b'{"not": "a message"}', b"unknown_identifier")):
        done = run(data)
        assert done.returncode == 5
        assert done.stdout == b""
        assert done.stderr.count(b"\n") == 1
        assert b"not a message: " + reason in done.stderr


def test_bad_data_as_json() -> None:
    done = run(ExecutionPlan().encode()[:40], "--json")
    assert done.returncode == 5
    assert json.loads(done.stderr)["error"]["exit_code"] == 5
