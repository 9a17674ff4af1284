use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::super::directory::Kind;
use super::super::sync::Ordering;
use super::super::table::{self, Changes, Commit, TableReader};
use super::snapshot::{QuoteEntry, QuoteSnapshot, Spare};
use super::{ALIVE_WITHIN_NS, PathArgument};

#[pyclass(frozen, module = "pipeline._core")]
pub struct QuoteTable {
    inner: Arc<TableReader>,
    spare: Spare,
}

impl QuoteTable {
    fn commit(&self) -> Commit {
        self.inner.commit().unwrap_or_default()
    }
}

#[pymethods]
impl QuoteTable {
    #[new]
    fn new(path: PathArgument) -> PyResult<Self> {
        Ok(Self {
            inner: Arc::new(TableReader::open(&path)?),
            spare: Spare::default(),
        })
    }

    /// Read one entry.
    #[inline]
    fn read(&self, index: usize) -> PyResult<Option<QuoteEntry>> {
        if index >= self.inner.len() {
            return Err(PyIndexError::new_err(index));
        }
        Ok(self
            .inner
            .read(index)
            .map(|quote| QuoteEntry::new(index, quote)))
    }

    fn _read_unprotected(&self, index: usize) -> PyResult<QuoteEntry> {
        if index >= self.inner.len() {
            return Err(PyIndexError::new_err(index));
        }
        Ok(QuoteEntry::new(index, self.inner.read_unprotected(index)))
    }

    fn snapshot(&self) -> QuoteSnapshot {
        QuoteSnapshot::new(self.inner.snapshot(self.spare.take()), self.spare.clone())
    }

    #[pyo3(signature = (*, pool=None, pair=None, token_in=None, token_out=None, provider=None, amount_index=None))]
    fn find(
        &self,
        pool: Option<u32>,
        pair: Option<u32>,
        token_in: Option<u16>,
        token_out: Option<u16>,
        provider: Option<u16>,
        amount_index: Option<u32>,
    ) -> Vec<usize> {
        let wanted = |quote: &table::Quote| {
            pool.is_none_or(|id| id == quote.pool)
                && pair.is_none_or(|id| id == quote.pair)
                && token_in.is_none_or(|id| id == quote.token_in)
                && token_out.is_none_or(|id| id == quote.token_out)
                && provider.is_none_or(|id| id == quote.provider)
                && amount_index.is_none_or(|index| index == quote.amount_index)
        };
        // What an entry is found by never changes, so it need not be read under the protocol.
        (0..self.inner.len())
            .filter(|&index| wanted(&self.inner.read_unprotected(index)))
            .collect()
    }

    fn name(&self, kind: &str, id: u32) -> PyResult<Option<String>> {
        Ok(self.inner.name(Kind::parse(kind)?, id))
    }

    fn id(&self, kind: &str, name: &str) -> PyResult<Option<u32>> {
        Ok(self.inner.id(Kind::parse(kind)?, name))
    }

    fn names(&self, kind: &str) -> PyResult<Vec<String>> {
        let kind = Kind::parse(kind)?;
        Ok(self.inner.with_names(|names| {
            (1..)
                .map_while(|id| names.name(kind, id).map(str::to_owned))
                .collect()
        }))
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            table: self.inner.clone(),
            inner: table::Cursor::new(self.inner.head()),
        }
    }

    #[getter]
    fn slot(&self) -> u64 {
        self.commit().slot
    }

    #[getter]
    fn market_ns(&self) -> i64 {
        self.commit().market_ns
    }

    #[getter]
    fn committed_ns(&self) -> u64 {
        self.commit().committed_ns
    }

    #[getter]
    fn sequence(&self) -> u64 {
        self.inner.head()
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.inner.mapped.epoch()
    }

    #[getter]
    fn writer_pid(&self) -> u64 {
        self.inner.mapped.writer_pid()
    }

    #[getter]
    fn writer_alive(&self) -> bool {
        self.inner.mapped.writer_alive(ALIVE_WITHIN_NS)
    }

    #[getter]
    fn heartbeat_age_ns(&self) -> u64 {
        self.inner.mapped.heartbeat_age_ns()
    }

    #[getter]
    fn replaced(&self) -> bool {
        self.inner.mapped.replaced()
    }

    #[getter]
    fn capacity(&self) -> usize {
        self.inner.plan.capacity
    }

    #[getter]
    fn ring(&self) -> usize {
        self.inner.plan.ring
    }

    #[getter]
    fn retries(&self) -> u64 {
        self.inner.retries.load(Ordering::Relaxed)
    }

    #[getter]
    fn busy(&self) -> u64 {
        self.inner.busy.load(Ordering::Relaxed)
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }
}

#[pyclass(frozen, module = "pipeline._core")]
pub struct Cursor {
    table: Arc<TableReader>,
    inner: table::Cursor,
}

#[pymethods]
impl Cursor {
    #[inline]
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        match self.inner.poll(&self.table) {
            Changes::None => Ok(Some(PyTuple::empty(py))),
            Changes::Some(indices) => PyTuple::new(py, indices).map(Some),
            Changes::Lapped => Ok(None),
        }
    }

    fn wait(&self, py: Python<'_>, timeout_s: f64) -> PyResult<bool> {
        let timeout = Duration::try_from_secs_f64(timeout_s).map_err(|_| {
            PyValueError::new_err(format!("a timeout is 0 or more seconds, not {timeout_s}"))
        })?;
        let position = self.inner.position();
        if self.table.head() != position {
            return Ok(true);
        }
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match py.detach(|| self.table.wait(position, left)) {
                Ok(changed) => return Ok(changed),
                Err(table::Interrupted) => py.check_signals()?,
            }
        }
    }

    #[getter]
    fn position(&self) -> u64 {
        self.inner.position()
    }

    #[getter]
    fn laps(&self) -> u64 {
        self.inner.laps.load(Ordering::Relaxed)
    }
}
