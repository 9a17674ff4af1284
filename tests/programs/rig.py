"""A machine with the stand-in programs, one pool in it, and a user who trades with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from solders.account import Account
from solders.clock import Clock
from solders.compute_budget import set_compute_unit_limit
from solders.instruction import AccountMeta
from solders.instruction import Instruction as RawInstruction
from solders.litesvm import LiteSVM
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata

from localnet.layouts import simulated_address, token_account, token_amount
from localnet.programs import program_files
from markets.solana.pools import Pool
from markets.solana.venues import VENUES
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAM, Instruction, Meta, Swap, key
from markets.tokens import SOL_MINT
from pipeline.messages import Protocol

SLOT, NOW = 300_000_000, 1_750_000_000
RENT, FEE = 2_039_280, 5_000
USER = simulated_address("user")
RICH = 2**62
Raw = tuple[str, str, bytes] | tuple[str, str, bytes, int]


def address(label: str) -> str:
    """Return an address of a label."""
    return simulated_address("programs-test", label)


def plain_mint(mint: str, *, supply: int = 2**60, authority: str | None = None) -> Raw:
    """Return a classic mint."""
    data = bytearray(82)
    if authority is not None:
        data[0:36] = b"\1\0\0\0" + key(authority)
    data[36:44] = supply.to_bytes(8, "little")
    data[44], data[45] = 9, 1
    return mint, TOKEN_PROGRAM, bytes(data)


@dataclass(frozen=True)
class Outcome:
    """What became of a transaction."""

    error: Any
    units: int
    logs: Sequence[str]

    @property
    def code(self) -> int | None:
        """The program's own failure, where there is one."""
        return getattr(getattr(self.error, "err", None), "code", None)


def machine() -> LiteSVM:
    """Return a machine with our programs; signatures and blockhashes are not its business here."""
    svm = LiteSVM().with_sigverify(False).with_blockhash_check(False).with_transaction_history(0)
    for program, elf in program_files().items():
        svm.add_program(Pubkey.from_string(program), elf)
    clock = svm.get_clock()
    epoch = SLOT // 432_000
    svm.set_clock(Clock(SLOT, clock.epoch_start_timestamp, epoch, epoch + 1, NOW))
    return svm


