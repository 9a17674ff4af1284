"""`pipeline wallet`: the keys that sign, and what they need on chain before they can trade."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_line, print_table
from pipeline.cli.token_names import known_tokens
from pipeline.config import Config, forget_secrets
from pipeline.errors import UsageFailure

# What knows venues is loaded by name, as workers are: this package knows none.
_DESK, _PREPARING = "workers.executor.wallet_desk", "workers.executor.preparing"
_LAMPORTS_PER_SOL = 1_000_000_000
_SOL = "So11111111111111111111111111111111111111112"

app = typer.Typer(no_args_is_help=True, help="Make, list and prepare the wallets that sign.")

LabelOption = Annotated[
    str, typer.Option("--label", metavar="LABEL", help="A name for people, kept in clear.", show_default=False)
]


@app.callback()
def root() -> None:
    """Make, list and prepare the wallets that sign.

    The configuration says where wallets come from (wallets.source): "localnet", made from the offline market's seed and
    worth nothing; "keystore", an encrypted file, which `new`, `import` and `passphrase` write; "environment", keys in
    PIPELINE_WALLETS__KEYS; "command", a program of yours that signs. docs/wallets.md tells of each.

    A passphrase is asked for without showing it, or read from PIPELINE_WALLETS__PASSPHRASE or from the file that
    PIPELINE_WALLETS__PASSPHRASE_FILE names. No secret is ever an argument.
    """


@app.command()
def new(label: LabelOption = "", json: JsonOption = False) -> None:
    """Make a new wallet in the keystore, and the keystore where there is none.

    The file is wallets.keystore, or wallets.json in worker.data_dir. Copy it to a safe place, and the passphrase to
    another one: who loses either has lost the wallets.
    """
    config = _config()
    _added(import_module(_DESK).add(config, label, _asking(config)), config, as_json=json)


@app.command("import", context_settings={"allow_extra_args": True})
def import_(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="A key file as `solana-keygen` writes it. It stays where it is: remove it."),
    ] = None,
    label: LabelOption = "",
    json: JsonOption = False,
) -> None:
    """Put a key that you have into the keystore.

    The key is read from a file, from standard input, or asked for without showing it: base58 of 64 bytes, or a JSON
    array of 64 numbers.
    """
    if context.args:  # not repeated: it is the key, as likely as not
        raise UsageFailure(
            "a key is no argument: everybody on this machine sees those, and your shell remembers them",
            "if it was one, move what it holds to another; without arguments it is asked for",
        )
    config = _config()
    desk = import_module(_DESK)

    def key() -> str:
        if file is not None:
            return str(desk.readable_key(file))
        return _hidden("key") if sys.stdin.isatty() else sys.stdin.read(4096)

    _added(desk.add(config, label, _asking(config), key), config, as_json=json)


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the wallets of the configured source. Needs no passphrase and asks no node."""
    found = import_module(_DESK).listed(_config())
    if json:
        print_json(found)
        return
    where = f", {found['keystore']}" if found["keystore"] else ""
    rows = [(one["address"], one["label"], "yes" if one["used"] else "no") for one in found["wallets"]]
    print_table(f"{len(rows)} wallets of source {found['source']}{where}", ("wallet", "label", "used"), rows)


@app.command()
def show(
    wallet: Annotated[
        str, typer.Argument(metavar="WALLET", help="Address, or the beginning of one.", show_default=False)
    ] = "",
    json: JsonOption = False,
) -> None:
    """Show what the wallets hold on chain: lamports, and every configured token.

    Asks rpc.endpoints, or the offline chain that runs here. Needs no passphrase.
    """
    config = _config()
    chosen = import_module(_DESK).one_of(config, wallet) if wallet else ""
    found = import_module(_PREPARING).shown(config)
    wallets = [one for one in found["wallets"] if chosen in ("", one["address"])]
    if json:
        print_json({**found, "wallets": wallets})
        return
    print_line(_chain_line(found))
    tokens = known_tokens()
    for one in wallets:
        rows = [("SOL", _sol(one["lamports"]), "pays fees and tips")]
        for mint, amount in one["tokens"].items():
            rows.append((_symbol(tokens.symbols, mint), _units(amount, tokens.decimals.get(mint, 0)), ""))
        missing = [_symbol(tokens.symbols, mint) for mint in tokens.symbols if mint not in one["tokens"]]
        print_table(f"\n{one['address']} at slot {one['slot']:,}", ("token", "amount", ""), rows, right=("amount",))
        if missing:
            print_line(f"no account for {', '.join(missing)}: `pipeline wallet prepare`")


