//! Marinade as a venue between mSOL (a) and SOL (b): `deposit` and `liquid_unstake`.
//!
//! Source of layout and formulas: marinade-finance/liquid-staking-program (Apache-2.0), `state/`, `user/deposit.rs` and
//! `liq_pool/liquid_unstake.rs`.

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

pub const PROGRAM: &str = "MarBmsSgKXdrN1egZf5sqe1TMai9K1rChYNDJgjq7aD";
const WHOLE: u32 = 10_000;

pub const FAMILY: Family = Family {
    protocol: Protocol::Marinade,
    name: "marinade",
    parse: |address, accounts, _| Ok(Arc::new(Marinade::parse(address, accounts)?)),
    read: |input, mints| Ok(Arc::new(Marinade::read(input, mints)?)),
    #[cfg(test)]
    samples: tests::samples,
};

/// Everything that Marinade's swaps depend on. Fees are in basis points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marinade {
    pub mint: Pubkey,
    pub sol: Pubkey,
    /// Staked, cooling down and waiting in the reserve.
    pub under_control: u64,
    /// Part of it that belongs to those who have unstaked already.
    pub tickets: u64,
    pub supply: u64,
    pub reserve: u64,
    pub min_deposit: u64,
    pub min_withdraw: u64,
    pub staking_cap: u64,
    pub msol_leg: u64,
    pub sol_leg: u64,
    /// What must stay in the SOL leg.
    pub leg_rent: u64,
    pub liquidity_target: u64,
    pub max_fee: u32,
    pub min_fee: u32,
    /// Part of the fee that does not stay in the mSOL leg.
    pub treasury_cut: u32,
    /// False where more mSOL exists than the state knows of: then the program takes no deposits.
    pub deposit_open: bool,
}

/// A deposit, as the program splits it.
struct Deposit {
    msol: u64,
    /// Part of the mSOL that comes out of the mSOL leg, and what is paid into the SOL leg for it.
    swapped: u64,
    paid_to_leg: u64,
}

/// An instant unstake.
struct Unstake {
    lamports: u64,
    /// In mSOL.
    fee: u64,
}

impl Marinade {
    /// Refuse figures that no working pool has.
    fn check(&self) -> Result<(), Refused> {
        let fees = [self.min_fee, self.max_fee, self.treasury_cut];
        if fees.iter().any(|fee| *fee > WHOLE) || self.min_fee > self.max_fee {
            return refuse(
                "bad_pool",
                format!("fees of {fees:?} basis points (least, most, treasury's part)"),
            );
        }
        if self.reserve > self.under_control {
            return refuse("bad_pool", "more is in the reserve than under control");
        }
        Ok(())
    }

    fn read(input: &mut Reader<'_>, [mint, sol]: [Pubkey; 2]) -> Result<Self, Refused> {
        let this = Self {
            mint,
            sol,
            under_control: input.u64()?,
            tickets: input.u64()?,
            supply: input.u64()?,
            reserve: input.u64()?,
            min_deposit: input.u64()?,
            min_withdraw: input.u64()?,
            staking_cap: input.u64()?,
            msol_leg: input.u64()?,
            sol_leg: input.u64()?,
            leg_rent: input.u64()?,
            liquidity_target: input.u64()?,
            max_fee: input.u32()?,
            min_fee: input.u32()?,
            treasury_cut: input.u32()?,
            deposit_open: input.flag()?,
        };
        this.check()?;
        Ok(this)
    }

    /// Lamports that stand behind all mSOL.
    fn staked(&self) -> u64 {
        self.under_control.saturating_sub(self.tickets)
    }

    fn rate(&self) -> Option<(u64, u64)> {
        (self.staked() > 0 && self.supply > 0).then_some((self.staked(), self.supply))
    }

    /// What can leave the SOL leg.
    fn available(&self) -> u64 {
        self.sol_leg.saturating_sub(self.leg_rent)
    }

