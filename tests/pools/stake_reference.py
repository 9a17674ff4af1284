"""Stake pools and Marinade in plain Python, from the programs' published sources: what the core is compared with."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

SPL_STAKE_POOL = "SPoo1Ku8WFXoNDMHPsrGSTSG1Y47rzgn41SLUNakuHy"
SANCTUM = ("SP12tWFxD9oJsVWNavTTBZvMbA6gkAmxtVgxdqvyvhY", "SPMBzsVUuoHA4Jm6KunbsotaahvVikZs1JyTW6iJvbn")
MARINADE = "MarBmsSgKXdrN1egZf5sqe1TMai9K1rChYNDJgjq7aD"
STAKE = "Stake11111111111111111111111111111111111111"
SYSTEM = "11111111111111111111111111111111"
U64 = 2**64 - 1


class Fails(Exception):
    """The program fails; the message is its error."""


def fits(value: int) -> int:
    if not 0 <= value <= U64:
        raise Fails("calculation_failure")
    return value


class Walk:
    """Borsh, field by field."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, layout: str) -> Any:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def key(self) -> bytes:
        self.at += 32
        return self.data[self.at - 32 : self.at]

    def option(self) -> bytes | None:
        return self.key() if self.take("B")[0] else None

    def future(self) -> None:
        if self.take("B")[0]:
            self.take("QQ")