@dataclass
class Rig:
    """One pool: in the machine, and in the core."""

    protocol: Protocol
    pool: str
    accounts: list[Any]
    """What the core reads."""
    beside: Iterable[Raw] = ()
    """What else the program wants: mints."""
    svm: LiteSVM = field(default_factory=machine)
    tampered: dict[int, Meta] = field(default_factory=dict)
    """Accounts of the instruction that are replaced, by position."""
    unfollowed: set[str] = field(default_factory=set)
    """Accounts that the core reads and does not write: others gain by a swap, and no quote reads what they have."""
    paid: int = 0
    """Lamports that transactions cost so far."""

    def __post_init__(self) -> None:
        for raw in (*self.accounts, *self.beside):
            self.put(raw)
        self.put((USER, SYSTEM_PROGRAM, b"", RICH))
        self.mints = self.model().token_a, self.model().token_b
        self.wallets = [address(f"wallet-{side}") for side in range(2)]
        for wallet, mint in zip(self.wallets, self.mints, strict=True):
            owner = self.owner_of(mint)
            data = bytearray(token_account(wallet, mint, USER, RICH)[2])
            self.put((wallet, owner, bytes(data)))

    def put(self, raw: Raw) -> None:
        """Set an account; one of wrapped SOL becomes a native one, with the lamports that it speaks of."""
        lamports = raw[3] if len(raw) == 4 else 10**10
        if raw[1] == TOKEN_PROGRAM and len(raw[2]) == 165 and raw[2][:32] == key(SOL_MINT):
            raw = patched(raw, 109, b"\x01\0\0\0" + RENT.to_bytes(8, "little"))
            lamports = RENT + token_amount(raw[2])
        self.svm.set_account(
            Pubkey.from_string(raw[0]), Account(lamports, raw[2], Pubkey.from_string(raw[1]), False, 2**64 - 1)
        )

    def data(self, of: str) -> bytes:
        """Return an account's bytes."""
        found = self.svm.get_account(Pubkey.from_string(of))
        return b"" if found is None else bytes(found.data)

    def lamports(self, of: str) -> int:
        """Return an account's balance."""
        found = self.svm.get_account(Pubkey.from_string(of))
        return 0 if found is None else found.lamports

    def owner_of(self, of: str) -> str:
        found = self.svm.get_account(Pubkey.from_string(of))
        return TOKEN_PROGRAM if found is None else str(found.owner)

    def raws(self) -> list[Any]:
        """Return what the core reads, as it stands in the machine."""
        result: list[Any] = []
        for raw in self.accounts:
            row = (raw[0], raw[1], self.data(raw[0]))
            result.append((*row, self.lamports(raw[0])) if len(raw) == 4 else row)
        return result

    def model(self) -> Pool:
        """Read the pool from the machine's accounts."""
        return Pool.parse(self.protocol, self.pool, self.raws(), SLOT, 0, NOW)

    def holdings(self) -> list[int]:
        """Return what the user has of tokens a and b; where b is plain SOL, lamports before what transactions cost."""
        held = [token_amount(self.data(wallet)) for wallet in self.wallets]
        if self.protocol in (Protocol.SPL_STAKE_POOL, Protocol.MARINADE):
            held[1] = self.lamports(USER) + self.paid
        return held

    def instruction(self, a_to_b: bool, amount: int, least: int = 0) -> Instruction:
        source, destination = self.wallets if a_to_b else self.wallets[::-1]
        swap = Swap(a_to_b, amount, least, USER, source, destination)
        known = {raw[0]: (raw[1], self.data(raw[0])) for raw in self.accounts}
        known |= {mint: (self.owner_of(mint), self.data(mint)) for mint in self.mints}
        made = VENUES[self.protocol].swap_instruction(self.pool, known, swap)
        metas = [self.tampered.get(index, meta) for index, meta in enumerate(made.metas)]
        return replace(made, metas=tuple(metas))

    def run(self, *instructions: Instruction) -> Outcome:
        """Send one transaction."""
        payer = Pubkey.from_string(USER)
        raw = [
            RawInstruction(
                Pubkey.from_string(made.program),
                made.data,
                [AccountMeta(Pubkey.from_string(m.address), m.signer, m.writable) for m in made.metas],
            )
            for made in instructions
        ]
        raw.insert(0, set_compute_unit_limit(1_400_000))
        message = MessageV0.try_compile(payer, raw, [], self.svm.latest_blockhash())
        signatures = [Signature.default()] * message.header.num_required_signatures
        done = self.svm.send_transaction(VersionedTransaction.populate(message, signatures))
        self.paid += FEE * len(signatures)
        if isinstance(done, FailedTransactionMetadata):
            return Outcome(done.err(), done.meta().compute_units_consumed(), done.meta().logs())
        return Outcome(None, done.compute_units_consumed(), done.logs())

    def swap(self, a_to_b: bool, amount: int, least: int = 0) -> Outcome:
        """Swap in the machine."""
        return self.run(self.instruction(a_to_b, amount, least))


def authority_of(program: str, *seeds: bytes) -> tuple[str, int]:
    """Return an address that a program derives, and its bump."""
    found, bump = Pubkey.find_program_address(list(seeds), Pubkey.from_string(program))
    return str(found), bump


def owned_by(raw: Raw, owner: str) -> Raw:
    """Return a token account with another owner."""
    data = bytearray(raw[2])
    data[32:64] = key(owner)
    return (raw[0], raw[1], bytes(data))


def patched(raw: Raw, at: int, new: bytes) -> Raw:
    """Return an account with other bytes at an offset."""
    data = bytearray(raw[2])
    data[at : at + len(new)] = new
    return (raw[0], raw[1], bytes(data), *raw[3:])
