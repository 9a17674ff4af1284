//! The fee of a bin: a base, and a part that grows with the bins a swap has come from where trading was calm.

use crate::pools::error::{QuoteError, Refused, quote_error, refuse};

const OVERFLOW: QuoteError = quote_error("math_overflow");
/// Fee rates are billionths.
pub const UNIT: u128 = 1_000_000_000;
const HIGHEST_RATE: u128 = 100_000_000;
const BASIS_POINTS: u64 = 10_000;
const VARIABLE_UNIT: u128 = 100_000_000_000;
/// Share of the fees on limit orders that those who placed them get, basis points.
const ORDER_SHARE: u128 = 5_000;
/// No power that is used comes near; above it the base rate would need more bits.
const HIGHEST_POWER: u8 = 18;

/// What does not change with swaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    pub base_factor: u16,
    pub base_fee_power: u8,
    pub filter_period: u16,
    pub decay_period: u16,
    /// Basis points of the accumulator that outlive the filter period.
    pub reduction_factor: u16,
    pub variable_fee_control: u32,
    pub max_accumulator: u32,
    /// Basis points of the fee.
    pub protocol_share: u16,
}

impl Parameters {
    /// Refuse figures that no working pool has.
    pub fn check(&self) -> Result<(), Refused> {
        let sound = self.base_fee_power <= HIGHEST_POWER
            && u64::from(self.reduction_factor) <= BASIS_POINTS
            && u64::from(self.protocol_share) <= BASIS_POINTS;
        if sound {
            Ok(())
        } else {
            refuse("bad_pool", "the fees of the pool are out of range")
        }
    }

    /// The fee rate that never falls.
    pub fn base_rate(&self, bin_step: u16) -> u128 {
        // Below 2^32, times at most 10^19.
        let factor = u128::from(self.base_factor) * u128::from(bin_step);
        factor * 10u128.pow(u32::from(self.base_fee_power) + 1)
    }

    /// The whole fee rate at an accumulated volatility.
    pub fn rate(&self, bin_step: u16, accumulator: u32) -> u128 {
        // 32 and 16 bits, squared, and 32 more.
        let square = (u128::from(accumulator) * u128::from(bin_step)).pow(2);
        let variable = (square * u128::from(self.variable_fee_control)).div_ceil(VARIABLE_UNIT);
        (self.base_rate(bin_step) + variable).min(HIGHEST_RATE)
    }
}

/// What swaps leave behind for the fees of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volatility {
    pub accumulator: u32,
    pub reference: u32,
    /// The bin from which the distance counts.
    pub index_reference: i32,
    /// Seconds since the Unix epoch.
    pub updated: i64,
}

impl Volatility {
    /// As a swap that begins now finds it.
    pub fn begin(
        &self,
        parameters: &Parameters,
        active: i32,
        now: i64,
    ) -> Result<Self, QuoteError> {
        let elapsed = now.checked_sub(self.updated).ok_or(OVERFLOW)?;
        let mut next = *self;
        if elapsed >= i64::from(parameters.filter_period) {
            next.index_reference = active;
            next.reference = if elapsed < i64::from(parameters.decay_period) {
                let reduced = self
                    .accumulator
                    .checked_mul(u32::from(parameters.reduction_factor));
                reduced.ok_or(OVERFLOW)? / BASIS_POINTS as u32
            } else {
                0
            };
        }
        next.updated = now;
        Ok(next)
    }

    /// The accumulator in a bin of a swap under way.
    pub fn at(&self, parameters: &Parameters, bin: i32) -> u32 {
        let distance = u64::from(bin.abs_diff(self.index_reference));
        let volatility = u64::from(self.reference) + distance * BASIS_POINTS;
        u32::try_from(volatility).map_or(parameters.max_accumulator, |value| {
            value.min(parameters.max_accumulator)
        })
    }
}

/// The fee within an amount, rounded up.
pub fn within(amount: u64, rate: u128) -> u64 {
    // The rate is at most a tenth.
    (u128::from(amount) * rate).div_ceil(UNIT) as u64
}

/// The fee to add to an amount, rounded up.
pub fn on_top(amount: u64, rate: u128) -> Result<u64, QuoteError> {
    let fee = (u128::from(amount) * rate).div_ceil(UNIT - rate);
    u64::try_from(fee).map_err(|_| OVERFLOW)
}

/// The protocol's part of a fee, of which `liquidity` of `total` given went to providers and the rest to limit orders.
pub fn protocol_part(parameters: &Parameters, fee: u64, liquidity: u64, total: u64) -> u64 {
    if total == 0 {
        return 0;
    }
    let whole = u128::from(BASIS_POINTS);
    let fee = u128::from(fee);
    let of_liquidity = (fee * u128::from(liquidity)).div_ceil(u128::from(total));
    let of_orders = fee - of_liquidity;
    let kept = of_orders - of_orders * ORDER_SHARE / whole;
    // Both parts together are at most the fee.
    (kept + of_liquidity * u128::from(parameters.protocol_share) / whole) as u64
}
