//! SPL stake pools as a venue between their token (a) and SOL (b): DepositSol and WithdrawSol.
//!
//! Source of layout and formulas: solana-program/stake-pool (Apache-2.0), `state.rs` and `processor.rs`. What the pool
//! itself says of its token's supply counts, not the mint.

mod layout;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ruint::aliases::U256;

use super::account::{Account, Pubkey};
use super::error::{QuoteError, Refused, quote_error, refuse, too_small};
use super::info::Info;
use super::snapshot::{Reader, Writer};
use super::staking::{self, FAILED, scaled};
use super::venue::{Family, Protocol, Venue};
use super::{Clock, Movement, Order};

/// The program, and Sanctum's two deployments of it.
pub const PROGRAMS: [&str; 3] = [
    "SPoo1Ku8WFXoNDMHPsrGSTSG1Y47rzgn41SLUNakuHy",
    "SP12tWFxD9oJsVWNavTTBZvMbA6gkAmxtVgxdqvyvhY",
    "SPMBzsVUuoHA4Jm6KunbsotaahvVikZs1JyTW6iJvbn",
];
const STAKE_PROGRAM: &str = "Stake11111111111111111111111111111111111111";

pub const FAMILY: Family = Family {
    protocol: Protocol::SplStakePool,
    name: "spl_stake_pool",
    parse: |address, accounts, clock| Ok(Arc::new(StakePool::parse(address, accounts, clock)?)),
    read: |input, mints| Ok(Arc::new(StakePool::read(input, mints)?)),
    #[cfg(test)]
    samples: tests::samples,
};

/// Part of an amount, rounded up when it is taken; nothing where the denominator is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fee {
    pub denominator: u64,
    pub numerator: u64,
}

impl Fee {
    fn of(self, amount: u64) -> u64 {
        if self.denominator == 0 {
            return 0;
        }
        let fee = (u128::from(amount) * u128::from(self.numerator))
            .div_ceil(u128::from(self.denominator));
        // The numerator is at most the denominator, so the fee is at most the amount.
        fee as u64
    }

    /// What it leaves, as a fraction.
    fn kept(self) -> (u64, u64) {
        match self.denominator {
            0 => (1, 1),
            whole => (whole - self.numerator, whole),
        }
    }
}

/// Everything that the swaps of a stake pool depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StakePool {
    pub mint: Pubkey,
    pub sol: Pubkey,
    pub total_lamports: u64,
    pub supply: u64,
    pub last_update_epoch: u64,
    pub deposit_fee: Fee,
    pub withdrawal_fee: Fee,
    /// False where somebody else must sign.
    pub deposit_open: bool,
    pub withdrawal_open: bool,
    /// Lamports of the reserve, all of them and those that must stay.
    pub reserve: u64,
    pub reserve_minimum: u64,
    /// Nothing leaves the reserve before this second and this epoch.
    pub locked_until: (i64, u64),
}

impl StakePool {
    /// Refuse figures that no working pool has.
    fn check(&self) -> Result<(), Refused> {
        for fee in [self.deposit_fee, self.withdrawal_fee] {
            if fee.denominator != 0 && fee.numerator > fee.denominator {
                return refuse(
                    "bad_pool",
                    format!("a fee of {}/{}", fee.numerator, fee.denominator),
                );
            }
        }
        Ok(())
    }

    fn read(input: &mut Reader<'_>, [mint, sol]: [Pubkey; 2]) -> Result<Self, Refused> {
        let mut fee = || {
            Ok(Fee {
                denominator: input.u64()?,
                numerator: input.u64()?,
            })
        };
        let (deposit_fee, withdrawal_fee) = (fee()?, fee()?);
        let this = Self {
            mint,
            sol,
            deposit_fee,
            withdrawal_fee,
            total_lamports: input.u64()?,
            supply: input.u64()?,
            last_update_epoch: input.u64()?,
            deposit_open: input.flag()?,
            withdrawal_open: input.flag()?,
            reserve: input.u64()?,
            reserve_minimum: input.u64()?,
            locked_until: (input.i64()?, input.u64()?),
        };
        this.check()?;
        Ok(this)
    }

    fn is_current(&self, clock: Clock) -> bool {
        self.last_update_epoch >= clock.epoch()
    }

    fn is_locked(&self, clock: Clock) -> bool {
        let (second, epoch) = self.locked_until;
        second > clock.unix_time || epoch > clock.epoch()
    }

    /// Lamports per unit of the token as a fraction, where there are any.
    fn rate(&self) -> Option<(u64, u64)> {
        (self.total_lamports > 0 && self.supply > 0).then_some((self.total_lamports, self.supply))
    }

    /// What a swap in this direction needs besides a good amount.
    fn permitted(&self, withdrawal: bool, clock: Clock) -> Result<(), QuoteError> {
        match withdrawal {
            true if !self.withdrawal_open => Err(quote_error("invalid_sol_withdraw_authority")),
            false if !self.deposit_open => Err(quote_error("invalid_sol_deposit_authority")),
            _ if !self.is_current(clock) => Err(quote_error("stake_list_and_pool_out_of_date")),
            true if self.is_locked(clock) => Err(quote_error("lockup_in_force")),
            _ => Ok(()),
        }
    }

