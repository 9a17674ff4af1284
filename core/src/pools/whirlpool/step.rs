//! One step of a Whirlpool swap: from the current price to a target price at constant liquidity.
//!
//! Every rounding and every overflow is the program's: amounts in are rounded up, amounts out down, prices towards
//! the pool, and a product that the program could not hold is the same error here.

use ruint::aliases::U256;

use super::tick_math::{MAX_SQRT_PRICE, MIN_SQRT_PRICE};
use crate::pools::error::{QuoteError, quote_error};
use crate::pools::wide::{self, TWO_TO_64};

/// Fee rates are in hundredths of a basis point.
const FEE_UNIT: u128 = 1_000_000;

/// A token amount, or the error that it would be if it were needed: a target too far away is not an error by itself.
type Delta = Result<u64, QuoteError>;

/// What one step moved.
pub struct Step {
    pub amount_in: u64,
    pub amount_out: u64,
    pub fee_amount: u64,
    pub next_price: u128,
}

/// Amount of token A between two prices: L * (upper - lower) / (upper * lower). The outer error is unconditional.
fn delta_a(p: u128, q: u128, liquidity: u128, round_up: bool) -> Result<Delta, QuoteError> {
    let (lower, upper) = (p.min(q), p.max(q));
    let numerator = wide::shift_word_left(wide::mul(liquidity, upper - lower))
        .ok_or(quote_error("multiplication_overflow"))?;
    if numerator.is_zero() {
        return Ok(Ok(0));
    }
    let quotient = wide::div(numerator, wide::mul(upper, lower), round_up);
    Ok(match wide::to_u128(quotient) {
        None => Err(quote_error("number_down_cast_error")),
        Some(amount) => u64::try_from(amount).map_err(|_| quote_error("token_max_exceeded")),
    })
}

/// True when the amount of token A between two prices is above `amount` by more than floats could err. It saves the division where a
/// swap ends before its target, as most do.
fn is_surely_more(p: u128, q: u128, liquidity: u128, amount: u64) -> Result<bool, QuoteError> {
    let (lower, upper) = (p.min(q), p.max(q));
    let scaled = wide::mul(liquidity, upper - lower);
    // The same unconditional error as in `delta_a`.
    wide::shift_word_left(scaled).ok_or(quote_error("multiplication_overflow"))?;
    let between = wide::to_float(scaled) / upper as f64 / lower as f64 * TWO_TO_64;
    Ok(between > (amount as f64 + 2.0) * (1.0 + 1e-9))
}

/// Amount of token B between two prices: L * (upper - lower).
fn delta_b(p: u128, q: u128, liquidity: u128, round_up: bool) -> Delta {
    let product = liquidity
        .checked_mul(p.abs_diff(q))
        .ok_or(quote_error("multiplication_shift_right_overflow"))?;
    let amount = (product >> 64) as u64; // 128 - 64 bits
    if round_up && product & u128::from(u64::MAX) > 0 {
        amount
            .checked_add(1)
            .ok_or(quote_error("multiplication_overflow"))
    } else {
        Ok(amount)
    }
}

/// The price after `amount` of token A came in or went out, rounded up.
fn next_price_from_a(
    price: u128,
    liquidity: u128,
    amount: u64,
    is_input: bool,
) -> Result<u128, QuoteError> {
    if amount == 0 {
        return Ok(price);
    }
    let product = wide::mul(price, u128::from(amount));
    let numerator = wide::shift_word_left(wide::mul(liquidity, price))
        .ok_or(quote_error("multiplication_overflow"))?;
    let liquidity_x64: U256 = U256::from(liquidity) << 64;
    // liquidity << 64 and price * amount are below 2^192 both.
    let denominator = if is_input {
        liquidity_x64.wrapping_add(product)
    } else if liquidity_x64 <= product {
        return Err(quote_error("divide_by_zero"));
    } else {
        liquidity_x64.wrapping_sub(product)
    };
    let next = wide::to_u128(wide::div(numerator, denominator, true))
        .ok_or(quote_error("number_down_cast_error"))?;
    if next < MIN_SQRT_PRICE {
        Err(quote_error("token_min_subceeded"))
    } else if next > MAX_SQRT_PRICE {
        Err(quote_error("token_max_exceeded"))
    } else {
        Ok(next)
    }
}

/// The price after `amount` of token B came in or went out, rounded down.
fn next_price_from_b(
    price: u128,
    liquidity: u128,
    amount: u64,
    is_input: bool,
) -> Result<u128, QuoteError> {
    let amount_x64 = u128::from(amount) << 64;
    if liquidity == 0 {
        return Err(quote_error("divide_by_zero"));
    }
    let moved = if is_input {
        price.checked_add(amount_x64 / liquidity)
    } else {
        price.checked_sub(amount_x64.div_ceil(liquidity))
    };
    moved.ok_or(quote_error("sqrt_price_out_of_bounds"))
}

/// Swap up to `remaining` between `price` and `target`.
pub fn compute(
    remaining: u64,
    fee_rate: u32,
    liquidity: u128,
    price: u128,
    target: u128,
    is_input: bool,
    a_to_b: bool,
) -> Result<Step, QuoteError> {
    let fee_rate = u128::from(fee_rate);
    let fixed_is_a = a_to_b == is_input;
    let fixed = |to: u128| {
        if fixed_is_a {
            delta_a(price, to, liquidity, is_input)
        } else {
            Ok(delta_b(price, to, liquidity, is_input))
        }
    };
    let usable = if is_input {
        (u128::from(remaining) * (FEE_UNIT - fee_rate) / FEE_UNIT) as u64
    } else {
        remaining
    };
    let to_target = if fixed_is_a && is_surely_more(price, target, liquidity, usable)? {
        Err(quote_error("token_max_exceeded"))
    } else {
        fixed(target)?
    };
    let next_price = match to_target {
        Ok(amount) if amount <= usable => target,
        _ if fixed_is_a => next_price_from_a(price, liquidity, usable, is_input)?,
        _ => next_price_from_b(price, liquidity, usable, is_input)?,
    };
    let reached = next_price == target;
    let unfixed = if fixed_is_a {
        delta_b(price, next_price, liquidity, !is_input)?
    } else {
        delta_a(price, next_price, liquidity, !is_input)??
    };
    let fixed_amount = match to_target {
        Ok(amount) if reached => amount,
        _ => fixed(next_price)??,
    };
    let (amount_in, amount_out) = if is_input {
        (fixed_amount, unfixed)
    } else {
        (unfixed, fixed_amount.min(remaining))
    };
    let fee_amount = if is_input && !reached {
        remaining
            .checked_sub(amount_in)
            .ok_or(quote_error("amount_remaining_overflow"))?
    } else {
        u64::try_from((u128::from(amount_in) * fee_rate).div_ceil(FEE_UNIT - fee_rate))
            .map_err(|_| quote_error("number_cast_error"))?
    };
    Ok(Step {
        amount_in,
        amount_out,
        fee_amount,
        next_price,
    })
}
