"""The signer program: what it is asked, what is believed of it, and what happens when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from solders.keypair import Keypair

from markets.solana.wallets.command import CommandSigner, ProgramSettings, SignerProgram
from markets.solana.wallets.keys import SigningFailed, verify

FAKE = str(Path(__file__).with_name("fake_signer.py"))
KEYPAIR = Keypair()
ADDRESS = str(KEYPAIR.pubkey())
QUICK = ProgramSettings(timeout_s=0.2, start_timeout_s=10.0, restart_s=0.05)

Program = Callable[[str], SignerProgram]


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    keys = tmp_path / "keys"
    keys.write_text(str(KEYPAIR))
    opened: list[SignerProgram] = []

    def made(behaviour: str) -> SignerProgram:
        opened.append(SignerProgram([sys.executable, FAKE, str(keys), behaviour], QUICK))
        return opened[-1]

    yield made
    for one in opened:
        await one.close()
        assert one.pid is None


async def test_signatures_come_from_one_process_that_lives_on(program: Program) -> None:
    one = program("good")
    signer = CommandSigner(one, ADDRESS)
    assert one.pid is None
    messages = [b"message %d" % number for number in range(20)]
    signatures = await asyncio.gather(*(signer.sign(message) for message in messages))
    assert all(verify(ADDRESS, *pair) for pair in zip(messages, signatures, strict=True))
    first = one.pid
    await signer.sign(b"later")
    assert one.pid == first
    assert one.restarts == 0
    assert repr(signer) == f"<signer {ADDRESS}>"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("wrong", "something else than a signature"),
        ("short", "something else than a signature"),
        ("no base64", "not base64"),
        ("nothing", "no signature and no reason"),
        ("garbage", "ended"),
        ("endless", "ended"),
    ],
)
async def test_nothing_but_a_signature_of_the_wallet_is_taken(program: Program, behaviour: str, words: str) -> None:
    with pytest.raises(SigningFailed, match=words):
        await program(behaviour).sign(ADDRESS, b"message")


async def test_a_refusal_is_told_in_printable_words(program: Program) -> None:
    with pytest.raises(SigningFailed, match=r"refused: no such key\?\[2J$"):
        await program("good").sign(str(Keypair().pubkey()), b"message")


async def test_a_program_that_died_is_started_again_and_told_of(
    program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    one = program("good")
    await one.sign(ADDRESS, b"first")
    died = one.pid
    assert died is not None
    os.kill(died, signal.SIGKILL)
    for _ in range(100):
        try:
            await one.sign(ADDRESS, b"second")
            break
        except SigningFailed:
            await asyncio.sleep(0.05)
    assert one.pid not in (None, died)
    assert one.restarts == 1
    assert any("exit code -9" in record.getMessage() for record in caplog.records)
    assert any("started again" in record.getMessage() for record in caplog.records)


async def test_whoever_waits_when_it_dies_is_told_at_once(program: Program) -> None:
    one = program("dies after one")
    await one.sign(ADDRESS, b"first")
    async with asyncio.timeout(5):
        with pytest.raises(SigningFailed, match="ended"):
            await one.sign(ADDRESS, b"second")
        with pytest.raises(SigningFailed, match="started again in"):
            await one.sign(ADDRESS, b"third")


async def test_a_silent_program_is_ended_after_some_requests(program: Program) -> None:
    one = program("silent after one")
    await one.sign(ADDRESS, b"first")
    first = one.pid
    for _ in range(QUICK.most_silent):
        assert one.pid == first
        with pytest.raises(SigningFailed, match=r"within 0.2 s"):
            await one.sign(ADDRESS, b"second")
    for _ in range(500):
        if one.pid is None:
            break
        await asyncio.sleep(0.01)
    assert one.pid is None


async def test_an_answer_that_is_late_is_nobody_elses(program: Program) -> None:
    one = program("late")
    await one.sign(ADDRESS, b"first")  # within the longer limit after a start
    with pytest.raises(SigningFailed, match="did not answer"):
        await one.sign(ADDRESS, b"second")
    await asyncio.sleep(0.4)
    with pytest.raises(SigningFailed, match="did not answer"):
        await one.sign(ADDRESS, b"third")
    assert one.pid is not None


async def test_a_program_that_cannot_be_started_is_named() -> None:
    one = SignerProgram(["/nowhere/signer", "--secret=hunter22"])
    with pytest.raises(SigningFailed, match="/nowhere/signer cannot be started: No such file") as caught:
        await one.sign(ADDRESS, b"message")
    assert "hunter22" not in str(caught.value) + repr(one)
    await one.close()


async def test_our_own_settings_and_secrets_are_not_in_its_environment(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_WALLETS__PASSPHRASE", "correct horse battery")
    with pytest.raises(SigningFailed, match=r"refused: $"):
        await program("environment").sign(ADDRESS, b"message")


async def test_more_than_a_limit_are_not_waited_for(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(str(KEYPAIR))
    one = SignerProgram([sys.executable, FAKE, str(keys), "late"], ProgramSettings(most_waiting=2))
    outcomes = await asyncio.gather(*(one.sign(ADDRESS, b"m") for _ in range(3)), return_exceptions=True)
    await one.close()
    assert [isinstance(outcome, bytes) for outcome in outcomes] == [True, True, False]
    with pytest.raises(SigningFailed, match="closed"):
        await one.sign(ADDRESS, b"m")
