//! Fees that move with volatility: the part of a Whirlpool that stands in its oracle account.
//!
//! Ticks come in groups. The farther a swap's group is from a reference group, the higher its fee; the reference follows
//! the price as time passes without large swaps. A swap is stepped group by group, except where the fee cannot change.

use super::layout::oracle;
use super::tick_math::{MAX_TICK, MIN_TICK, sqrt_price_of_tick, tick_of_sqrt_price};
use crate::pools::account::{Pubkey, i32_at, key_at, put, u16_at, u32_at, u64_at};
use crate::pools::error::{QuoteError, Refused, quote_error, refuse};
use crate::pools::wide;

/// One tick group away from the reference, in units of the accumulator.
const GROUP: u64 = 10_000;
const REDUCTION_WHOLE: u64 = 10_000;
const CONTROL_WHOLE: u128 = 100_000;
/// A reference older than this many seconds is given up whatever the swaps.
const MAX_REFERENCE_AGE_S: u64 = 3_600;
/// 10 %: no swap pays more.
const HIGHEST_RATE: u32 = 100_000;

/// What an oracle account says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    pub filter_period: u16,
    pub decay_period: u16,
    pub reduction_factor: u16,
    pub control_factor: u32,
    pub max_accumulator: u32,
    pub group_ticks: u16,
    pub major_swap_ticks: u16,
    pub reference_updated: u64,
    pub last_major_swap: u64,
    pub volatility_reference: u32,
    pub group_reference: i32,
    pub accumulator: u32,
}

impl Adaptive {
    /// Read the oracle of a pool.
    pub fn parse(data: &[u8], pool: Pubkey, unix_time: i64) -> Result<Self, Refused> {
        if data.len() != oracle::LENGTH {
            return refuse(
                "short_data",
                format!(
                    "an oracle has {} bytes, this one {}",
                    oracle::LENGTH,
                    data.len()
                ),
            );
        }
        if key_at(data, oracle::WHIRLPOOL)? != pool {
            return refuse("foreign_account", "the oracle belongs to another pool");
        }
        let open = u64_at(data, oracle::TRADE_ENABLED)?;
        if u64::try_from(unix_time).unwrap_or(0) < open {
            return refuse("not_open", format!("the pool opens at {open}"));
        }
        let this = Self {
            filter_period: u16_at(data, oracle::FILTER_PERIOD)?,
            decay_period: u16_at(data, oracle::DECAY_PERIOD)?,
            reduction_factor: u16_at(data, oracle::REDUCTION_FACTOR)?,
            control_factor: u32_at(data, oracle::CONTROL_FACTOR)?,
            max_accumulator: u32_at(data, oracle::MAX_ACCUMULATOR)?,
            group_ticks: u16_at(data, oracle::GROUP_TICKS)?,
            major_swap_ticks: u16_at(data, oracle::MAJOR_SWAP_TICKS)?,
            reference_updated: u64_at(data, oracle::REFERENCE_UPDATED)?,
            last_major_swap: u64_at(data, oracle::LAST_MAJOR_SWAP)?,
            volatility_reference: u32_at(data, oracle::VOLATILITY_REFERENCE)?,
            group_reference: i32_at(data, oracle::GROUP_REFERENCE)?,
            accumulator: u32_at(data, oracle::ACCUMULATOR)?,
        };
        this.check()?;
        Ok(this)
    }

    /// Refuse figures that no working pool has.
    pub fn check(&self) -> Result<(), Refused> {
        let groups = i64::from(self.group_reference).abs() * i64::from(self.group_ticks);
        let sound = self.group_ticks > 0
            && u64::from(self.reduction_factor) < REDUCTION_WHOLE
            && u128::from(self.control_factor) < CONTROL_WHOLE
            && self.volatility_reference <= self.max_accumulator
            && self.accumulator <= self.max_accumulator
            && u64::from(self.max_accumulator) * u64::from(self.group_ticks) <= u64::from(u32::MAX)
            && groups <= 2 * i64::from(MAX_TICK);
        if sound {
            Ok(())
        } else {
            refuse("bad_pool", "the oracle's figures are out of range")
        }
    }

