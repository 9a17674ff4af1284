//! One step of a CLMM swap: from the current price to a target price at constant liquidity.
//!
//! The formulas are Whirlpool's, the widths are not: this program multiplies in 512 bits, so only results can
//! overflow. Amounts in are rounded up, amounts out down, prices towards the pool.

use ruint::Uint;
use ruint::aliases::U256;

use super::tick_math::{MAX_SQRT_PRICE, MIN_SQRT_PRICE};
use crate::pools::error::{QuoteError, quote_error};
use crate::pools::wide;

/// Fee rates are in millionths.
const FEE_UNIT: u128 = 1_000_000;
const OVERFLOW: QuoteError = quote_error("calculate_overflow");

/// What one step moved.
pub struct Step {
    pub amount_in: u64,
    pub amount_out: u64,
    pub fee_amount: u64,
    pub next_price: u128,
}

/// (value << 64) / denominator, exact at any width, where the result fits in 128 bits.
fn shift_div(value: U256, denominator: U256, round_up: bool) -> Option<u128> {
    if let Some(numerator) = wide::shift_word_left(value) {
        return wide::to_u128(wide::div(numerator, denominator, round_up));
    }
    type U320 = Uint<320, 5>;
    let (numerator, denominator): (U320, U320) = (U320::from(value) << 64, U320::from(denominator));
    let (quotient, remainder) = numerator.div_rem(denominator);
    let rounded = if round_up && !remainder.is_zero() {
        quotient.wrapping_add(U320::ONE)
    } else {
        quotient
    };
    u128::try_from(rounded).ok()
}

/// Amount of token 0 between two prices: L * (upper - lower) / (upper * lower); `None` when no token has so many.
fn delta_0(p: u128, q: u128, liquidity: u128, round_up: bool) -> Option<u64> {
    let product = wide::mul(liquidity, p.abs_diff(q));
    if product.is_zero() {
        return Some(0);
    }
    let amount = shift_div(product, wide::mul(p, q), round_up)?;
    u64::try_from(amount).ok()
}

/// Amount of token 1 between two prices: L * (upper - lower); `None` when no token has so many.
fn delta_1(p: u128, q: u128, liquidity: u128, round_up: bool) -> Option<u64> {
    let product = liquidity.checked_mul(p.abs_diff(q))?;
    let amount = (product >> 64) as u64; // 128 - 64 bits
    if round_up && product & u128::from(u64::MAX) > 0 {
        amount.checked_add(1)
    } else {
        Some(amount)
    }
}

/// The price after `amount` of token 0 came in or went out, rounded up.
fn next_price_from_0(
    price: u128,
    liquidity: u128,
    amount: u64,
    is_input: bool,
) -> Result<u128, QuoteError> {
    // Both below 2^192.
    let whole: U256 = U256::from(liquidity) << 64;
    let product = wide::mul(price, u128::from(amount));
    let denominator = if is_input {
        whole.wrapping_add(product)
    } else if whole <= product {
        return Err(OVERFLOW);
    } else {
        whole.wrapping_sub(product)
    };
    shift_div(wide::mul(liquidity, price), denominator, true).ok_or(OVERFLOW)
}

/// The price after `amount` of token 1 came in or went out, rounded down.
fn next_price_from_1(
    price: u128,
    liquidity: u128,
    amount: u64,
    is_input: bool,
) -> Result<u128, QuoteError> {
    let amount_x64 = u128::from(amount) << 64;
    if is_input {
        price.checked_add(amount_x64 / liquidity)
    } else {
        price.checked_sub(amount_x64.div_ceil(liquidity))
    }
    .ok_or(OVERFLOW)
}

fn next_price(
    price: u128,
    liquidity: u128,
    amount: u64,
    is_input: bool,
    of_0: bool,
) -> Result<u128, QuoteError> {
    if !(MIN_SQRT_PRICE..MAX_SQRT_PRICE).contains(&price) {
        return Err(quote_error("sqrt_price_x64"));
    }
    if liquidity == 0 {
        return Err(quote_error("zero_liquidity"));
    }
    if amount == 0 {
        Ok(price)
    } else if of_0 {
        next_price_from_0(price, liquidity, amount, is_input)
    } else {
        next_price_from_1(price, liquidity, amount, is_input)
    }
}

/// Swap up to `remaining` between `price` and `target`.
pub fn compute(
    remaining: u64,
    fee_rate: u32,
    liquidity: u128,
    price: u128,
    target: u128,
    is_input: bool,
    zero_for_one: bool,
) -> Result<Step, QuoteError> {
    const TOO_MUCH: QuoteError = quote_error("max_token_overflow");
    let fee_rate = u128::from(fee_rate);
    let fixed_is_0 = zero_for_one == is_input;
    let delta = |of_0: bool, to: u128, round_up: bool| {
        if of_0 {
            delta_0(price, to, liquidity, round_up)
        } else {
            delta_1(price, to, liquidity, round_up)
        }
    };
    let usable = if is_input {
        (u128::from(remaining) * (FEE_UNIT - fee_rate) / FEE_UNIT) as u64
    } else {
        remaining
    };
    // More than any token has is more than is left: the target is too far.
    let to_target = delta(fixed_is_0, target, is_input).filter(|amount| *amount <= usable);
    let next = match to_target {
        Some(_) => target,
        None => next_price(price, liquidity, usable, is_input, fixed_is_0)?,
    };
    let past = if zero_for_one {
        next < target
    } else {
        next > target
    };
    if past {
        return Err(quote_error("require_gte_violated"));
    }
    let reached = next == target;
    let fixed = match to_target {
        Some(amount) => amount,
        None => delta(fixed_is_0, next, is_input).ok_or(TOO_MUCH)?,
    };
    let other = delta(!fixed_is_0, next, !is_input).ok_or(TOO_MUCH)?;
    let (amount_in, amount_out) = if is_input {
        (fixed, other)
    } else {
        (other, fixed.min(remaining))
    };
    let fee_amount = if is_input && !reached {
        remaining.checked_sub(amount_in).ok_or(OVERFLOW)?
    } else {
        u64::try_from((u128::from(amount_in) * fee_rate).div_ceil(FEE_UNIT - fee_rate))
            .map_err(|_| OVERFLOW)?
    };
    Ok(Step {
        amount_in,
        amount_out,
        fee_amount,
        next_price: next,
    })
}