    /// Tokens for a deposit, and how many of them are the fee.
    fn deposit(&self, lamports: u64) -> Result<(u64, u64), QuoteError> {
        let minted = match self.rate() {
            None => lamports,
            Some((total, supply)) => scaled(lamports, supply, total)?,
        };
        let fee = self.deposit_fee.of(minted);
        if minted == fee {
            return Err(too_small("deposit_too_small"));
        }
        self.supply.checked_add(minted).ok_or(FAILED)?;
        self.total_lamports.checked_add(lamports).ok_or(FAILED)?;
        self.reserve.checked_add(lamports).ok_or(FAILED)?;
        Ok((minted, fee))
    }

    /// Lamports for tokens, and how many of the tokens are the fee.
    fn withdraw(&self, tokens: u64) -> Result<(u64, u64), QuoteError> {
        let fee = self.withdrawal_fee.of(tokens);
        let burnt = tokens - fee;
        let lamports = match self.supply {
            0 => 0,
            supply => scaled(burnt, self.total_lamports, supply)?,
        };
        if lamports == 0 {
            return Err(too_small("withdrawal_too_small"));
        }
        let left = self.reserve.checked_sub(lamports);
        if left.is_none_or(|left| left < self.reserve_minimum) {
            return Err(quote_error("sol_withdrawal_too_large"));
        }
        self.supply.checked_sub(burnt).ok_or(FAILED)?;
        self.total_lamports.checked_sub(lamports).ok_or(FAILED)?;
        Ok((lamports, fee))
    }
}

impl Venue for StakePool {
    fn protocol(&self) -> Protocol {
        FAMILY.protocol
    }

    fn mints(&self) -> (Pubkey, Pubkey) {
        (self.mint, self.sol)
    }

    fn quote(&self, order: Order, clock: Clock) -> Result<Movement, QuoteError> {
        staking::check(order)?;
        self.permitted(order.a_to_b, clock)?;
        let (amount_out, fee_amount) = if order.a_to_b {
            self.withdraw(order.amount)?
        } else {
            let (minted, fee) = self.deposit(order.amount)?;
            // The fee is taken in tokens: in lamports it is what they are worth, at most all that was given.
            let worth = match self.rate() {
                None => u128::from(fee),
                Some((total, supply)) => {
                    (u128::from(fee) * u128::from(total)).div_ceil(u128::from(supply))
                }
            };
            let worth = u64::try_from(worth).unwrap_or(u64::MAX).min(order.amount);
            (minted - fee, worth)
        };
        Ok(staking::movement(
            order,
            amount_out,
            fee_amount,
            self.rate(),
        ))
    }

    fn swap(
        &self,
        address: Pubkey,
        order: Order,
        accounts: Option<&mut Vec<Account>>,
        clock: Clock,
    ) -> Result<(Arc<dyn Venue>, Movement), QuoteError> {
        let movement = self.quote(order, clock)?;
        let mut next = self.clone();
        if order.a_to_b {
            let (lamports, fee) = self.withdraw(order.amount)?;
            next.supply -= order.amount - fee;
            next.total_lamports -= lamports;
            next.reserve -= lamports;
        } else {
            next.supply += self.deposit(order.amount)?.0;
            next.total_lamports += order.amount;
            next.reserve += order.amount;
        }
        if let Some(accounts) = accounts {
            next.patch(address, accounts)?;
        }
        Ok((Arc::new(next), movement))
    }

    fn marginal_rate(&self, a_to_b: bool, _: Option<&Movement>, clock: Clock) -> (U256, U256) {
        let closed = (U256::ZERO, U256::ONE);
        if self.permitted(a_to_b, clock).is_err() {
            return closed;
        }
        let ((total, supply), fee) = match self.rate() {
            Some(rate) if a_to_b => (rate, self.withdrawal_fee),
            Some((total, supply)) => ((supply, total), self.deposit_fee),
            None if a_to_b => return closed,
            None => ((1, 1), self.deposit_fee),
        };
        let (kept, whole) = fee.kept();
        let wide = |a: u64, b: u64| U256::from(u128::from(a) * u128::from(b));
        (wide(total, kept), wide(supply, whole))
    }

    fn fair_rate(&self) -> Option<(u64, u64)> {
        self.rate()
    }

    fn unstake_rate(&self, clock: Clock) -> Option<(u128, u128)> {
        let (total, supply) = self.rate()?;
        self.permitted(true, clock).ok()?;
        let (kept, whole) = self.withdrawal_fee.kept();
        Some((
            u128::from(total) * u128::from(kept),
            u128::from(supply) * u128::from(whole),
        ))
    }

    fn write(&self, out: &mut Writer) {
        for fee in [self.deposit_fee, self.withdrawal_fee] {
            out.u64s(&[fee.denominator, fee.numerator]);
        }
        out.u64s(&[self.total_lamports, self.supply, self.last_update_epoch])
            .u8(u8::from(self.deposit_open))
            .u8(u8::from(self.withdrawal_open))
            .u64s(&[self.reserve, self.reserve_minimum])
            .i64(self.locked_until.0)
            .u64(self.locked_until.1);
    }

    fn info(&self, out: &mut Info<'_>) {
        let fee = |fee: Fee| (fee.numerator, fee.denominator);
        out.put("total_lamports", self.total_lamports)
            .put("supply", self.supply)
            .put("last_update_epoch", self.last_update_epoch)
            .put("deposit_fee", fee(self.deposit_fee))
            .put("withdrawal_fee", fee(self.withdrawal_fee))
            .put("deposit_open", self.deposit_open)
            .put("withdrawal_open", self.withdrawal_open)
            .put(
                "available_lamports",
                self.reserve.saturating_sub(self.reserve_minimum),
            )
            .put("locked_until", self.locked_until);
    }
}
