use pyo3::prelude::*;

use super::super::directory::Kind;
use super::super::table::{Plan, Quote, TableWriter};
use super::PathArgument;

/// The one writer of a quote table.
///
/// Makes the file, or continues in the one a predecessor left: names, entries and ids stay, records it died in are void.
/// Raises `SharedMemoryOwned` where another process writes it, `SharedMemoryIncompatible` where the file is another
/// kind, version or size; with `replace` a quote table of another size is retired and a new one takes its name.
#[pyclass(module = "pipeline._core")]
pub struct QuoteTableWriter {
    inner: TableWriter,
}

impl QuoteTableWriter {
    pub fn table(&mut self) -> &mut TableWriter {
        &mut self.inner
    }
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

    /// Return the id of a name (`kind`: token, pair, pool, provider), giving it one when it is new. Ids count from 1.
    fn intern(&mut self, kind: &str, name: &str) -> PyResult<u32> {
        Ok(self.inner.intern(Kind::parse(kind)?, name)?)
    }

    /// Return the name of an id, or `None`.
    fn name(&self, kind: &str, id: u32) -> PyResult<Option<&str>> {
        Ok(self.inner.name(Kind::parse(kind)?, id))
    }

    /// Return the index of the entry for (pool, provider, token_in, token_out, amount_index), making it when it is new.
    ///
    /// A new entry is void until it is written. Ids are those of `intern`; 0 means none.
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

    /// Write an entry. Whoever reads the entry sees it at once; waiting readers are told at the next `commit`.
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

    /// Make the batch written since the last commit known to waiting readers, whole, with its slot and market time.
    ///
    /// Readers wake even when nothing was written. Returns the ring's sequence.
    fn commit(&mut self, slot: u64, market_ns: i64) -> u64 {
        self.inner.commit(slot, market_ns)
    }

    /// Say that the writer lives; a commit says so too. Due at least once a second.
    fn heartbeat(&self) {
        self.inner.heartbeat();
    }

    /// How many writers the file has had, this one included.
    #[getter]
    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }

    /// Records that the predecessor died in, now void.
    #[getter]
    fn repaired(&self) -> u64 {
        self.inner.repaired()
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// Say that no more will come. The file stays, for its readers and for the next writer.
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

    /// Leave an entry half-written, as a writer that dies in it. For tests.
    fn _tear(&self, index: u32) -> PyResult<()> {
        if index as usize >= self.inner.len() {
            return Err(pyo3::exceptions::PyIndexError::new_err(index));
        }
        self.inner.tear(index);
        Ok(())
    }
}