    /// Write what a swap changed.
    pub fn write(&self, data: &mut [u8]) {
        put(
            data,
            oracle::REFERENCE_UPDATED,
            &self.reference_updated.to_le_bytes(),
        );
        put(
            data,
            oracle::LAST_MAJOR_SWAP,
            &self.last_major_swap.to_le_bytes(),
        );
        put(
            data,
            oracle::VOLATILITY_REFERENCE,
            &self.volatility_reference.to_le_bytes(),
        );
        put(
            data,
            oracle::GROUP_REFERENCE,
            &self.group_reference.to_le_bytes(),
        );
        put(data, oracle::ACCUMULATOR, &self.accumulator.to_le_bytes());
    }

    /// Let the reference follow the time that passed.
    fn age(&mut self, group: i32, now: u64) -> Result<(), QuoteError> {
        let last = self.reference_updated.max(self.last_major_swap);
        let elapsed = now
            .checked_sub(last)
            .ok_or(quote_error("invalid_timestamp"))?;
        let reference = if now - self.reference_updated > MAX_REFERENCE_AGE_S {
            0
        } else if elapsed < u64::from(self.filter_period) {
            return Ok(());
        } else if elapsed < u64::from(self.decay_period) {
            // The factor is below one.
            (u64::from(self.accumulator) * u64::from(self.reduction_factor) / REDUCTION_WHOLE)
                as u32
        } else {
            0
        };
        self.group_reference = group;
        self.volatility_reference = reference;
        self.reference_updated = now;
        Ok(())
    }

    fn accumulate(&mut self, group: i32) {
        let distance = u64::from(group.abs_diff(self.group_reference));
        let volatility = u64::from(self.volatility_reference) + distance * GROUP;
        self.accumulator = u32::try_from(volatility).map_or(self.max_accumulator, |value| {
            value.min(self.max_accumulator)
        });
    }

    fn rate(&self, base: u16) -> u32 {
        let crossed = u128::from(self.accumulator) * u128::from(self.group_ticks);
        let unit = CONTROL_WHOLE * u128::from(GROUP) * u128::from(GROUP);
        let moving = (u128::from(self.control_factor) * crossed * crossed).div_ceil(unit);
        let total = moving.saturating_add(u128::from(base));
        u32::try_from(total).map_or(HIGHEST_RATE, |rate| rate.min(HIGHEST_RATE))
    }

    fn note_major_swap(&mut self, before: u128, after: u128, now: u64) {
        let factor = sqrt_price_of_tick(i32::from(self.major_swap_ticks));
        let far = wide::mul(before.min(after), factor) >> 64;
        if ruint::aliases::U256::from(before.max(after)) >= far {
            self.last_major_swap = now;
        }
    }
}

/// The fee of a swap under way.
pub enum Meter {
    Fixed(u32),
    Moving(Box<Moving>),
}

pub struct Moving {
    state: Adaptive,
    base: u16,
    a_to_b: bool,
    now: u64,
    group: i32,
    /// Groups beyond these pay the highest fee whatever the price: (group, price of its outer edge).
    lowest: Option<(i32, u128)>,
    highest: Option<(i32, u128)>,
}

