//! Grids: what a pool gives for every amount of a list, in both directions, from one state of it.
//!
//! The pool's own `quote` decides every amount; this module only asks it in the right order.

pub mod python;

use crate::pools::{Order, Pool};

/// One quote of a grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub a_to_b: bool,
    /// Which of the grid's amounts.
    pub index: u32,
    pub amount_in: u64,
    /// 0 where the pool cannot give it, or would take only a part of the amount.
    pub amount_out: u64,
    pub fee_amount: u64,
    pub price_impact_bps: f64,
}

/// Quote every amount, a to b first, then b to a.
pub fn grid(pool: &Pool, amounts: &[u64]) -> Vec<Row> {
    let mut rows = Vec::with_capacity(2 * amounts.len());
    for a_to_b in [true, false] {
        for (index, &amount_in) in (0..).zip(amounts) {
            rows.push(row(pool, a_to_b, index, amount_in));
        }
    }
    rows
}

fn row(pool: &Pool, a_to_b: bool, index: u32, amount_in: u64) -> Row {
    let order = Order {
        a_to_b,
        amount: amount_in,
        exact_in: true,
        sqrt_price_limit: 0,
    };
    let void = Row {
        a_to_b,
        index,
        amount_in,
        amount_out: 0,
        fee_amount: 0,
        price_impact_bps: 0.0,
    };
    match pool.quote(order) {
        Ok(moved) if moved.amount_in == amount_in && moved.amount_out > 0 => Row {
            amount_out: moved.amount_out,
            fee_amount: moved.fee_amount,
            price_impact_bps: moved.price_impact_bps(),
            ..void
        },
        _ => void,
    }
}
