//! The swap loop of a Whirlpool: across initialized ticks, through at most three tick arrays, to the limit.

use super::Whirlpool;
use super::adaptive::{Adaptive, Meter};
use super::layout::ARRAY_TICKS;
use super::step;
use super::tick_math::{
    MAX_SQRT_PRICE, MAX_TICK, MIN_SQRT_PRICE, MIN_TICK, sqrt_price_of_tick, tick_of_sqrt_price,
};
use crate::pools::Order;
use crate::pools::concentrated::{self, cross};
use crate::pools::error::{QuoteError, quote_error, too_small};

/// Steps are bounded by the ticks of three arrays where the fee is fixed. Where it moves there may be more of them,
/// but no transaction has the compute budget for this many.
const MOST_STEPS: u32 = 4_096;
const OVERFLOW: QuoteError = quote_error("liquidity_overflow");
const UNDERFLOW: QuoteError = quote_error("liquidity_underflow");

/// What a swap did.
pub type Outcome = concentrated::Outcome<Adaptive>;

/// What else a swap writes into the accounts; followed only when they will be written.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    pub protocol_fee: u64,
    /// Global fee growth of the token given.
    pub fee_growth: u128,
    /// Initialized ticks crossed, with the fee growth of the token given at the crossing.
    pub crossings: Vec<(i32, u128)>,
}

/// The tick arrays that one swap can reach, as the program derives them from the current tick.
struct Sequence {
    last_start: i32,
    span: i32,
    spacing: i32,
    a_to_b: bool,
}

impl Sequence {
    fn of(pool: &Whirlpool, a_to_b: bool) -> Result<Self, QuoteError> {
        let spacing = i32::from(pool.tick_spacing);
        let span = ARRAY_TICKS * spacing;
        let base = pool.tick.div_euclid(span) * span;
        // Moving right from the last slot of an array, the search begins in the next array.
        let shift = i32::from(!a_to_b && pool.tick + spacing >= base + span);
        let step = if a_to_b { -span } else { span };
        let last_start = (0..3)
            .map(|position| base + shift * span + position * step)
            .rfind(|start| start + span > MIN_TICK && *start < MAX_TICK)
            .ok_or(quote_error("invalid_tick_array_sequence"))?;
        Ok(Self {
            last_start,
            span,
            spacing,
            a_to_b,
        })
    }

    fn contains(&self, tick: i32) -> bool {
        if self.a_to_b {
            tick >= self.last_start
        } else {
            tick < self.last_start + self.span
        }
    }

    /// Where the search ends when no initialized tick is left.
    fn end(&self) -> i32 {
        if self.a_to_b {
            self.last_start.max(MIN_TICK)
        } else if self.last_start + self.span > MAX_TICK {
            MAX_TICK
        } else {
            self.last_start + self.span - 1
        }
    }

    /// True when the outermost slot of the last array was passed: no array is left to search.
    fn exhausted_after(&self, tick: i32) -> bool {
        if self.a_to_b {
            tick < self.last_start + self.spacing
        } else {
            tick >= self.last_start + (ARRAY_TICKS - 1) * self.spacing
        }
    }
}

