//! Pools: raw accounts in, exact quotes out. Integers decide every amount; floats only report prices.

pub mod account;
mod concentrated;
mod constant_product;
pub mod error;
#[cfg(test)]
mod fuzz_tests;
pub mod info;
pub mod marinade;
mod meteora_damm_v2;
mod meteora_dlmm;
pub mod python;
pub mod raydium_clmm;
pub mod raydium_cpmm;
pub mod raydium_v4;
pub mod snapshot;
pub mod spl_stake_pool;
mod staking;
#[cfg(test)]
pub mod testing;
pub mod token;
pub mod venue;
pub mod whirlpool;
pub mod wide;

use std::sync::Arc;

use ruint::aliases::U256;

use self::account::{Account, Pubkey};
use self::error::{QuoteError, Refused, too_small};
use self::token::TransferFee;
use self::venue::{Family, Venue};

/// When a state was observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    pub slot: u64,
    pub write_version: u64,
    /// Seconds since the Unix epoch.
    pub unix_time: i64,
}

impl Clock {
    /// Epoch of the slot under the default schedule without warm-up, which is mainnet's.
    pub fn epoch(&self) -> u64 {
        self.slot / 432_000
    }
}

/// What a swap asks for.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub a_to_b: bool,
    /// Given when `exact_in`, else wanted.
    pub amount: u64,
    pub exact_in: bool,
    /// Square-root price not to pass, Q64.64; 0 for none.
    pub sqrt_price_limit: u128,
}

/// What a swap moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Movement {
    /// What the user sends; less than asked where the price limit or the end of the price range stopped the swap.
    pub amount_in: u64,
    /// What the user receives.
    pub amount_out: u64,
    /// What the vaults gain and lose: differs where tokens charge transfer fees.
    pub vault_in: u64,
    pub vault_out: u64,
    /// The pool's fees taken from the token given.
    pub fee_amount: u64,
    /// Token b per token a, in base units.
    pub price_before: f64,
    pub price_after: f64,
    /// The venue's own mark of where the swap stopped: a square-root price where the pool has one, 0 where it needs none.
    pub sqrt_price_after: u128,
    /// Of the last step, in hundredths of a basis point; 0 where the pool's fee does not move within a swap.
    pub fee_rate: u32,
    pub ticks_crossed: u32,
}

impl Movement {
    /// How far the swap moved the price, fees excluded.
    pub fn price_impact_bps(&self) -> f64 {
        (self.price_after / self.price_before - 1.0).abs() * 1e4
    }
}

/// A pool at one moment. A swap makes another.
#[derive(Clone, Debug)]
pub struct Pool {
    pub address: Pubkey,
    pub clock: Clock,
    /// The part that differs between programs.
    pub venue: Arc<dyn Venue>,
    /// Absent in a pool that came from a snapshot.
    pub accounts: Option<Arc<Vec<Account>>>,
}

impl Pool {
    /// Read a pool from its accounts, or refuse.
    pub fn parse(
        family: &Family,
        address: Pubkey,
        accounts: Vec<Account>,
        clock: Clock,
    ) -> Result<Self, Refused> {
        for (position, account) in accounts.iter().enumerate() {
            if accounts[..position]
                .iter()
                .any(|other| other.address == account.address)
            {
                return error::refuse(
                    "duplicate_account",
                    format!("{} is given twice", account.address),
                );
            }
        }
        let venue = (family.parse)(address, &accounts, clock)?;
        Ok(Self {
            address,
            clock,
            venue,
            accounts: Some(Arc::new(accounts)),
        })
    }

    /// The pool's program family.
    pub fn family(&self) -> &'static Family {
        // Only a family of the list makes a venue.
        Family::of(self.venue.protocol() as u8).expect("a listed family")
    }

    /// Mints of tokens a and b.
    pub fn mints(&self) -> (Pubkey, Pubkey) {
        self.venue.mints()
    }

    /// Compute a swap without changing anything.
    pub fn quote(&self, order: Order) -> Result<Movement, QuoteError> {
        if order.amount == 0 {
            return Err(too_small("zero_tradable_amount"));
        }
        self.venue.quote(order, self.clock)
    }

    /// Compute a swap and the pool after it.
    pub fn swap(&self, order: Order) -> Result<(Self, Movement), QuoteError> {
        if order.amount == 0 {
            return Err(too_small("zero_tradable_amount"));
        }
        let mut accounts = self.accounts.as_deref().cloned();
        let (venue, movement) =
            self.venue
                .swap(self.address, order, accounts.as_mut(), self.clock)?;
        let next = Self {
            address: self.address,
            clock: self.clock,
            venue,
            accounts: accounts.map(Arc::new),
        };
        Ok((next, movement))
    }

    /// What the next unit given brings, after all fees, as a fraction of (taken, given): now, or within a swap that
    /// has come as far as `after`.
    ///
    /// Exact up to the caps of transfer fees, which only make a real swap better than this.
    pub fn marginal_rate(&self, a_to_b: bool, after: Option<&Movement>) -> (U256, U256) {
        let (mut numerator, mut denominator) = self.venue.marginal_rate(a_to_b, after, self.clock);
        for fee in self.transfer_fees().into_iter().flatten() {
            // Both factors are below 2^14, the fractions at most 2^228.
            numerator *= U256::from(10_000 - fee.basis_points);
            denominator *= U256::from(10_000);
        }
        (numerator, denominator)
    }

    /// Transfer fees of tokens a and b.
    pub fn transfer_fees(&self) -> [Option<TransferFee>; 2] {
        self.venue.transfer_fees()
    }
}
