//! What pools of constant product share.

use ruint::aliases::U256;

use super::Movement;

/// What a swap against these reserves (given, taken) moves where no token charges for its transfer.
pub fn movement(
    a_to_b: bool,
    reserves: (u64, u64),
    amount_in: u64,
    amount_out: u64,
    fee: u64,
) -> Movement {
    let price = |given: u64, taken: u64| {
        let rate = taken as f64 / given as f64;
        if a_to_b { rate } else { rate.recip() }
    };
    let (given, taken) = reserves;
    Movement {
        amount_in,
        amount_out,
        vault_in: amount_in,
        vault_out: amount_out,
        fee_amount: fee,
        price_before: price(given, taken),
        price_after: price(given.saturating_add(amount_in - fee), taken - amount_out),
        sqrt_price_after: 0,
        fee_rate: 0,
        ticks_crossed: 0,
    }
}

/// The marginal rate against these reserves (given, taken), of which the fee leaves `kept` of `whole`.
pub fn marginal_rate(
    reserves: (u64, u64),
    (kept, whole): (u64, u64),
    after: Option<&Movement>,
) -> (U256, U256) {
    let wide = |a: u64, b: u64| U256::from(u128::from(a) * u128::from(b));
    let (given, taken) = match after {
        None => reserves,
        Some(after) => (
            reserves
                .0
                .saturating_add(after.vault_in.saturating_sub(after.fee_amount)),
            reserves.1.saturating_sub(after.vault_out),
        ),
    };
    (wide(taken, kept), wide(given, whole))
}