    fn msol_of(&self, lamports: u64) -> Result<u64, QuoteError> {
        match (self.supply, self.staked()) {
            (0, _) | (_, 0) => Ok(lamports),
            (supply, staked) => scaled(lamports, supply, staked),
        }
    }

    fn lamports_of(&self, msol: u64) -> Result<u64, QuoteError> {
        match self.supply {
            0 => Ok(msol),
            supply => scaled(msol, self.staked(), supply),
        }
    }

    /// Basis points for an unstake that is worth so much before the fee: more, the less it leaves of the SOL leg.
    fn unstake_fee(&self, worth: u64) -> u32 {
        match self.available().checked_sub(worth) {
            None | Some(0) => self.max_fee,
            Some(left) if left >= self.liquidity_target => self.min_fee,
            Some(left) => {
                let discount = u128::from(self.max_fee - self.min_fee) * u128::from(left)
                    / u128::from(self.liquidity_target);
                // Less than what it is a part of.
                self.max_fee - discount as u32
            }
        }
    }

    fn deposit(&self, lamports: u64) -> Result<Deposit, QuoteError> {
        if !self.deposit_open {
            return Err(quote_error("unregistered_msol_minted"));
        }
        let msol = self.msol_of(lamports)?;
        // The program would take an amount above its least and give nothing for it.
        if lamports < self.min_deposit || msol == 0 {
            return Err(too_small("deposit_amount_is_too_low"));
        }
        // The liquidity pool sells its mSOL first, without a fee; the rest is minted.
        let swapped = msol.min(self.msol_leg);
        let paid_to_leg = match swapped {
            0 => 0,
            all if all == msol => lamports,
            part => self.lamports_of(part)?,
        };
        let staked = lamports.checked_sub(paid_to_leg).ok_or(FAILED)?;
        let capped = self
            .under_control
            .checked_add(staked)
            .is_none_or(|sum| sum > self.staking_cap);
        if staked > 0 && capped {
            return Err(quote_error("staking_is_capped"));
        }
        self.sol_leg.checked_add(paid_to_leg).ok_or(FAILED)?;
        self.supply.checked_add(msol - swapped).ok_or(FAILED)?;
        Ok(Deposit {
            msol,
            swapped,
            paid_to_leg,
        })
    }

    fn unstake(&self, msol: u64) -> Result<Unstake, QuoteError> {
        let fee = part(msol, self.unstake_fee(self.lamports_of(msol)?));
        let lamports = self.lamports_of(msol - fee)?;
        if lamports > self.available() {
            return Err(quote_error("insufficient_liquidity"));
        }
        if lamports < self.min_withdraw || lamports == 0 {
            return Err(too_small("withdraw_amount_is_too_low"));
        }
        self.msol_leg.checked_add(msol).ok_or(FAILED)?;
        Ok(Unstake { lamports, fee })
    }

    /// The state after a swap whose quote has succeeded.
    fn after(&self, order: Order) -> Result<Self, QuoteError> {
        let mut next = self.clone();
        if order.a_to_b {
            let unstake = self.unstake(order.amount)?;
            next.sol_leg -= unstake.lamports;
            next.msol_leg += order.amount - part(unstake.fee, self.treasury_cut);
        } else {
            let deposit = self.deposit(order.amount)?;
            let staked = order.amount - deposit.paid_to_leg;
            next.msol_leg -= deposit.swapped;
            next.sol_leg += deposit.paid_to_leg;
            next.supply += deposit.msol - deposit.swapped;
            next.reserve += staked;
            next.under_control += staked;
        }
        Ok(next)
    }
}

/// Basis points of an amount, rounded down as the program does. At most all of it.
fn part(amount: u64, basis_points: u32) -> u64 {
    (u128::from(amount) * u128::from(basis_points) / u128::from(WHOLE)) as u64
}

