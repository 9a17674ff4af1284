//! Pools: raw accounts in, exact quotes out. Integers decide every amount; floats only report prices.

pub mod account;
pub mod error;
#[cfg(test)]
mod fuzz_tests;
mod info;
pub mod python;
pub mod raydium_cpmm;
pub mod raydium_v4;
mod snapshot;
pub mod token;
pub mod whirlpool;
mod wide;

use std::sync::Arc;

use ruint::aliases::U256;

use self::account::{Account, Pubkey};
use self::error::{QuoteError, Refused, quote_error};
use self::raydium_cpmm::RaydiumCpmm;
use self::raydium_v4::RaydiumV4;
use self::token::TransferFee;
use self::whirlpool::Whirlpool;

/// Program family of a pool, numbered as in the schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    Whirlpool = 1,
    RaydiumV4 = 2,
    RaydiumCpmm = 3,
}

impl Protocol {
    /// The protocol of a schema number.
    pub fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Whirlpool),
            2 => Some(Self::RaydiumV4),
            3 => Some(Self::RaydiumCpmm),
            _ => None,
        }
    }

    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whirlpool => "whirlpool",
            Self::RaydiumV4 => "raydium_amm_v4",
            Self::RaydiumCpmm => "raydium_cpmm",
        }
    }
}

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
    /// 0 where the pool has no square-root price.
    pub sqrt_price_after: u128,
    /// Of the last step, in hundredths of a basis point; 0 where the pool's fee does not move within a swap.
    pub fee_rate: u32,
    pub ticks_crossed: u32,
}

impl Movement {
    fn constant_product(
        a_to_b: bool,
        reserves: (u64, u64),
        amount_in: u64,
        amount_out: u64,
        fee: u64,
    ) -> Self {
        let price = |given: u64, taken: u64| {
            let rate = taken as f64 / given as f64;
            if a_to_b { rate } else { rate.recip() }
        };
        let (given, taken) = reserves;
        Self {
            amount_in,
            amount_out,
            vault_in: amount_in,
            vault_out: amount_out,
            fee_amount: fee,
            price_before: price(given, taken),
            price_after: price(given.saturating_add(amount_in - fee), taken - amount_out),
            sqrt_price_after: 0,
            fee_rate: 0,
            ticks_crossed: 0,
        }
    }

    /// How far the swap moved the price, fees excluded.
    pub fn price_impact_bps(&self) -> f64 {
        (self.price_after / self.price_before - 1.0).abs() * 1e4
    }
}

/// The part that differs between programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Venue {
    Whirlpool(Whirlpool),
    RaydiumV4(RaydiumV4),
    RaydiumCpmm(RaydiumCpmm),
}

/// A pool at one moment. A swap makes another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub address: Pubkey,
    pub clock: Clock,
    pub venue: Venue,
    /// Absent in a pool that came from a snapshot.
    pub accounts: Option<Arc<Vec<Account>>>,
}

impl Pool {
    /// Read a pool from its accounts, or refuse.
    pub fn parse(
        protocol: Protocol,
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
        let venue = match protocol {
            Protocol::Whirlpool => Venue::Whirlpool(Whirlpool::parse(address, &accounts, clock)?),
            Protocol::RaydiumV4 => Venue::RaydiumV4(RaydiumV4::parse(address, &accounts, clock)?),
            Protocol::RaydiumCpmm => {
                Venue::RaydiumCpmm(RaydiumCpmm::parse(address, &accounts, clock)?)
            }
        };
        Ok(Self {
            address,
            clock,
            venue,
            accounts: Some(Arc::new(accounts)),
        })
    }

    /// The pool's program family.
    pub fn protocol(&self) -> Protocol {
        match self.venue {
            Venue::Whirlpool(_) => Protocol::Whirlpool,
            Venue::RaydiumV4(_) => Protocol::RaydiumV4,
            Venue::RaydiumCpmm(_) => Protocol::RaydiumCpmm,
        }
    }

