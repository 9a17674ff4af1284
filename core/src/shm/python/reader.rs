use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::super::directory::Kind;
use super::super::sync::Ordering;
use super::super::table::{self, Changes, Commit, TableReader};
use super::super::waiting::Interrupted;
use super::snapshot::{QuoteEntry, QuoteSnapshot, Spare};
use super::waker::Waker;
use super::{ALIVE_WITHIN_NS, PathArgument};

/// A reader of a quote table.
///
/// Raises `SharedMemoryMissing` while there is no file, `SharedMemoryIncompatible` for another kind, version or size.
#[pyclass(frozen, module = "pipeline._core")]
pub struct QuoteTable {
    inner: Arc<TableReader>,
    spare: Spare,
}

impl QuoteTable {
    pub fn table(&self) -> &TableReader {
        &self.inner
    }

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

    /// Read one entry, whole; `None` when it was busy for all attempts (its writer died in it, or writes it without pause).
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

    /// Read an entry without the protocol: it may be torn. For the test and the benchmark that show it.
    fn _read_unprotected(&self, index: usize) -> PyResult<QuoteEntry> {
        if index >= self.inner.len() {
            return Err(PyIndexError::new_err(index));
        }
        Ok(QuoteEntry::new(index, self.inner.read_unprotected(index)))
    }

    /// Copy every entry, each whole: 128 bytes an entry in one read-only buffer.
    fn snapshot(&self) -> QuoteSnapshot {
        QuoteSnapshot::new(self.inner.snapshot(self.spare.take()), self.spare.clone())
    }

    /// Copy every entry into a pandas `DataFrame` (needs the extra `notebook`): names for ids, amounts as unsigned 64-bit integers.
    fn to_pandas(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        let module = slf.py().import("pipeline.frames")?;
        module.call_method1("to_pandas", (slf,))
    }

    /// Return the indices of the entries with all these ids.
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

    /// Return the name of an id (`kind`: token, pair, pool, provider), or `None`.
    fn name(&self, kind: &str, id: u32) -> PyResult<Option<String>> {
        Ok(self.inner.name(Kind::parse(kind)?, id))
    }

    /// Return the id of a name, or `None`.
    fn id(&self, kind: &str, name: &str) -> PyResult<Option<u32>> {
        Ok(self.inner.id(Kind::parse(kind)?, name))
    }

    /// Return all names of a kind; the first has id 1.
    fn names(&self, kind: &str) -> PyResult<Vec<String>> {
        let kind = Kind::parse(kind)?;
        Ok(self.inner.with_names(|names| {
            (1..)
                .map_while(|id| names.name(kind, id).map(str::to_owned))
                .collect()
        }))
    }

    /// Return a cursor that stands at the newest commit.
    fn cursor(&self) -> Cursor {
        Cursor {
            table: self.inner.clone(),
            inner: table::Cursor::new(self.inner.head()),
        }
    }

    /// Start a thread outside Python that makes a descriptor readable at each commit from now on.
    fn waker(&self) -> PyResult<Waker> {
        Waker::start(self.inner.clone())
    }

    /// Slot of the newest commit.
    #[getter]
    fn slot(&self) -> u64 {
        self.commit().slot
    }

    /// Market time of the newest commit, ns.
    #[getter]
    fn market_ns(&self) -> i64 {
        self.commit().market_ns
    }

    /// Wall-clock time of the newest commit, ns.
    #[getter]
    fn committed_ns(&self) -> u64 {
        self.commit().committed_ns
    }

    /// The ring's sequence at the newest commit.
    #[getter]
    fn sequence(&self) -> u64 {
        self.inner.head()
    }

    /// How many writers the file has had.
    #[getter]
    fn epoch(&self) -> u64 {
        self.inner.mapped.epoch()
    }

    /// Process id of the writer, or of the last one.
    #[getter]
    fn writer_pid(&self) -> u64 {
        self.inner.mapped.writer_pid()
    }

    /// True while the writer has not closed the table and its last heartbeat is less than 2 s old.
    #[getter]
    fn writer_alive(&self) -> bool {
        self.inner.mapped.writer_alive(ALIVE_WITHIN_NS)
    }

    /// Nanoseconds since the writer's last heartbeat.
    #[getter]
    fn heartbeat_age_ns(&self) -> u64 {
        self.inner.mapped.heartbeat_age_ns()
    }

    /// True when the name belongs to another file now, or to none: open it anew.
    #[getter]
    fn replaced(&self) -> bool {
        self.inner.mapped.replaced()
    }

    /// Entries that fit.
    #[getter]
    fn capacity(&self) -> usize {
        self.inner.plan.capacity
    }

    /// Slots of the change ring.
    #[getter]
    fn ring(&self) -> usize {
        self.inner.plan.ring
    }

    /// Reads by this object that had to be tried again.
    #[getter]
    fn retries(&self) -> u64 {
        self.inner.retries.load(Ordering::Relaxed)
    }

    /// Reads by this object that were given up.
    #[getter]
    fn busy(&self) -> u64 {
        self.inner.busy.load(Ordering::Relaxed)
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }
}

/// A reader's place in a table's change ring, in the reader's own memory.
#[pyclass(frozen, module = "pipeline._core")]
pub struct Cursor {
    table: Arc<TableReader>,
    inner: table::Cursor,
}

#[pymethods]
impl Cursor {
    /// Return the entries committed since the last call, each index once: `()` when there are none.
    ///
    /// `None` means that more changed than the ring holds, or that a new writer began: take a snapshot.
    #[inline]
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        match self.inner.poll(&self.table) {
            Changes::None => Ok(Some(PyTuple::empty(py))),
            Changes::Some(indices) => PyTuple::new(py, indices).map(Some),
            Changes::Lapped => Ok(None),
        }
    }

    /// Like `poll`, but return the pools of these entries, each id once: what a reader of pool snapshots wants to know.
    fn poll_pools<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let indices = match self.inner.poll(&self.table) {
            Changes::None => return Ok(Some(PyTuple::empty(py))),
            Changes::Some(indices) => indices,
            Changes::Lapped => return Ok(None),
        };
        // What an entry is found by never changes, so it need not be read under the protocol.
        let mut pools: Vec<u32> = indices
            .into_iter()
            .map(|index| self.table.read_unprotected(index as usize).pool)
            .collect();
        pools.sort_unstable();
        pools.dedup();
        PyTuple::new(py, pools).map(Some)
    }

    /// Sleep in the kernel, without the GIL, until there is a commit that `poll` has not returned; `False` on timeout.
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
                Err(Interrupted) => py.check_signals()?,
            }
        }
    }

    /// The ring's sequence up to which `poll` has returned everything.
    #[getter]
    fn position(&self) -> u64 {
        self.inner.position()
    }

    /// How many changes were committed that `poll` has not returned yet. Above the ring's size, the next `poll` is `None`.
    #[getter]
    fn behind(&self) -> u64 {
        self.table.head().saturating_sub(self.inner.position())
    }

    /// How often `poll` returned `None`.
    #[getter]
    fn laps(&self) -> u64 {
        self.inner.laps.load(Ordering::Relaxed)
    }
}