@app.command()
def prepare(
    *,
    wrapped: Annotated[
        str, typer.Option("--wrapped", metavar="SOL", help="Each wallet is to hold this much wrapped SOL.")
    ] = "0",
    exactly: Annotated[
        bool, typer.Option("--exactly", help="Unwrap what a wallet holds beyond --wrapped, too.")
    ] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="Put the pools of `pipeline pools discover` into lookup tables, too.")
    ] = False,
    price: Annotated[
        int,
        typer.Option("--price", min=0, max=10_000_000, help="Micro-lamports per compute unit of these transactions."),
    ] = 10_000,
    yes: Annotated[bool, typer.Option("--yes", help="Send it. Without this it is only shown.")] = False,
    json: JsonOption = False,
) -> None:
    """Give the wallets what they need before they can trade; without --yes, show what they lack.

    Token accounts for every configured token, wrapped SOL, lookup tables: none of it is ever opened inside a trade.
    Each step is one transaction, sent to rpc.endpoints or to the offline chain that runs here, and waited for until it
    is confirmed. Run again, it does only what is still missing. Rent stays yours, in the accounts; each step costs its
    fee.

    Exit code 1 when a step did not land, 2 when something is missing in the configuration, 3 when no node answers, 4
    when a wallet has not the lamports for it.
    """
    config = _config()
    preparing = import_module(_PREPARING)
    wanted = preparing.Wanted(_lamports(wrapped), exactly, tables, price)
    if exactly and not wanted.wrapped:
        raise UsageFailure("--exactly needs --wrapped", "say how much wrapped SOL is to be left")
    if yes:
        config = _unlocked(config)
    found = preparing.prepare(config, wanted, send=yes, tell=lambda line: print_line(line) if not json else None)
    if json:
        print_json(found)
        return
    print_line(_chain_line(found))
    for note in found["notes"]:
        print_line(note)
    for one in found["wallets"]:
        rows = [(step["does"], _sol(step["lamports"])) for step in one["steps"]]
        if not rows:
            print_line(f"{one['address']}: nothing is missing")
            continue
        print_table(f"\n{one['address']}", ("step", "takes SOL"), rows, right=("takes SOL",))
        if one["short"]:
            print_line(f"it lacks {_sol(one['short'])} SOL for that: send some to it first")
    if not yes and any(one["steps"] for one in found["wallets"]):
        print_line("\nnothing was sent; with --yes it is")


@app.command()
def passphrase(
    new_file: Annotated[
        Path | None,
        typer.Option("--new-file", help="A file with the new passphrase, instead of being asked.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Change the keystore's passphrase. Copies that you made before still open with the old one."""
    config = _config()

    def new_one(_: bool) -> str:
        if new_file is None:
            return _hidden("new passphrase", twice=True)
        try:
            return new_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise UsageFailure(f"{new_file} cannot be read", "a file with the new passphrase on one line") from None

    changed = import_module(_DESK).change(config, _asking(config), new_one)
    if json:
        print_json(changed)
    else:
        print_line(f"{changed['keystore']}: {changed['wallets']} wallets under the new passphrase")


def _config() -> Config:
    config = settings.config()
    forget_secrets()
    return config


def _asking(config: Config) -> Callable[[bool], str]:
    """Return what gives the keystore's passphrase: the configured one, or the person at the terminal."""

    def ask(new_one: bool) -> str:
        given = config.wallets.passphrase.get_secret_value()
        return given or _hidden("passphrase of the keystore", twice=new_one)

    return ask


def _unlocked(config: Config) -> Config:
    """Return the configuration with the passphrase in it, where one is needed."""
    if config.wallets.source != "keystore":
        return config
    word = SecretStr(_asking(config)(False))
    return config.model_copy(update={"wallets": config.wallets.model_copy(update={"passphrase": word})})


def _hidden(what: str, *, twice: bool = False) -> str:
    """Ask for a secret without showing it."""
    if not sys.stdin.isatty():
        raise UsageFailure(
            f"the {what} is needed, and there is no terminal to ask for it",
            "set PIPELINE_WALLETS__PASSPHRASE_FILE to a file that holds it",
        )
    return str(typer.prompt(what, hide_input=True, confirmation_prompt=twice, err=True))


def _added(added: dict[str, Any], config: Config, *, as_json: bool) -> None:
    if as_json:
        print_json(added)
        return
    print_line(f"{added['address']} {added['label']}".rstrip())
    print_line(f"{'made' if added['made'] else 'in'} {added['keystore']}: copy it to a safe place")
    if config.wallets.source != "keystore":
        print_line(f'not used yet: wallets.source is "{config.wallets.source}", not "keystore"')


def _chain_line(found: dict[str, Any]) -> str:
    return f"chain {found['chain']}{', mainnet-beta' if found['mainnet'] else ''}"


def _lamports(text: str) -> int:
    """Read an amount of SOL exactly."""
    match = re.fullmatch(r"(\d{1,9})(?:\.(\d{1,9}))?", text)
    if match is None:
        raise UsageFailure(f"{text!r} is no amount of SOL", "write it like 2.5, with up to nine decimals")
    whole, part = match.groups(default="")
    return int(whole) * _LAMPORTS_PER_SOL + int(part.ljust(9, "0"))


def _sol(lamports: int) -> str:
    return _units(lamports, 9)


def _units(amount: int, decimals: int) -> str:
    """Return an amount in whole tokens, exactly."""
    whole, rest = divmod(abs(amount), 10**decimals)
    fraction = f".{rest:0{decimals}d}".rstrip("0").rstrip(".") if decimals else ""
    return f"{'-' if amount < 0 else ''}{whole:,}{fraction}"


def _symbol(symbols: Mapping[str, str], mint: str) -> str:
    return "wrapped SOL" if mint == _SOL else symbols.get(mint, mint)
