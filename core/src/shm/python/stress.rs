//! Loops in native code that write or inspect one entry as fast as they can. Only the test and the benchmark of torn reads use them:
//! a loop in Python would be too slow to meet a writer in the middle of a record often enough.

use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::super::error::ShmError;
use super::super::table::Quote;
use super::reader::QuoteTable;
use super::writer::QuoteTableWriter;

const ROUND: u64 = 4096;

/// Every field of the changing part says the same number.
fn uniform(number: u64) -> Quote {
    Quote {
        amount_in: number,
        amount_out: number,
        slot: number,
        write_version: number,
        quoted_ns: number.cast_signed(),
        oracle_amount_out: number,
        route: number,
        fee_amount: number,
        factors: number,
        ..Quote::default()
    }
}

fn is_uniform(quote: &Quote) -> bool {
    let number = quote.amount_in;
    [
        quote.amount_out,
        quote.slot,
        quote.write_version,
        quote.route,
        quote.fee_amount,
        quote.oracle_amount_out,
        quote.factors,
    ] == [number; 7]
        && quote.quoted_ns == number.cast_signed()
}

/// Write an entry for some seconds. Returns the number of writes.
#[pyfunction]
pub fn _shm_hammer(
    py: Python<'_>,
    writer: &QuoteTableWriter,
    index: u64,
    seconds: f64,
) -> PyResult<u64> {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut number = 0;
    while Instant::now() < until {
        writer.table().with(py, |table| {
            for _ in 0..ROUND {
                number += 1;
                table.write(index, &uniform(number))?;
            }
            Ok::<_, ShmError>(())
        })?;
        py.check_signals()?;
    }
    Ok(number)
}

/// Read an entry that `_shm_hammer` writes, for some seconds. Returns (whole reads, torn reads, reads given up).
#[pyfunction]
pub fn _shm_inspect(
    py: Python<'_>,
    table: &QuoteTable,
    index: usize,
    seconds: f64,
    protected: bool,
) -> PyResult<(u64, u64, u64)> {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let table = table.table();
    if index >= table.len() {
        return Err(pyo3::exceptions::PyIndexError::new_err(index));
    }
    let (mut whole, mut torn, mut busy) = (0, 0, 0);
    while Instant::now() < until {
        py.detach(|| {
            for _ in 0..ROUND {
                let quote = if protected {
                    table.read(index)
                } else {
                    Some(table.read_unprotected(index))
                };
                match quote {
                    Some(quote) if is_uniform(&quote) => whole += 1,
                    Some(_) => torn += 1,
                    None => busy += 1,
                }
            }
        });
        py.check_signals()?;
    }
    Ok((whole, torn, busy))
}