impl Meter {
    /// Begin a swap at `tick`.
    pub fn new(
        base: u16,
        adaptive: Option<&Adaptive>,
        a_to_b: bool,
        tick: i32,
        unix_time: i64,
    ) -> Result<Self, QuoteError> {
        let Some(adaptive) = adaptive else {
            return Ok(Self::Fixed(u32::from(base)));
        };
        let mut state = *adaptive;
        let ticks = i32::from(state.group_ticks);
        let now = u64::try_from(unix_time).unwrap_or(0);
        let group = tick.div_euclid(ticks);
        state.age(group, now)?;
        let reach = u64::from(
            state
                .max_accumulator
                .saturating_sub(state.volatility_reference),
        )
        .div_ceil(GROUP);
        let edge = |group: i64, side: i64| {
            let tick = (group + side) * i64::from(ticks);
            let inside = i64::from(MIN_TICK) < tick && tick < i64::from(MAX_TICK);
            // Inside the range of ticks both fit.
            inside.then(|| (group as i32, sqrt_price_of_tick(tick as i32)))
        };
        let (reference, reach) = (i64::from(state.group_reference), reach as i64);
        Ok(Self::Moving(Box::new(Moving {
            lowest: edge(reference - reach, 0),
            highest: edge(reference + reach, 1),
            state,
            base,
            a_to_b,
            now,
            group,
        })))
    }

    /// The fee rate of the next step.
    pub fn rate(&mut self) -> u32 {
        match self {
            Self::Fixed(rate) => *rate,
            Self::Moving(moving) => {
                moving.state.accumulate(moving.group);
                moving.state.rate(moving.base)
            }
        }
    }

    /// How far the next step may go at one fee, and whether it passes over several groups.
    pub fn bound(&self, target: u128, liquidity: u128) -> (u128, bool) {
        match self {
            Self::Fixed(_) => (target, false),
            Self::Moving(moving) => moving.bound(target, liquidity),
        }
    }

    /// Move on after a step.
    pub fn advance(&mut self, skipped: bool, price: u128, next_price: u128, next_tick: i32) {
        if let Self::Moving(moving) = self {
            moving.advance(skipped, price, next_price, next_tick);
        }
    }

    /// The oracle's state after the swap.
    pub fn finish(self, before: u128, after: u128) -> Option<Adaptive> {
        match self {
            Self::Fixed(_) => None,
            Self::Moving(mut moving) => {
                moving.state.note_major_swap(before, after, moving.now);
                Some(moving.state)
            }
        }
    }
}

impl Moving {
    fn bound(&self, target: u128, liquidity: u128) -> (u128, bool) {
        if self.state.control_factor == 0 || liquidity == 0 {
            return (target, true);
        }
        // Outside the groups where the fee can change: on and away at once, or back to their edge at once.
        if let Some((lowest, edge)) = self.lowest
            && self.group < lowest
        {
            return (
                if self.a_to_b {
                    target
                } else {
                    target.min(edge)
                },
                true,
            );
        }
        if let Some((highest, edge)) = self.highest
            && self.group > highest
        {
            return (
                if self.a_to_b {
                    target.max(edge)
                } else {
                    target
                },
                true,
            );
        }
        let ticks = i32::from(self.state.group_ticks);
        let far_side = self.group + i32::from(!self.a_to_b);
        let edge = sqrt_price_of_tick((far_side * ticks).clamp(MIN_TICK, MAX_TICK));
        (
            if self.a_to_b {
                target.max(edge)
            } else {
                target.min(edge)
            },
            false,
        )
    }

    fn advance(&mut self, skipped: bool, price: u128, next_price: u128, next_tick: i32) {
        if skipped {
            let ticks = i32::from(self.state.group_ticks);
            let (tick, on_edge) = if price == next_price {
                (next_tick, next_tick % ticks == 0)
            } else {
                let tick = tick_of_sqrt_price(price);
                (tick, tick % ticks == 0 && price == sqrt_price_of_tick(tick))
            };
            // On an edge, a swap to the right has passed the group to the left of it.
            let passed = tick.div_euclid(ticks) - i32::from(on_edge && !self.a_to_b);
            let moved_on = if self.a_to_b {
                passed < self.group
            } else {
                passed > self.group
            };
            if moved_on {
                self.group = passed;
                self.state.accumulate(passed);
            }
        }
        self.group += if self.a_to_b { -1 } else { 1 };
    }
}