/// Run an order against a pool.
pub fn run(
    pool: &Whirlpool,
    order: Order,
    unix_time: i64,
    mut trace: Option<&mut Trace>,
) -> Result<Outcome, QuoteError> {
    let a_to_b = order.a_to_b;
    let limit = match (order.sqrt_price_limit, a_to_b) {
        (0, true) => MIN_SQRT_PRICE,
        (0, false) => MAX_SQRT_PRICE,
        (limit, _) => limit,
    };
    if !(MIN_SQRT_PRICE..=MAX_SQRT_PRICE).contains(&limit) {
        return Err(quote_error("sqrt_price_out_of_bounds"));
    }
    if (a_to_b && limit > pool.sqrt_price) || (!a_to_b && limit < pool.sqrt_price) {
        return Err(quote_error("invalid_sqrt_price_limit_direction"));
    }
    if order.amount == 0 {
        return Err(too_small("zero_tradable_amount"));
    }
    let sequence = Sequence::of(pool, a_to_b)?;
    let mut remaining = order.amount;
    let mut calculated = 0u64;
    let mut fee_amount = 0u64;
    let mut price = pool.sqrt_price;
    let mut tick = pool.tick;
    let mut liquidity = pool.liquidity;
    let mut ticks_crossed = 0;
    let mut exhausted = false;
    let mut steps = 0;
    let mut meter = Meter::new(
        pool.fee_rate,
        pool.adaptive.as_ref(),
        a_to_b,
        tick,
        unix_time,
    )?;
    let mut fee_rate = u32::from(pool.fee_rate);
    // Ticks at or below the current one: the next to the left is the last of them, the next to the right follows.
    let mut below = pool.ticks.partition_point(|entry| entry.index <= tick);

    while remaining > 0 && price != limit {
        if exhausted {
            return Err(quote_error("tick_array_sequence_invalid_index"));
        }
        let next = if a_to_b {
            below
                .checked_sub(1)
                .and_then(|position| pool.ticks.get(position))
        } else {
            pool.ticks.get(below)
        }
        .filter(|entry| sequence.contains(entry.index));
        let (next_index, next_price) = match next {
            Some(entry) => (entry.index, entry.sqrt_price),
            None => (sequence.end(), sqrt_price_of_tick(sequence.end())),
        };
        let target = if a_to_b {
            limit.max(next_price)
        } else {
            limit.min(next_price)
        };
        // One step with a fixed fee, else one for every group of ticks that has a fee of its own.
        loop {
            steps += 1;
            if steps > MOST_STEPS {
                return Err(quote_error("too_many_steps"));
            }
            fee_rate = meter.rate();
            let (bounded, skipped) = meter.bound(target, liquidity);
            let step = step::compute(
                remaining,
                fee_rate,
                liquidity,
                price,
                bounded,
                order.exact_in,
                a_to_b,
            )?;
            let (used, gained) = if order.exact_in {
                (
                    step.amount_in.checked_add(step.fee_amount),
                    Some(step.amount_out),
                )
            } else {
                (
                    Some(step.amount_out),
                    step.amount_in.checked_add(step.fee_amount),
                )
            };
            remaining = used
                .and_then(|used| remaining.checked_sub(used))
                .ok_or(quote_error("amount_remaining_overflow"))?;
            calculated = gained
                .and_then(|gained| calculated.checked_add(gained))
                .ok_or(quote_error("amount_calc_overflow"))?;
            fee_amount = fee_amount
                .checked_add(step.fee_amount)
                .ok_or(quote_error("amount_calc_overflow"))?;
            if let Some(trace) = trace.as_deref_mut() {
                trace.add_fee(step.fee_amount, pool.protocol_fee_rate, liquidity)?;
            }
            if step.next_price == next_price {
                if let Some(entry) = next {
                    liquidity = cross(liquidity, entry.liquidity_net, a_to_b, OVERFLOW, UNDERFLOW)?;
                    ticks_crossed += 1;
                    if a_to_b {
                        below -= 1;
                    } else {
                        below += 1;
                    }
                    if let Some(trace) = trace.as_deref_mut() {
                        trace.crossings.push((entry.index, trace.fee_growth));
                    }
                }
                exhausted = sequence.exhausted_after(next_index);
                tick = if a_to_b { next_index - 1 } else { next_index };
            } else if step.next_price != price && trace.is_some() {
                // Nothing of a quote depends on it, and it costs as much as a step.
                tick = tick_of_sqrt_price(step.next_price);
            }
            price = step.next_price;
            meter.advance(skipped, price, next_price, next_index);
            if remaining == 0 || price == target {
                break;
            }
        }
    }

    if remaining > 0 && !order.exact_in && order.sqrt_price_limit == 0 {
        return Err(quote_error("partial_fill_error"));
    }
    let moved = order.amount - remaining;
    let (amount_in, amount_out) = if order.exact_in {
        (moved, calculated)
    } else {
        (calculated, moved)
    };
    Ok(Outcome {
        amount_in,
        amount_out,
        fee_amount,
        sqrt_price: price,
        tick,
        liquidity,
        ticks_crossed,
        fee_rate,
        moving: meter.finish(pool.sqrt_price, price),
    })
}

/// What a swap takes until it runs out of tick arrays or of prices.
pub fn capacity(pool: &Whirlpool, a_to_b: bool, unix_time: i64) -> Result<u64, QuoteError> {
    let order = Order {
        a_to_b,
        amount: u64::MAX,
        exact_in: true,
        sqrt_price_limit: sqrt_price_of_tick(Sequence::of(pool, a_to_b)?.end()),
    };
    Ok(run(pool, order, unix_time, None)?.amount_in)
}

impl Trace {
    fn add_fee(
        &mut self,
        fee: u64,
        protocol_fee_rate: u16,
        liquidity: u128,
    ) -> Result<(), QuoteError> {
        let protocol = u64::try_from(u128::from(fee) * u128::from(protocol_fee_rate) / 10_000)
            .map_err(|_| quote_error("number_cast_error"))?;
        let to_positions = fee
            .checked_sub(protocol)
            .ok_or(quote_error("number_cast_error"))?;
        self.protocol_fee = self.protocol_fee.wrapping_add(protocol);
        if let Some(growth) = (u128::from(to_positions) << 64).checked_div(liquidity) {
            self.fee_growth = self.fee_growth.wrapping_add(growth);
        }
        Ok(())
    }
}
