//! Fees that move with volatility: the farther a swap goes from where the price was, in units of the tick spacing, the
//! more it pays; the reference follows the price as time passes.
//!
//! Source: raydium-io/raydium-clmm, programs/amm/src/states/pool_fee.rs and instructions/swap.rs.

use super::layout::{dynamic, pool};
use super::tick_math::{MAX_TICK, MIN_TICK, sqrt_price_of_tick};
use crate::pools::account::{i32_at, put, u16_at, u32_at, u64_at};
use crate::pools::error::{Refused, refuse};
use crate::pools::snapshot::{Reader, Writer};

/// One tick spacing away from the reference, in units of the accumulator.
const SCALE: u64 = 10_000;
const REDUCTION_WHOLE: u64 = 10_000;
/// What the square of the accumulator times the control is divided by.
const WHOLE: u128 = 100_000 * 10_000 * 10_000;
/// 10 %: no swap pays more.
const HIGHEST_RATE: u32 = 100_000;

/// What a pool says of its moving fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dynamic {
    pub filter_period: u16,
    pub decay_period: u16,
    pub reduction_factor: u16,
    pub control: u32,
    pub max_accumulator: u32,
    pub reference: i32,
    pub volatility_reference: u32,
    pub accumulator: u32,
    pub updated: u64,
}

impl Dynamic {
    /// Read it from a pool account; a pool without it has zeroes there.
    pub fn parse(data: &[u8]) -> Result<Option<Self>, Refused> {
        let at = |offset| pool::DYNAMIC_FEE + offset;
        let whole = data.get(at(0)..at(dynamic::LENGTH)).unwrap_or_default();
        if whole.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        Ok(Some(Self {
            filter_period: u16_at(data, at(dynamic::FILTER_PERIOD))?,
            decay_period: u16_at(data, at(dynamic::DECAY_PERIOD))?,
            reduction_factor: u16_at(data, at(dynamic::REDUCTION_FACTOR))?,
            control: u32_at(data, at(dynamic::CONTROL))?,
            max_accumulator: u32_at(data, at(dynamic::MAX_ACCUMULATOR))?,
            reference: i32_at(data, at(dynamic::REFERENCE))?,
            volatility_reference: u32_at(data, at(dynamic::VOLATILITY_REFERENCE))?,
            accumulator: u32_at(data, at(dynamic::ACCUMULATOR))?,
            updated: u64_at(data, at(dynamic::UPDATED))?,
        }))
    }

    /// Write what a swap changes.
    pub fn patch(&self, data: &mut [u8]) {
        let mut write = |offset, bytes: &[u8]| put(data, pool::DYNAMIC_FEE + offset, bytes);
        write(dynamic::REFERENCE, &self.reference.to_le_bytes());
        write(
            dynamic::VOLATILITY_REFERENCE,
            &self.volatility_reference.to_le_bytes(),
        );
        write(dynamic::ACCUMULATOR, &self.accumulator.to_le_bytes());
        write(dynamic::UPDATED, &self.updated.to_le_bytes());
    }

    pub fn write(&self, out: &mut Writer) {
        out.u16(self.filter_period)
            .u16(self.decay_period)
            .u16(self.reduction_factor)
            .u32(self.control)
            .u32(self.max_accumulator)
            .i32(self.reference)
            .u32(self.volatility_reference)
            .u32(self.accumulator)
            .u64(self.updated);
    }

    pub fn read(input: &mut Reader<'_>) -> Result<Self, Refused> {
        Ok(Self {
            filter_period: input.u16()?,
            decay_period: input.u16()?,
            reduction_factor: input.u16()?,
            control: input.u32()?,
            max_accumulator: input.u32()?,
            reference: input.i32()?,
            volatility_reference: input.u32()?,
            accumulator: input.u32()?,
            updated: input.u64()?,
        })
    }

