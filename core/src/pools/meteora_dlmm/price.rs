//! Prices of bins, and amounts at a price, with the program's rounding.

use crate::pools::error::{QuoteError, quote_error};
use crate::pools::wide;

pub const ONE: u128 = 1 << 64;
const OVERFLOW: QuoteError = quote_error("math_overflow");

/// `(1 + bin_step / 10,000) ^ id` in Q64.64, or nothing where the program cannot hold it.
///
/// By squaring, every product cut off. What is squared is the inverse, which is below one and so never overflows; the
/// result of a positive exponent is inverted once more at the end.
pub fn of_bin(id: i32, bin_step: u16) -> Option<u128> {
    if id == 0 {
        return Some(ONE);
    }
    let base = ONE + (u128::from(bin_step) << 64) / 10_000;
    let power = wide::power_below_one(u128::MAX / base, id.unsigned_abs())?;
    match power {
        0 => None,
        _ if id > 0 => Some(u128::MAX / power),
        _ => Some(power),
    }
}

/// `amount * price` before and after the point, where the price has 64 bits after it.
fn times(amount: u64, price: u128) -> (u128, u64) {
    let amount = u128::from(amount);
    let (high, low) = ((price >> 64) * amount, (price & (ONE - 1)) * amount);
    // Both products are below 2^128, and so is their sum: the factors are below 2^64 each.
    (high + (low >> 64), low as u64)
}

/// What must be given to take `amount`, rounded up. The price is not 0.
pub fn given_for(amount: u64, price: u128, a_to_b: bool) -> Result<u64, QuoteError> {
    let exact = if a_to_b {
        (u128::from(amount) << 64).div_ceil(price)
    } else {
        let (whole, rest) = times(amount, price);
        whole + u128::from(rest > 0)
    };
    u64::try_from(exact).map_err(|_| OVERFLOW)
}

/// What is taken for `amount`, rounded down. The price is not 0.
pub fn taken_for(amount: u64, price: u128, a_to_b: bool) -> Result<u64, QuoteError> {
    let exact = if a_to_b {
        times(amount, price).0
    } else {
        (u128::from(amount) << 64) / price
    };
    u64::try_from(exact).map_err(|_| OVERFLOW)
}

/// Units of token b per unit of token a. For comparing and reporting only.
pub fn to_float(price: u128) -> f64 {
    price as f64 / ONE as f64
}
