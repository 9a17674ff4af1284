"""Tables of what the final chain says: evidence, which does not change any more and outlives a rebuild of the books.

Amounts are integers in base units without a limit; SOL stands for lamports wherever the wallets hold them.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Float, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from pipeline.ledger.models import Base, Whole

# Wrapped SOL's mint: the token that lamports are booked under.
SOL = "So11111111111111111111111111111111111111112"


class ChainBook(Base):
    """One chain, told apart by its genesis hash. The newest one is the one that is followed."""

    __tablename__ = "chains"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    # Of an offline chain followed by @ and when it began, wall-clock ns: the same seed gives the same hash.
    genesis: Mapped[str] = mapped_column(String(64))
    # The books begin before the first transaction at or after this slot.
    begin_slot: Mapped[int] = mapped_column(BigInteger)
    # Everything final up to and with this slot is booked; begin_slot - 1 before the first walk.
    walked_slot: Mapped[int] = mapped_column(BigInteger)
    # A block height that was final at walked_slot, or a lower one.
    block_height: Mapped[int] = mapped_column(BigInteger)
    # Results up to this sequence of EXECUTED belong to chains before it, unless they are found here.
    after_sequence: Mapped[int] = mapped_column(BigInteger)
    begun_ns: Mapped[int] = mapped_column(BigInteger)


class ChainAccount(Base):
    """An account of a wallet: what it held when the books began, and what the transactions since come to."""

    __tablename__ = "chain_accounts"

    chain: Mapped[int] = mapped_column(Integer, primary_key=True)
    address: Mapped[str] = mapped_column(String(64), primary_key=True)
    wallet: Mapped[str] = mapped_column(String(64))
    # Empty for the wallet's system account.
    mint: Mapped[str] = mapped_column(String(64))
    opening_lamports: Mapped[int] = mapped_column(Whole)
    opening_amount: Mapped[int] = mapped_column(Whole)
    lamports: Mapped[int] = mapped_column(Whole)
    amount: Mapped[int] = mapped_column(Whole)
    # First transaction that did not begin where the one before had ended; empty where all do.
    misfit: Mapped[str] = mapped_column(String(128))


class ChainTransaction(Base):
    """One final transaction that touched a wallet."""

    __tablename__ = "chain_transactions"

    chain: Mapped[int] = mapped_column(Integer, primary_key=True)
    signature: Mapped[str] = mapped_column(String(128), primary_key=True)
    slot: Mapped[int] = mapped_column(BigInteger)
    # Order within its slot, as far as the wallets' histories tell.
    position: Mapped[int] = mapped_column(BigInteger)
    block_time: Mapped[int] = mapped_column(BigInteger)
    # plan, deposit, withdrawal, upkeep or unexplained.
    kind: Mapped[str] = mapped_column(String(16))
    failed: Mapped[bool] = mapped_column(Boolean)
    base_fee: Mapped[int] = mapped_column(BigInteger)
    priority_fee: Mapped[int] = mapped_column(BigInteger)
    tip: Mapped[int] = mapped_column(BigInteger)
    units: Mapped[int] = mapped_column(BigInteger)
    # JSON: one [amount_in, amount_out] for each leg of its plan; empty where that is not known.
    fills: Mapped[str] = mapped_column(Text)


class ChainMovement(Base):
    """What one transaction changed in all wallets together, one row for each token, split by what it was for."""

    __tablename__ = "chain_movements"

    chain: Mapped[int] = mapped_column(Integer, primary_key=True)
    signature: Mapped[str] = mapped_column(String(128), primary_key=True)
    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    traded: Mapped[int] = mapped_column(Whole)
    moved: Mapped[int] = mapped_column(Whole)
    upkeep: Mapped[int] = mapped_column(Whole)
    # In none of the three: it belongs to no plan, and is nothing that an owner does.
    unexplained: Mapped[int] = mapped_column(Whole)


class ChainTotal(Base):
    """The books held against the chain, for one token: the last Reconciliation."""

    __tablename__ = "chain_totals"

    chain: Mapped[int] = mapped_column(Integer, primary_key=True)
    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    # Up to which slot; -1 before the first time.
    slot: Mapped[int] = mapped_column(BigInteger)
    opening: Mapped[int] = mapped_column(Whole)
    balance: Mapped[int] = mapped_column(Whole)
    # Booked from final transactions: results and their corrections; the chain's own word while a result is missing.
    traded: Mapped[int] = mapped_column(Whole)
    moved: Mapped[int] = mapped_column(Whole)
    upkeep: Mapped[int] = mapped_column(Whole)
    transactions: Mapped[int] = mapped_column(BigInteger)
    pending: Mapped[int] = mapped_column(BigInteger)
    last_signature: Mapped[str] = mapped_column(String(128))


class Notice(Base):
    """Something a person should know, found while booking: published once it stands in the books."""

    __tablename__ = "notices"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    told: Mapped[bool] = mapped_column(Boolean, index=True)
    rule: Mapped[str] = mapped_column(String(64))
    severity: Mapped[int] = mapped_column(Integer)
    about: Mapped[str] = mapped_column(String(128))
    correlation_id: Mapped[str] = mapped_column(String(64))
    measured: Mapped[float] = mapped_column(Float)
    limit_value: Mapped[float] = mapped_column(Float)
    detail: Mapped[str] = mapped_column(Text)
    noted_ns: Mapped[int] = mapped_column(BigInteger)