@dataclass
class StakePool:
    """The parts of a stake pool that DepositSol and WithdrawSol read and write."""

    total: int
    supply: int
    epoch: int
    deposit_authority: bytes | None
    deposit_fee: tuple[int, int]
    withdraw_authority: bytes | None
    withdrawal_fee: tuple[int, int]
    reserve: int
    rent: int
    lockup: tuple[int, int]

    @classmethod
    def parse(cls, data: bytes, reserve: bytes, lamports: int) -> StakePool:
        walk = Walk(data)
        assert walk.take("B") == (1,)
        walk.at += 3 * 32 + 1 + 5 * 32
        total, supply, epoch = walk.take("QQQ")
        walk.at += 8 + 8 + 32
        walk.take("QQ")
        walk.future()
        walk.option(), walk.option()
        walk.take("QQQQ")
        walk.future()
        walk.take("B")
        deposit_authority = walk.option()
        deposit_fee = walk.take("QQ")
        walk.take("B")
        withdraw_authority = walk.option()
        withdrawal_fee = walk.take("QQ")
        state = Walk(reserve)
        assert state.take("I") == (1,)
        (rent,) = state.take("Q")
        state.at += 64
        return cls(
            total,
            supply,
            epoch,
            deposit_authority,
            deposit_fee,
            withdraw_authority,
            withdrawal_fee,
            lamports,
            rent,
            state.take("qQ"),
        )

    def check(self, authority: bytes | None, name: str, epoch: int) -> None:
        if authority is not None:
            raise Fails(f"invalid_sol_{name}_authority")
        if self.epoch < epoch:
            raise Fails("stake_list_and_pool_out_of_date")

    def deposit(self, lamports: int, epoch: int) -> int:
        self.check(self.deposit_authority, "deposit", epoch)
        empty = self.total == 0 or self.supply == 0
        minted = fits(lamports if empty else lamports * self.supply // self.total)
        denominator, numerator = self.deposit_fee
        fee = -(-minted * numerator // denominator) if denominator else 0
        if minted - fee == 0:
            raise Fails("deposit_too_small")
        supply, total, reserve = fits(self.supply + minted), fits(self.total + lamports), fits(self.reserve + lamports)
        self.supply, self.total, self.reserve = supply, total, reserve
        return minted - fee

    def withdraw(self, tokens: int, epoch: int, now: int) -> int:
        self.check(self.withdraw_authority, "withdraw", epoch)
        if self.lockup[0] > now or self.lockup[1] > epoch:
            raise Fails("lockup_in_force")
        denominator, numerator = self.withdrawal_fee
        fee = -(-tokens * numerator // denominator) if denominator else 0
        burnt = tokens - fee
        lamports = fits(burnt * self.total // self.supply) if self.supply else 0
        if lamports == 0:
            raise Fails("withdrawal_too_small")
        if self.reserve - lamports < self.rent:
            raise Fails("sol_withdrawal_too_large")
        supply, total = fits(self.supply - burnt), fits(self.total - lamports)
        self.supply, self.total, self.reserve = supply, total, self.reserve - lamports
        return lamports


@dataclass
class Marinade:
    """The parts of Marinade's state, and its two legs, that a swap reads and writes."""

    cooling: int
    active: int
    target: int
    max_fee: int
    min_fee: int
    cut: int
    reserve: int
    supply: int
    tickets: int
    min_deposit: int
    min_withdraw: int
    cap: int
    emergency: int
    rent: int
    msol_leg: int
    sol_leg: int

    @classmethod
    def parse(cls, data: bytes, msol_leg: bytes, sol_leg: int) -> Marinade:
        walk = Walk(data, 8 + 4 * 32 + 2)
        (rent,) = walk.take("Q")
        walk.take("I")
        walk.at += 76
        (cooling,) = walk.take("Q")
        walk.take("BBQQQI")
        walk.at += 76 + 32
        _score, active, _add = walk.take("IQB")
        walk.key(), walk.take("BBB"), walk.key()
        target, max_fee, min_fee, cut = walk.take("QIII")
        walk.take("QQQ")
        reserve, supply, _price, _count, tickets, _lent = walk.take("QQQQQQ")
        min_deposit, min_withdraw, cap, emergency = walk.take("QQQQ")
        (held,) = struct.unpack_from("<Q", msol_leg, 64)
        rates = (target, max_fee, min_fee, cut)
        limits = (min_deposit, min_withdraw, cap, emergency)
        return cls(cooling, active, *rates, reserve, supply, tickets, *limits, rent, held, sol_leg)

    @property
    def controlled(self) -> int:
        return self.active + self.cooling + self.emergency + self.reserve

    @property
    def staked(self) -> int:
        return max(0, self.controlled - self.tickets)

    def to_msol(self, lamports: int) -> int:
        if self.supply == 0 or self.staked == 0:
            return lamports
        return fits(lamports * self.supply // self.staked)

    def to_sol(self, msol: int) -> int:
        return fits(msol * self.staked // self.supply) if self.supply else msol

    def deposit(self, lamports: int) -> int:
        order = self.to_msol(lamports)
        if lamports < self.min_deposit or order == 0:
            raise Fails("deposit_amount_is_too_low")
        swapped = min(order, self.msol_leg)
        paid = lamports if swapped == order else self.to_sol(swapped)
        staked = lamports - paid
        if staked > 0 and self.controlled + staked > self.cap:
            raise Fails("staking_is_capped")
        supply, leg = fits(self.supply + order - swapped), fits(self.sol_leg + paid)
        self.msol_leg -= swapped
        self.sol_leg, self.supply = leg, supply
        self.reserve += staked
        return order

    def unstake(self, msol: int) -> int:
        available = max(0, self.sol_leg - self.rent)
        left = available - self.to_sol(msol)
        if left <= 0:
            bps = self.max_fee
        elif left >= self.target:
            bps = self.min_fee
        else:
            bps = self.max_fee - (self.max_fee - self.min_fee) * left // self.target
        fee = msol * bps // 10_000
        lamports = self.to_sol(msol - fee)
        if lamports > available:
            raise Fails("insufficient_liquidity")
        if lamports < self.min_withdraw or lamports == 0:
            raise Fails("withdraw_amount_is_too_low")
        leg = fits(self.msol_leg + msol - fee * self.cut // 10_000)
        self.msol_leg, self.sol_leg = leg, self.sol_leg - lamports
        return lamports
