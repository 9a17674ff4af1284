//! Prices of bins, and amounts at a price, with the program's rounding.

use ruint::aliases::U256;

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

/// What must be given to take `amount`, rounded up. The price is not 0.
pub fn given_for(amount: u64, price: u128, a_to_b: bool) -> Result<u64, QuoteError> {
    let amount = u128::from(amount);
    let exact = if a_to_b {
        wide::div(U256::from(amount) << 64, U256::from(price), true)
    } else {
        wide::div(wide::mul(amount, price), U256::from(ONE), true)
    };
    u64::try_from(exact).map_err(|_| OVERFLOW)
}

/// What is taken for `amount`, rounded down. The price is not 0.
pub fn taken_for(amount: u64, price: u128, a_to_b: bool) -> Result<u64, QuoteError> {
    let amount = u128::from(amount);
    let exact = if a_to_b {
        wide::mul(amount, price) >> 64
    } else {
        U256::from((amount << 64) / price)
    };
    u64::try_from(exact).map_err(|_| OVERFLOW)
}

/// Units of token b per unit of token a. For comparing and reporting only.
pub fn to_float(price: u128) -> f64 {
    price as f64 / ONE as f64
}