impl Venue for Marinade {
    fn protocol(&self) -> Protocol {
        FAMILY.protocol
    }

    fn mints(&self) -> (Pubkey, Pubkey) {
        (self.mint, self.sol)
    }

    fn quote(&self, order: Order, _: Clock) -> Result<Movement, QuoteError> {
        staking::check(order)?;
        let (amount_out, fee_amount) = if order.a_to_b {
            let unstake = self.unstake(order.amount)?;
            (unstake.lamports, unstake.fee)
        } else {
            (self.deposit(order.amount)?.msol, 0)
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
        let next = self.after(order)?;
        if let Some(accounts) = accounts {
            next.patch(self, address, accounts)?;
        }
        Ok((Arc::new(next), movement))
    }

    /// The unstake fee rises in steps of a basis point. Between them the next unit brings more than this says, at them
    /// less: the steps are spread evenly over the amounts, so that it falls all along and its sum is what is received.
    fn marginal_rate(&self, a_to_b: bool, after: Option<&Movement>, _: Clock) -> (U256, U256) {
        let closed = (U256::ZERO, U256::ONE);
        let wide = |value: u64| U256::from(value);
        if !a_to_b {
            let (staked, supply) = self.rate().unwrap_or((1, 1));
            return match self.deposit_open {
                true => (wide(supply), wide(staked)),
                false => closed,
            };
        }
        let (staked, supply) = match (self.rate(), self.supply) {
            (Some(rate), _) => rate,
            (None, 0) => (1, 1),
            (None, _) => return closed,
        };
        let given = after.map_or(0, |after| after.amount_in);
        let worth = self.lamports_of(given).unwrap_or(u64::MAX);
        let kept = wide(u64::from(WHOLE - self.unstake_fee(worth)));
        // Both parts of the rate stay below 2^64 * 2^14 * 2^64.
        let whole = wide(supply) * wide(u64::from(WHOLE));
        if self.available().saturating_sub(worth) >= self.liquidity_target {
            return (wide(staked) * kept, whole);
        }
        let target = wide(self.liquidity_target.max(1));
        let slope = wide(worth) * wide(u64::from(self.max_fee - self.min_fee));
        let numerator = (kept * target).saturating_sub(slope);
        (wide(staked) * numerator, whole * target)
    }

    fn fair_rate(&self) -> Option<(u64, u64)> {
        self.rate()
    }

    fn unstake_rate(&self, _: Clock) -> Option<(u128, u128)> {
        let (staked, supply) = self.rate()?;
        let kept = WHOLE - self.unstake_fee(0);
        (self.available() > 0).then_some((
            u128::from(staked) * u128::from(kept),
            u128::from(supply) * u128::from(WHOLE),
        ))
    }

    fn write(&self, out: &mut Writer) {
        out.u64s(&[self.under_control, self.tickets, self.supply, self.reserve])
            .u64s(&[self.min_deposit, self.min_withdraw, self.staking_cap])
            .u64s(&[self.msol_leg, self.sol_leg, self.leg_rent])
            .u64(self.liquidity_target)
            .u32(self.max_fee)
            .u32(self.min_fee)
            .u32(self.treasury_cut)
            .u8(u8::from(self.deposit_open));
    }

    fn info(&self, out: &mut Info<'_>) {
        out.put("staked_lamports", self.staked())
            .put("supply", self.supply)
            .put("msol_leg", self.msol_leg)
            .put("available_lamports", self.available())
            .put("unstake_fee_bps", self.unstake_fee(0))
            .put("min_fee_bps", self.min_fee)
            .put("max_fee_bps", self.max_fee)
            .put("treasury_cut_bps", self.treasury_cut)
            .put("liquidity_target", self.liquidity_target)
            .put("min_deposit", self.min_deposit)
            .put("min_withdraw", self.min_withdraw)
            .put("staking_cap", self.staking_cap)
            .put("deposit_open", self.deposit_open);
    }
}