    /// Mints of tokens a and b.
    pub fn mints(&self) -> (Pubkey, Pubkey) {
        match &self.venue {
            Venue::Whirlpool(pool) => (pool.mint_a, pool.mint_b),
            Venue::RaydiumV4(pool) => (pool.mint_a, pool.mint_b),
            Venue::RaydiumCpmm(pool) => (pool.mints[0], pool.mints[1]),
        }
    }

    /// Compute a swap without changing anything.
    pub fn quote(&self, order: Order) -> Result<Movement, QuoteError> {
        if order.amount == 0 {
            return Err(quote_error("zero_tradable_amount"));
        }
        match &self.venue {
            Venue::Whirlpool(pool) => pool.quote(order, self.clock),
            Venue::RaydiumV4(pool) => pool.quote(order),
            Venue::RaydiumCpmm(pool) => pool.quote(order),
        }
    }

    /// Compute a swap and the pool after it.
    pub fn swap(&self, order: Order) -> Result<(Self, Movement), QuoteError> {
        if order.amount == 0 {
            return Err(quote_error("zero_tradable_amount"));
        }
        let mut accounts = self.accounts.as_deref().cloned();
        let raw = accounts.as_mut();
        let (venue, movement) = match &self.venue {
            Venue::Whirlpool(pool) => {
                let (pool, movement) = pool.swap(self.address, order, raw, self.clock)?;
                (Venue::Whirlpool(pool), movement)
            }
            Venue::RaydiumV4(pool) => {
                let (pool, movement) = pool.swap(self.address, order, raw)?;
                (Venue::RaydiumV4(pool), movement)
            }
            Venue::RaydiumCpmm(pool) => {
                let (pool, movement) = pool.swap(self.address, order, raw, self.clock)?;
                (Venue::RaydiumCpmm(pool), movement)
            }
        };
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
        let wide = |a: u64, b: u64| U256::from(u128::from(a) * u128::from(b));
        let moved = |(given, taken): (u64, u64)| match after {
            None => (given, taken),
            Some(after) => (
                given.saturating_add(after.vault_in.saturating_sub(after.fee_amount)),
                taken.saturating_sub(after.vault_out),
            ),
        };
        let (mut numerator, mut denominator) = match &self.venue {
            Venue::Whirlpool(pool) => {
                // Before a swap a moving fee may be as low as its base.
                let begin = (pool.sqrt_price, u32::from(pool.fee_rate));
                let (sqrt_price, fee_rate) =
                    after.map_or(begin, |after| (after.sqrt_price_after, after.fee_rate));
                pool.marginal_rate(a_to_b, sqrt_price, fee_rate)
            }
            Venue::RaydiumV4(pool) => {
                let (given, taken) = moved(pool.reserves(a_to_b));
                let kept = pool.fee_denominator - pool.fee_numerator;
                (wide(taken, kept), wide(given, pool.fee_denominator))
            }
            Venue::RaydiumCpmm(pool) => {
                let ((given, taken), (kept, whole)) =
                    (moved(pool.reserves(a_to_b)), pool.kept(a_to_b));
                (wide(taken, kept), wide(given, whole))
            }
        };
        for fee in self.transfer_fees().into_iter().flatten() {
            // Both factors are below 2^14; the fractions above stay below 2^222.
            numerator *= U256::from(10_000 - fee.basis_points);
            denominator *= U256::from(10_000);
        }
        (numerator, denominator)
    }

    /// Transfer fees of tokens a and b.
    pub fn transfer_fees(&self) -> [Option<TransferFee>; 2] {
        match &self.venue {
            Venue::Whirlpool(pool) => [pool.transfer_fee_a, pool.transfer_fee_b],
            Venue::RaydiumV4(_) => [None, None],
            Venue::RaydiumCpmm(pool) => pool.transfer_fees,
        }
    }
}
