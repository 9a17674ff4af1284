//! What a pool's quotes go by, for people and tests.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Pool, Venue};

/// Name the figures of a pool. Rates keep the unit of the program they come from, named in the key.
pub fn describe<'py>(py: Python<'py>, pool: &Pool) -> PyResult<Bound<'py, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("protocol", pool.protocol().name())?;
    match &pool.venue {
        Venue::Whirlpool(pool) => {
            info.set_item("tick_spacing", pool.tick_spacing)?;
            info.set_item("fee_rate_e6", pool.fee_rate)?;
            info.set_item("protocol_fee_rate_bps", pool.protocol_fee_rate)?;
            info.set_item("liquidity", pool.liquidity)?;
            info.set_item("sqrt_price", pool.sqrt_price)?;
            info.set_item("tick", pool.tick)?;
            let ticks: Vec<(i32, i128)> = pool
                .ticks
                .iter()
                .map(|tick| (tick.index, tick.liquidity_net))
                .collect();
            info.set_item("ticks", ticks)?;
            info.set_item("adaptive_fee", pool.adaptive.is_some())?;
        }
        Venue::RaydiumV4(pool) => {
            info.set_item("reserves", pool.reserves(true))?;
            info.set_item("owed", (pool.owed_a, pool.owed_b))?;
            info.set_item("fee_numerator", pool.fee_numerator)?;
            info.set_item("fee_denominator", pool.fee_denominator)?;
        }
        Venue::RaydiumCpmm(pool) => {
            info.set_item("reserves", pool.reserves(true))?;
            info.set_item("owed", (pool.owed[0], pool.owed[1]))?;
            info.set_item("trade_fee_rate_e6", pool.trade_fee_rate)?;
            info.set_item("protocol_fee_rate_e6", pool.protocol_fee_rate)?;
            info.set_item("fund_fee_rate_e6", pool.fund_fee_rate)?;
            info.set_item("creator_fee_rate_e6", pool.creator_fee_rate)?;
            info.set_item("creator_fee_on", pool.creator_fee_on)?;
        }
    }
    let fees = pool
        .transfer_fees()
        .map(|fee| fee.map(|fee| (fee.basis_points, fee.maximum)));
    info.set_item("transfer_fees", (fees[0], fees[1]))?;
    Ok(info)
}
