//! Fees: a base that follows time or price, and a part that follows the volatility of past swaps.

use ruint::aliases::U256;

use crate::pools::error::{QuoteError, Refused, quote_error, refuse};
use crate::pools::wide;

const OVERFLOW: QuoteError = quote_error("math_overflow");
const CAST: QuoteError = quote_error("type_cast_failed");
/// Fee rates are billionths.
pub const UNIT: u64 = 1_000_000_000;
const BASIS_POINTS: u64 = 10_000;
const VARIABLE_UNIT: u128 = 100_000_000_000;
const ONE: u128 = 1 << 64;

/// How the base fee falls from its first value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    Linear,
    Exponential,
}

/// What the base fee follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Falls once in so much time since the pool opened; 0 for never.
    Time { decay: Decay, period: u64 },
    /// Falls with the rise of the root of the price, until it expires.
    Price {
        decay: Decay,
        step_bps: u32,
        duration: u32,
    },
    /// Rises with the size of purchases of token a for a time; what the other figures are does not matter then.
    Limiter { duration: u32, idle: bool },
}

/// The base fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseFee {
    pub cliff: u64,
    pub kind: Base,
    /// The most steps down, and how far each goes.
    pub periods: u16,
    pub reduction: u64,
    pub initial_price: u128,
}

impl BaseFee {
    /// Refuse figures that no working pool has.
    pub fn check(&self) -> Result<(), Refused> {
        let by_price = matches!(self.kind, Base::Price { step_bps, .. } if step_bps == 0 || self.initial_price == 0);
        if by_price || self.cliff > UNIT {
            return refuse("bad_pool", "the base fee of the pool is out of range");
        }
        Ok(())
    }

    /// The rate of a swap that begins at `price`, at a point in time counted as the pool's opening is.
    pub fn rate(
        &self,
        a_to_b: bool,
        opened: u64,
        now: u64,
        price: u128,
    ) -> Result<u64, QuoteError> {
        match self.kind {
            Base::Time { period: 0, .. } => Ok(self.cliff),
            Base::Time { decay, period } => self.after(decay, (now - opened) / period),
            Base::Price {
                decay,
                step_bps,
                duration,
            } => {
                let expires = opened.checked_add(u64::from(duration)).ok_or(OVERFLOW)?;
                let passed = if now > expires {
                    u64::from(self.periods)
                } else if price <= self.initial_price {
                    0
                } else {
                    let risen = wide::mul(price - self.initial_price, u128::from(BASIS_POINTS));
                    let steps = risen / U256::from(self.initial_price) / U256::from(step_bps);
                    u64::try_from(steps).unwrap_or(u64::MAX)
                };
                self.after(decay, passed)
            }
            Base::Limiter { duration, idle } => {
                let until = u128::from(opened) + u128::from(duration);
                if !a_to_b && !idle && u128::from(now) <= until {
                    // Such a swap pays by its size, must be alone in its transaction, and name an account more.
                    return Err(quote_error("rate_limiter_applied"));
                }
                Ok(self.cliff)
            }
        }
    }

    fn after(&self, decay: Decay, passed: u64) -> Result<u64, QuoteError> {
        let passed = passed.min(u64::from(self.periods));
        match decay {
            Decay::Linear => self
                .reduction
                .checked_mul(passed)
                .and_then(|fallen| self.cliff.checked_sub(fallen))
                .ok_or(OVERFLOW),
            Decay::Exponential if self.reduction == 0 => Ok(self.cliff),
            Decay::Exponential => {
                let step = (u128::from(self.reduction) << 64) / u128::from(BASIS_POINTS);
                let base = ONE.checked_sub(step).ok_or(OVERFLOW)?;
                // At most the periods, which have 16 bits.
                let power = wide::power_below_one(base, passed as u32)
                    .filter(|power| *power > 0)
                    .ok_or(OVERFLOW)?;
                // A power of at most one, times 64 bits.
                u64::try_from((power * u128::from(self.cliff)).div_ceil(ONE)).map_err(|_| CAST)
            }
        }
    }
}

/// The part of the fee that follows volatility. Swaps pay by the volatility of those before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dynamic {
    pub max_accumulator: u32,
    pub variable_fee_control: u32,
    pub bin_step: u16,
    pub filter_period: u16,
    pub decay_period: u16,
    pub reduction_factor: u16,
    /// Seconds since the Unix epoch.
    pub updated: u64,
    /// The width of a bin as the root of the price counts it, Q64.64.
    pub bin_step_x64: u128,
    /// Square-root price from which the distance counts.
    pub price_reference: u128,
    pub accumulator: u128,
    pub reference: u128,
}

impl Dynamic {
    /// Refuse figures that no working pool has.
    pub fn check(&self) -> Result<(), Refused> {
        let most = u128::from(u32::MAX);
        if self.bin_step_x64 == 0 || self.accumulator > most || self.reference > most {
            return refuse("bad_pool", "the dynamic fee of the pool is out of range");
        }
        Ok(())
    }

    pub fn rate(&self) -> u128 {
        // 32 and 16 bits, squared, and 32 more.
        let square = (self.accumulator * u128::from(self.bin_step)).pow(2);
        (square * u128::from(self.variable_fee_control)).div_ceil(VARIABLE_UNIT)
    }

    /// As a swap leaves it that moves the root of the price so.
    pub fn after(&self, before: u128, price: u128, now: u64) -> Result<Self, QuoteError> {
        let mut next = *self;
        let elapsed = now.saturating_sub(self.updated);
        if elapsed >= u64::from(self.filter_period) {
            next.price_reference = before;
            next.reference = if elapsed < u64::from(self.decay_period) {
                self.accumulator * u128::from(self.reduction_factor) / u128::from(BASIS_POINTS)
            } else {
                0
            };
        }
        let distance = next.bins_between(price, next.price_reference)?;
        let volatility = distance
            .checked_mul(u128::from(BASIS_POINTS))
            .and_then(|volatility| volatility.checked_add(next.reference))
            .ok_or(OVERFLOW)?;
        next.accumulator = volatility.min(u128::from(self.max_accumulator));
        if self.bins_between(before, price)? > 0 {
            next.updated = now;
        }
        Ok(next)
    }

    fn bins_between(&self, one: u128, other: u128) -> Result<u128, QuoteError> {
        let (lower, upper) = (one.min(other), one.max(other));
        if lower == 0 {
            return Err(OVERFLOW);
        }
        let ratio = (U256::from(upper) << 64) / U256::from(lower);
        let ratio = wide::to_u128(ratio).ok_or(OVERFLOW)?;
        ((ratio - ONE) / self.bin_step_x64)
            .checked_mul(2)
            .ok_or(OVERFLOW)
    }
}

/// The fee within an amount, rounded up. The rate is below one.
pub fn within(amount: u64, rate: u64) -> u64 {
    (u128::from(amount) * u128::from(rate)).div_ceil(u128::from(UNIT)) as u64
}

/// The amount of which `amount` is left after the fee, rounded up. The rate is below one.
pub fn including(amount: u64, rate: u64) -> Result<u64, QuoteError> {
    let gross = (u128::from(amount) * u128::from(UNIT)).div_ceil(u128::from(UNIT - rate));
    u64::try_from(gross).map_err(|_| CAST)
}
