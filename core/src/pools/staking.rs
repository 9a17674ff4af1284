//! What venues between a staked token (a) and SOL (b) share: one price for all amounts, exact input only.

use super::error::{QuoteError, quote_error};
use super::{Movement, Order};

pub const SOL: &str = "So11111111111111111111111111111111111111112";
pub const FAILED: QuoteError = quote_error("calculation_failure");

/// `amount * numerator / denominator`, rounded down. The denominator is not 0.
pub fn scaled(amount: u64, numerator: u64, denominator: u64) -> Result<u64, QuoteError> {
    u64::try_from(u128::from(amount) * u128::from(numerator) / u128::from(denominator))
        .map_err(|_| FAILED)
}

/// Refuse what the programs have no instruction for.
pub fn check(order: Order) -> Result<(), QuoteError> {
    if order.sqrt_price_limit != 0 {
        return Err(quote_error("price_limit_unsupported"));
    }
    if !order.exact_in {
        return Err(quote_error("exact_out_unsupported"));
    }
    Ok(())
}

/// What an order moves that brings so much, at a rate of lamports per unit of the token.
pub fn movement(
    order: Order,
    amount_out: u64,
    fee_amount: u64,
    rate: Option<(u64, u64)>,
) -> Movement {
    let price = rate.map_or(1.0, |(lamports, tokens)| lamports as f64 / tokens as f64);
    Movement {
        amount_in: order.amount,
        amount_out,
        vault_in: order.amount,
        vault_out: amount_out,
        fee_amount,
        price_before: price,
        // Fees may depend on the amount, the price does not.
        price_after: price,
        sqrt_price_after: 0,
        fee_rate: 0,
        ticks_crossed: 0,
    }
}
