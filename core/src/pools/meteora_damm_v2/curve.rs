//! What a pool trades by: constant liquidity in one range of prices, or two reserves with a constant product.

use ruint::aliases::U256;

use crate::pools::error::{QuoteError, Refused, quote_error, refuse};
use crate::pools::wide;

const OVERFLOW: QuoteError = quote_error("math_overflow");
const CAST: QuoteError = quote_error("type_cast_failed");
/// Square-root prices that the program allows, Q64.64.
const LOWEST: u128 = 4_295_048_016;
const HIGHEST: u128 = 79_226_673_521_066_979_257_578_248_091;
const OUT_OF_RANGE: QuoteError = quote_error("price_range_violation");

/// How a pool trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// Liquidity and square-root prices, Q64.64.
    Range {
        liquidity: u128,
        lowest: u128,
        highest: u128,
    },
    /// Reserves of tokens a and b. A part of the fees goes into them.
    Product { reserves: [u64; 2] },
}

/// One way through the curve, no fees.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub amount_in: u64,
    pub amount_out: u64,
    /// Square-root price after it; of a product the one before, as it follows from the reserves.
    pub price: u128,
}

impl Curve {
    /// Refuse figures that no working pool has.
    pub fn check(&self, price: u128) -> Result<(), Refused> {
        let sound = match self {
            Self::Range {
                lowest, highest, ..
            } => LOWEST <= *lowest && *highest <= HIGHEST && (*lowest..=*highest).contains(&price),
            Self::Product { reserves } => price > 0 && !reserves.contains(&0),
        };
        if sound {
            Ok(())
        } else {
            refuse("bad_pool", "the price of the pool is out of its range")
        }
    }

    /// Give an exact amount.
    pub fn give(&self, price: u128, a_to_b: bool, amount: u64) -> Result<Step, QuoteError> {
        let (amount_out, price) = match *self {
            Self::Product { reserves } => {
                let (x, y) = sides(reserves, a_to_b);
                let total = x.checked_add(amount).ok_or(OVERFLOW)?;
                let out = u128::from(y) * u128::from(amount) / u128::from(total);
                // Less than the reserve.
                (out as u64, price)
            }
            Self::Range { liquidity, .. } => {
                self.check_liquidity()?;
                let next = if a_to_b {
                    after_a(price, liquidity, amount, true)?
                } else {
                    after_b(price, liquidity, amount, true)?
                };
                self.check_reach(next)?;
                let out = if a_to_b {
                    delta_b(next, price, liquidity, false)?
                } else {
                    delta_a(price, next, liquidity, false)?
                };
                (out, next)
            }
        };
        Ok(Step {
            amount_in: amount,
            amount_out,
            price,
        })
    }

    /// Take an exact amount.
    pub fn take(&self, price: u128, a_to_b: bool, amount: u64) -> Result<Step, QuoteError> {
        let (amount_in, price) = match *self {
            Self::Product { reserves } => {
                let (x, y) = sides(reserves, a_to_b);
                let left = y
                    .checked_sub(amount)
                    .filter(|left| *left > 0)
                    .ok_or(OVERFLOW)?;
                let needed = (u128::from(x) * u128::from(amount)).div_ceil(u128::from(left));
                (u64::try_from(needed).map_err(|_| CAST)?, price)
            }
            Self::Range { liquidity, .. } => {
                self.check_liquidity()?;
                let next = if a_to_b {
                    after_b(price, liquidity, amount, false)?
                } else {
                    after_a(price, liquidity, amount, false)?
                };
                self.check_reach(next)?;
                let needed = if a_to_b {
                    delta_a(next, price, liquidity, true)?
                } else {
                    delta_b(price, next, liquidity, true)?
                };
                (needed, next)
            }
        };
        Ok(Step {
            amount_in,
            amount_out: amount,
            price,
        })
    }

    /// What the pool must hold of both tokens.
    pub fn held(&self, price: u128) -> Result<[u64; 2], QuoteError> {
        match *self {
            Self::Product { reserves } => Ok(reserves),
            Self::Range {
                liquidity,
                lowest,
                highest,
            } => Ok([
                delta_a(price, highest, liquidity, false)?,
                delta_b(lowest, price, liquidity, false)?,
            ]),
        }
    }

    fn check_liquidity(&self) -> Result<(), QuoteError> {
        match self {
            Self::Range { liquidity: 0, .. } => Err(quote_error("insufficient_liquidity")),
            _ => Ok(()),
        }
    }

    fn check_reach(&self, price: u128) -> Result<(), QuoteError> {
        match self {
            Self::Range {
                lowest, highest, ..
            } if !(*lowest..=*highest).contains(&price) => Err(OUT_OF_RANGE),
            _ => Ok(()),
        }
    }
}

/// Reserves as (given, taken).
pub fn sides(reserves: [u64; 2], a_to_b: bool) -> (u64, u64) {
    let [a, b] = reserves;
    if a_to_b { (a, b) } else { (b, a) }
}

/// Amount of token a between two roots of prices: L * (upper - lower) / (upper * lower).
fn delta_a(lower: u128, upper: u128, liquidity: u128, round_up: bool) -> Result<u64, QuoteError> {
    let exact = wide::div(
        wide::mul(liquidity, upper - lower),
        wide::mul(lower, upper),
        round_up,
    );
    u64::try_from(exact).map_err(|_| OVERFLOW)
}

/// Amount of token b between two roots of prices: L * (upper - lower).
fn delta_b(lower: u128, upper: u128, liquidity: u128, round_up: bool) -> Result<u64, QuoteError> {
    let exact = wide::div(
        wide::mul(liquidity, upper - lower),
        U256::ONE << 128,
        round_up,
    );
    u64::try_from(exact).map_err(|_| OVERFLOW)
}

/// The root of the price after token a came in or went out, rounded up.
fn after_a(price: u128, liquidity: u128, amount: u64, came: bool) -> Result<u128, QuoteError> {
    if amount == 0 {
        return Ok(price);
    }
    // Below 2^192.
    let moved = wide::mul(price, u128::from(amount));
    let depth = U256::from(liquidity);
    let denominator = if came {
        depth.wrapping_add(moved)
    } else if depth > moved {
        depth.wrapping_sub(moved)
    } else {
        return Err(OVERFLOW);
    };
    let next = wide::div(wide::mul(liquidity, price), denominator, true);
    wide::to_u128(next).ok_or(CAST)
}

/// The root of the price after token b came in or went out, rounded down.
fn after_b(price: u128, liquidity: u128, amount: u64, came: bool) -> Result<u128, QuoteError> {
    let moved = wide::div(U256::from(amount) << 128, U256::from(liquidity), !came);
    let price = U256::from(price);
    if came {
        // Below 2^192 and below 2^128.
        wide::to_u128(price.wrapping_add(moved)).ok_or(CAST)
    } else if price >= moved {
        wide::to_u128(price.wrapping_sub(moved)).ok_or(CAST)
    } else {
        Err(OVERFLOW)
    }
}

/// The root of the price that two reserves stand for, rounded down. The first is not 0.
pub fn root_of(reserves: [u64; 2]) -> u128 {
    let [a, b] = reserves;
    let ratio = (U256::from(b) << 128) / U256::from(a);
    // The ratio has at most 192 bits: 96 steps settle every bit of its root.
    let mut root = 0u128;
    for bit in (0..96).rev() {
        let tried = root | 1 << bit;
        if wide::mul(tried, tried) <= ratio {
            root = tried;
        }
    }
    root
}
