//! The swap loop of a CLMM pool: from initialized tick to initialized tick, as far as the ticks are known.

use super::RaydiumClmm;
use super::dynamic::{Dynamic, Meter};
use super::step;
use super::tick_math::{MAX_SQRT_PRICE, MIN_SQRT_PRICE, tick_of_sqrt_price};
use crate::pools::Order;
use crate::pools::concentrated::{self, cross};
use crate::pools::error::{QuoteError, quote_error, too_small};

/// No transaction has the compute budget for this many.
const MOST_STEPS: u32 = 4_096;
const ADD_FAILS: QuoteError = quote_error("liquidity_add_value_err");
const SUB_FAILS: QuoteError = quote_error("liquidity_sub_value_err");
const OVERFLOW: QuoteError = quote_error("calculate_overflow");

/// What a swap did.
pub type Outcome = concentrated::Outcome<Dynamic>;

/// What else a swap writes into the accounts; followed only when they will be written.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    pub protocol_fee: u64,
    pub fund_fee: u64,
    /// Global fee growth of the token given.
    pub fee_growth: u128,
    /// Initialized ticks crossed, with the fee growth of the token given at the crossing.
    pub crossings: Vec<(i32, u128)>,
}

/// Run an order against a pool.
pub fn run(
    pool: &RaydiumClmm,
    order: Order,
    unix_time: i64,
    mut trace: Option<&mut Trace>,
) -> Result<Outcome, QuoteError> {
    let zero_for_one = order.a_to_b;
    if order.amount == 0 {
        return Err(too_small("zero_amount_specified"));
    }
    let limit = match (order.sqrt_price_limit, zero_for_one) {
        (0, true) => MIN_SQRT_PRICE + 1,
        (0, false) => MAX_SQRT_PRICE - 1,
        (limit, _) => limit,
    };
    let ahead = if zero_for_one {
        limit < pool.sqrt_price && limit > MIN_SQRT_PRICE
    } else {
        limit > pool.sqrt_price && limit < MAX_SQRT_PRICE
    };
    if !ahead {
        return Err(quote_error("sqrt_price_limit_overflow"));
    }
    let mut remaining = order.amount;
    let mut calculated = 0u64;
    let mut fee_amount = 0u64;
    let mut price = pool.sqrt_price;
    let mut tick = pool.tick;
    let mut liquidity = pool.liquidity;
    let mut ticks_crossed = 0;
    let mut steps = 0;
    let mut fee_rate = pool.trade_fee_rate;
    let mut meter = Meter::new(
        fee_rate,
        pool.dynamic,
        pool.tick_spacing,
        tick,
        zero_for_one,
        unix_time,
    );
    // Ticks at or below the current one: the next to the left is the last of them, the next to the right follows.
    let mut below = pool.ticks.partition_point(|entry| entry.index <= tick);

    while remaining > 0 && price != limit {
        // The program steps towards an initialized tick or not at all.
        let (next, edge) = if zero_for_one {
            let next = below.checked_sub(1).and_then(|at| pool.ticks.get(at));
            (next, pool.lower)
        } else {
            (pool.ticks.get(below), pool.upper)
        };
        let Some(next) = next else {
            return Err(quote_error(edge.reason.name()));
        };
        let target = if zero_for_one {
            limit.max(next.sqrt_price)
        } else {
            limit.min(next.sqrt_price)
        };
        // One step with a fixed fee, else one for every stretch of ticks that has a fee of its own.
        loop {
            steps += 1;
            if steps > MOST_STEPS {
                return Err(quote_error("too_many_steps"));
            }
            let (rate, bounded, passing) = meter.next(target, liquidity);
            fee_rate = rate;
            let step = step::compute(
                remaining,
                rate,
                liquidity,
                price,
                bounded,
                order.exact_in,
                zero_for_one,
            )?;
            let paid = step
                .amount_in
                .checked_add(step.fee_amount)
                .ok_or(OVERFLOW)?;
            let (used, gained) = if order.exact_in {
                (paid, step.amount_out)
            } else {
                (step.amount_out, paid)
            };
            remaining = remaining.checked_sub(used).ok_or(OVERFLOW)?;
            calculated = calculated.checked_add(gained).ok_or(OVERFLOW)?;
            fee_amount = fee_amount.checked_add(step.fee_amount).ok_or(OVERFLOW)?;
            if let Some(trace) = trace.as_deref_mut() {
                trace.add_fee(pool, step.fee_amount, liquidity)?;
            }
            let mut stopped_at = tick;
            if step.next_price == next.sqrt_price {
                if next.orders {
                    return Err(quote_error("limit_orders"));
                }
                liquidity = cross(
                    liquidity,
                    next.liquidity_net,
                    zero_for_one,
                    ADD_FAILS,
                    SUB_FAILS,
                )?;
                ticks_crossed += 1;
                if let Some(trace) = trace.as_deref_mut() {
                    trace.crossings.push((next.index, trace.fee_growth));
                }
                if zero_for_one {
                    below -= 1;
                    tick = next.index - 1;
                } else {
                    below += 1;
                    tick = next.index;
                }
                stopped_at = next.index;
            } else if step.next_price != price {
                tick = tick_of_sqrt_price(step.next_price);
                stopped_at = tick;
            }
            price = step.next_price;
            meter.advance(passing, stopped_at);
            if remaining == 0 || price == target {
                break;
            }
        }
    }

    if remaining > 0 && order.sqrt_price_limit == 0 {
        return Err(quote_error("partial_fill_error"));
    }
    let moved = order.amount - remaining;
    let (amount_in, amount_out) = if order.exact_in {
        (moved, calculated)
    } else {
        (calculated, moved)
    };
    if amount_in == 0 || amount_out == 0 {
        return Err(too_small("too_small_input_or_output_amount"));
    }
    Ok(Outcome {
        amount_in,
        amount_out,
        fee_amount,
        sqrt_price: price,
        tick,
        liquidity,
        ticks_crossed,
        fee_rate,
        moving: meter.finish(),
    })
}

impl Trace {
    fn add_fee(&mut self, pool: &RaydiumClmm, fee: u64, liquidity: u128) -> Result<(), QuoteError> {
        // Rates are at most a million together, so neither share is more than the fee.
        let share = |rate: u32| (u128::from(fee) * u128::from(rate) / 1_000_000) as u64;
        let (protocol, fund) = (share(pool.protocol_fee_rate), share(pool.fund_fee_rate));
        let to_positions = fee - protocol - fund;
        self.protocol_fee = self.protocol_fee.checked_add(protocol).ok_or(OVERFLOW)?;
        self.fund_fee = self.fund_fee.checked_add(fund).ok_or(OVERFLOW)?;
        if let Some(growth) = (u128::from(to_positions) << 64).checked_div(liquidity) {
            self.fee_growth = self.fee_growth.wrapping_add(growth);
        }
        Ok(())
    }
}
