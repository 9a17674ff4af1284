use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use super::super::directory::Kind;
use super::super::table::{Plan, Quote, Standing, TableWriter, factors};
use super::PathArgument;
use super::exclusive::Exclusive;
use super::integer::{Float, Signed, Word};

/// The one writer of a quote table.
///
/// Makes the file, or continues in the one a predecessor left: names, entries and ids stay, records it died in are void.
/// Raises `SharedMemoryOwned` where another process writes it, `SharedMemoryIncompatible` where the file is another
/// kind, version or size; with `replace` a quote table of another size is retired and a new one takes its name.
#[pyclass(frozen, module = "pipeline._core")]
pub struct QuoteTableWriter {
    inner: Exclusive<TableWriter>,
}

/// Five floats, or what they are packed into.
pub struct Factors(u64);

impl<'a, 'py> FromPyObject<'a, 'py> for Factors {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyInt>() {
            return Ok(Self(object.extract::<Word>()?.0));
        }
        let given: (f64, f64, f64, f64, f64) = object.extract()?;
        factors::pack(given.into())
            .map(Self)
            .ok_or_else(|| PyValueError::new_err(format!("factors are 0 to 1, not {given:?}")))
    }
}

impl QuoteTableWriter {
    pub fn table(&self) -> &Exclusive<TableWriter> {
        &self.inner
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
            inner: Exclusive::new(TableWriter::open(&path, plan, mode, replace)?),
        })
    }

    /// Return the id of a name (`kind`: token, pair, pool, provider), giving it one when it is new. Ids count from 1.
    fn intern(&self, py: Python<'_>, kind: &str, name: &str) -> PyResult<u32> {
        let kind = Kind::parse(kind)?;
        Ok(self.inner.with(py, |table| table.intern(kind, name))?)
    }

    /// Return the name of an id, or `None`.
    fn name(&self, py: Python<'_>, kind: &str, id: u32) -> PyResult<Option<String>> {
        let kind = Kind::parse(kind)?;
        Ok(self
            .inner
            .with(py, |table| table.name(kind, id).map(str::to_owned)))
    }

    /// Return the index of the entry for (pool, provider, token_in, token_out, amount_index), making it when it is new.
    ///
    /// A new entry is void until it is written. Ids are those of `intern`; 0 means none.
    #[pyo3(signature = (pool, token_in, token_out, *, pair=0, provider=0, protocol=0, amount_index=0))]
    fn entry(
        &self,
        py: Python<'_>,
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
        Ok(self.inner.with(py, |table| table.entry(&key))?)
    }

    /// Write an entry. Whoever reads the entry sees it at once; waiting readers are told at the next `commit`.
    #[pyo3(signature = (
        index, amount_in, amount_out, slot, quoted_ns, price_impact_bps=Float(0.0), confidence=Float(0.0), staleness=0, write_version=Word(0),
        fee_amount=Word(0), oracle_amount_out=Word(0), route=Word(0), hops=1, factors=Factors(0)
    ))]
    #[inline(always)]
    fn write(
        &self,
        py: Python<'_>,
        index: Word,
        amount_in: Word,
        amount_out: Word,
        slot: Word,
        quoted_ns: Signed,
        price_impact_bps: Float,
        confidence: Float,
        staleness: u8,
        write_version: Word,
        fee_amount: Word,
        oracle_amount_out: Word,
        route: Word,
        hops: u32,
        factors: Factors,
    ) -> PyResult<()> {
        let quote = Quote {
            amount_in: amount_in.0,
            amount_out: amount_out.0,
            slot: slot.0,
            quoted_ns: quoted_ns.0,
            price_impact_bps: price_impact_bps.0,
            confidence: confidence.0,
            staleness,
            write_version: write_version.0,
            fee_amount: fee_amount.0,
            oracle_amount_out: oracle_amount_out.0,
            route: route.0,
            hops,
            factors: factors.0,
            ..Quote::default()
        };
        Ok(self.inner.with(py, |table| table.write(index.0, &quote))?)
    }

    /// Change what is said of a quote as time passes: when it was last confirmed, confidence, staleness, factors, and what the
    /// amount is worth by the oracle. Returns whether waiting readers will be told: only when the staleness or the confidence's
    /// band changed. A void entry stays void.
    fn refresh(
        &self,
        py: Python<'_>,
        index: u64,
        quoted_ns: i64,
        confidence: f64,
        staleness: u8,
        factors: Factors,
        oracle_amount_out: u64,
    ) -> PyResult<bool> {
        let standing = Standing {
            quoted_ns,
            confidence,
            staleness,
            factors: factors.0,
            oracle_amount_out,
        };
        Ok(self
            .inner
            .with(py, |table| table.refresh(index, standing))?)
    }

    /// Make the batch written since the last commit known to waiting readers, whole, with its slot and market time.
    ///
    /// Readers wake even when nothing was written. Returns the ring's sequence.
    fn commit(&self, py: Python<'_>, slot: u64, market_ns: i64) -> u64 {
        self.inner.with(py, |table| table.commit(slot, market_ns))
    }

    /// Say that the writer lives; a commit says so too. Due at least once a second.
    fn heartbeat(&self, py: Python<'_>) {
        self.inner.with(py, |table| table.heartbeat());
    }

    /// How many writers the file has had, this one included.
    #[getter]
    fn epoch(&self, py: Python<'_>) -> u64 {
        self.inner.with(py, |table| table.epoch())
    }

    /// Records that the predecessor died in, now void.
    #[getter]
    fn repaired(&self, py: Python<'_>) -> u64 {
        self.inner.with(py, |table| table.repaired())
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.inner.with(py, |table| table.len())
    }

    /// Say that no more will come. The file stays, for its readers and for the next writer.
    fn close(&self, py: Python<'_>) {
        self.inner.with(py, |table| table.close());
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*error))]
    fn __exit__(&self, error: &Bound<'_, pyo3::types::PyTuple>) {
        self.inner.with(error.py(), |table| table.close());
    }

    /// Leave an entry half-written, as a writer that dies in it. For tests.
    fn _tear(&self, py: Python<'_>, index: u32) -> PyResult<()> {
        self.inner.with(py, |table| {
            if index as usize >= table.len() {
                return Err(pyo3::exceptions::PyIndexError::new_err(index));
            }
            table.tear(index);
            Ok(())
        })
    }
}
