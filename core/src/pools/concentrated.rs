//! What pools share whose liquidity stands between ticks and whose price is a square root in Q64.64.

use ruint::aliases::U256;

use super::error::QuoteError;
use super::token::TransferFee;
use super::{Movement, Order, wide};

/// What a venue's own swap did; `F` is what it keeps of a fee that moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<F> {
    pub amount_in: u64,
    pub amount_out: u64,
    pub fee_amount: u64,
    pub sqrt_price: u128,
    pub tick: i32,
    pub liquidity: u128,
    pub ticks_crossed: u32,
    /// Fee rate of the last step.
    pub fee_rate: u32,
    pub moving: Option<F>,
}

/// Run an order with the transfer fees of tokens a and b around it, from this square-root price.
pub fn execute<F>(
    order: Order,
    [a, b]: [Option<TransferFee>; 2],
    sqrt_price: u128,
    run: impl FnOnce(Order) -> Result<Outcome<F>, QuoteError>,
) -> Result<(Movement, Outcome<F>), QuoteError> {
    let (fee_in, fee_out) = if order.a_to_b { (a, b) } else { (b, a) };
    let inner = Order {
        amount: match (order.exact_in, fee_in, fee_out) {
            (true, Some(fee), _) => fee.after(order.amount),
            (false, _, Some(fee)) => fee.before(order.amount)?,
            _ => order.amount,
        },
        ..order
    };
    let outcome = run(inner)?;
    let amount_in = match fee_in {
        // The whole order was used: what the payer sends is what was asked, not a value computed back.
        Some(_) if order.exact_in && outcome.amount_in == inner.amount => order.amount,
        Some(fee) => fee.before(outcome.amount_in)?,
        None => outcome.amount_in,
    };
    let movement = Movement {
        amount_in,
        amount_out: fee_out.map_or(outcome.amount_out, |fee| fee.after(outcome.amount_out)),
        vault_in: outcome.amount_in,
        vault_out: outcome.amount_out,
        fee_amount: outcome.fee_amount,
        price_before: price_of(sqrt_price),
        price_after: price_of(outcome.sqrt_price),
        sqrt_price_after: outcome.sqrt_price,
        fee_rate: outcome.fee_rate,
        ticks_crossed: outcome.ticks_crossed,
    };
    Ok((movement, outcome))
}

/// The marginal rate after the pool's fee, in millionths. The parts are below 2^214.
pub fn marginal_rate(a_to_b: bool, sqrt_price: u128, fee_rate: u32) -> (U256, U256) {
    let square = wide::mul(sqrt_price, sqrt_price);
    let one = U256::ONE << 128;
    let (taken, given) = if a_to_b { (square, one) } else { (one, square) };
    let kept = 1_000_000 - fee_rate;
    (taken * U256::from(kept), given * U256::from(1_000_000))
}

/// Liquidity on the far side of a tick, or the one of the two names that fits the failure.
///
/// There are real pools whose ticks take away more than they have: a swap that would cross such a tick fails on chain.
pub fn cross(
    liquidity: u128,
    net: i128,
    a_to_b: bool,
    overflow: QuoteError,
    underflow: QuoteError,
) -> Result<u128, QuoteError> {
    let magnitude = net.unsigned_abs();
    if (net < 0) == a_to_b {
        liquidity.checked_add(magnitude).ok_or(overflow)
    } else {
        liquidity.checked_sub(magnitude).ok_or(underflow)
    }
}

/// Units of token b per unit of token a. For comparing and reporting only.
fn price_of(sqrt_price: u128) -> f64 {
    let root = sqrt_price as f64 / 18_446_744_073_709_551_616.0;
    root * root
}