    /// Refuse figures with which the program could not compute a fee.
    pub fn check(&self, tick_spacing: u16) -> Result<(), Refused> {
        let widest = u64::from(self.max_accumulator) * u64::from(tick_spacing);
        if widest > u64::from(u32::MAX)
            || u64::from(self.reduction_factor) >= REDUCTION_WHOLE
            || !(MIN_TICK..=MAX_TICK).contains(&self.reference)
        {
            return refuse(
                "bad_pool",
                "the figures of the dynamic fee are out of range",
            );
        }
        Ok(())
    }

    fn follow(&mut self, group: i32, now: u64) {
        let age = now.saturating_sub(self.updated);
        if age < u64::from(self.filter_period) {
            return;
        }
        self.volatility_reference = if age < u64::from(self.decay_period) {
            // The factor is below the whole.
            (u64::from(self.accumulator) * u64::from(self.reduction_factor) / REDUCTION_WHOLE)
                as u32
        } else {
            0
        };
        self.reference = group;
        self.updated = now;
    }

    fn accumulate(&mut self, group: i32) {
        let distance = u64::from(self.reference.abs_diff(group));
        let reached = u64::from(self.volatility_reference) + distance * SCALE;
        self.accumulator = reached.min(u64::from(self.max_accumulator)) as u32;
    }

    fn rate(&self, base: u32, tick_spacing: u16) -> u32 {
        // The accumulator is at most its maximum, which was checked to fit; squared and times the control it does too.
        let crossed = u128::from(self.accumulator) * u128::from(tick_spacing);
        let moving = (u128::from(self.control) * crossed * crossed).div_ceil(WHOLE);
        let moving = moving.min(u128::from(HIGHEST_RATE)) as u32;
        base.saturating_add(moving).min(HIGHEST_RATE)
    }
}

/// The fee along one swap. A group is a stretch of one tick spacing.
pub struct Meter {
    base: u32,
    moving: Option<Dynamic>,
    tick_spacing: u16,
    group: i32,
    zero_for_one: bool,
}

impl Meter {
    pub fn new(
        base: u32,
        mut moving: Option<Dynamic>,
        tick_spacing: u16,
        tick: i32,
        zero_for_one: bool,
        unix_time: i64,
    ) -> Self {
        let group = tick.div_euclid(i32::from(tick_spacing));
        if let Some(moving) = &mut moving {
            // The program reads the clock into 32 bits.
            moving.follow(group, u64::from(unix_time as u32));
        }
        Self {
            base,
            moving,
            tick_spacing,
            group,
            zero_for_one,
        }
    }

    /// The rate of the next step, where it must end, and whether it may pass groups.
    pub fn next(&mut self, target: u128, liquidity: u128) -> (u32, u128, bool) {
        let Some(moving) = &mut self.moving else {
            return (self.base, target, true);
        };
        moving.accumulate(self.group);
        let rate = moving.rate(self.base, self.tick_spacing);
        if liquidity == 0 || moving.accumulator == moving.max_accumulator {
            return (rate, target, true);
        }
        let far_side = self.group + i32::from(!self.zero_for_one);
        let edge = (far_side * i32::from(self.tick_spacing)).clamp(MIN_TICK, MAX_TICK);
        let edge = sqrt_price_of_tick(edge);
        let bounded = if self.zero_for_one {
            target.max(edge)
        } else {
            target.min(edge)
        };
        (rate, bounded, false)
    }

    /// Go on to the next group after a step that ended at this tick.
    pub fn advance(&mut self, passed: bool, tick: i32) {
        let Some(moving) = &mut self.moving else {
            return;
        };
        if passed {
            let spacing = i32::from(self.tick_spacing);
            let on_edge = !self.zero_for_one && tick % spacing == 0;
            self.group = tick.div_euclid(spacing) - i32::from(on_edge);
            if moving.accumulator != moving.max_accumulator {
                moving.accumulate(self.group);
            }
        }
        self.group += if self.zero_for_one { -1 } else { 1 };
    }

    /// What the pool says after the swap.
    pub fn finish(self) -> Option<Dynamic> {
        self.moving
    }
}
