use pyo3::prelude::*;

use super::super::directory::Kind;
use super::super::table::{Plan, Quote, TableWriter};
use super::PathArgument;

#[pyclass(module = "pipeline._core")]
pub struct QuoteTableWriter {
    inner: TableWriter,
}

// One argument per field: Python passes them by position, which costs a third of a struct built there.
#[allow(clippy::too_many_arguments)]
#[pymethods]
impl QuoteTableWriter {
    #[new]
    #[pyo3(signature = (path, capacity=2048, ring=512, names=2048, *, mode=0o600, replace=false))]
    fn new(
        path: PathArgument,
        capacity: usize,
        ring: usize,
        names: usize,
        mode: u32,
        replace: bool,
    ) -> PyResult<Self> {
        let plan = Plan::new(capacity, ring, names)?;
        Ok(Self {
            inner: TableWriter::open(&path, plan, mode, replace)?,
        })
    }

    fn intern(&mut self, kind: &str, name: &str) -> PyResult<u32> {
        Ok(self.inner.intern(Kind::parse(kind)?, name)?)
    }

    fn name(&self, kind: &str, id: u32) -> PyResult<Option<&str>> {
        Ok(self.inner.name(Kind::parse(kind)?, id))
    }

    #[pyo3(signature = (pool, token_in, token_out, *, pair=0, provider=0, protocol=0, amount_index=0))]
    fn entry(
        &mut self,
        pool: u32,
        token_in: u16,
        token_out: u16,
        pair: u32,
        provider: u16,
        protocol: u8,
        amount_index: u32,
    ) -> PyResult<u32> {
        let key = Quote {
            pool,
            pair,
            token_in,
            token_out,
            provider,
            protocol,
            amount_index,
            ..Quote::default()
        };
        Ok(self.inner.entry(&key)?)
    }

    #[pyo3(signature = (
        index, amount_in, amount_out, slot, quoted_ns, price_impact_bps=0.0, confidence=0.0, staleness=0, write_version=0,
        fee_amount=0, oracle_price=0, route=0, hops=1
    ))]
    #[inline]
    fn write(
        &mut self,
        index: u32,
        amount_in: u64,
        amount_out: u64,
        slot: u64,
        quoted_ns: i64,
        price_impact_bps: f64,
        confidence: f64,
        staleness: u8,
        write_version: u64,
        fee_amount: u64,
        oracle_price: i64,
        route: u64,
        hops: u32,
    ) -> PyResult<()> {
        let quote = Quote {
            amount_in,
            amount_out,
            slot,
            quoted_ns,
            price_impact_bps,
            confidence,
            staleness,
            write_version,
            fee_amount,
            oracle_price,
            route,
            hops,
            ..Quote::default()
        };
        Ok(self.inner.write(index, &quote)?)
    }

    fn commit(&mut self, slot: u64, market_ns: i64) -> u64 {
        self.inner.commit(slot, market_ns)
    }

    fn heartbeat(&self) {
        self.inner.heartbeat();
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }

    #[getter]
    fn repaired(&self) -> u64 {
        self.inner.repaired()
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, pyo3::types::PyTuple>) {
        self.inner.close();
    }

    fn _tear(&self, index: u32) -> PyResult<()> {
        if index as usize >= self.inner.len() {
            return Err(pyo3::exceptions::PyIndexError::new_err(index));
        }
        self.inner.tear(index);
        Ok(())
    }
}
