use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::super::blobs::{BlobReader, BlobWriter, Plan};
use super::super::sync::Ordering;
use super::{ALIVE_WITHIN_NS, PathArgument};

/// The one writer of the pool snapshots; opens and refuses files as `QuoteTableWriter` does.
#[pyclass(module = "pipeline._core")]
pub struct PoolBlobWriter {
    inner: BlobWriter,
}

#[pymethods]
impl PoolBlobWriter {
    #[new]
    #[pyo3(signature = (path, slots=512, slot_bytes=65536, *, mode=0o600, replace=false))]
    fn new(
        path: PathArgument,
        slots: usize,
        slot_bytes: usize,
        mode: u32,
        replace: bool,
    ) -> PyResult<Self> {
        Ok(Self {
            inner: BlobWriter::open(&path, Plan::new(slots, slot_bytes)?, mode, replace)?,
        })
    }

    /// Write a pool's snapshot; `False`, and nothing written, when the one there has the same version or a newer one.
    #[pyo3(signature = (pool_id, data, slot, write_version=0, observed_ns=0))]
    fn write(
        &mut self,
        pool_id: usize,
        data: &[u8],
        slot: u64,
        write_version: u64,
        observed_ns: i64,
    ) -> PyResult<bool> {
        Ok(self
            .inner
            .write(pool_id, data, (slot, write_version), observed_ns)?)
    }

    /// Forget a pool's snapshot.
    fn remove(&self, pool_id: usize) -> PyResult<()> {
        Ok(self.inner.remove(pool_id)?)
    }

    /// Forget all snapshots: for a market whose slots begin anew.
    fn clear(&self) -> PyResult<()> {
        (0..self.inner.slots())
            .try_for_each(|id| self.inner.remove(id))
            .map_err(Into::into)
    }

    /// Say that the writer lives. Due at least once a second.
    fn heartbeat(&self) {
        self.inner.heartbeat();
    }

    /// Records that the predecessor died in, now empty.
    #[getter]
    fn repaired(&self) -> u64 {
        self.inner.repaired()
    }

    /// Say that no more will come. The file stays.
    fn close(&self) {
        self.inner.close();
    }

    /// Leave a record half-written, as a writer that dies in it. For tests.
    fn _tear(&self, pool_id: usize) {
        self.inner.tear(pool_id);
    }
}

/// One pool's snapshot.
#[pyclass(frozen, get_all, module = "pipeline._core")]
pub struct PoolBlob {
    data: Py<PyBytes>,
    slot: u64,
    write_version: u64,
    observed_ns: i64,
}

/// A reader of the pool snapshots.
#[pyclass(frozen, module = "pipeline._core")]
pub struct PoolBlobTable {
    inner: BlobReader,
}

#[pymethods]
impl PoolBlobTable {
    #[new]
    fn new(path: PathArgument) -> PyResult<Self> {
        Ok(Self {
            inner: BlobReader::open(&path)?,
        })
    }

    /// Return a pool's snapshot, whole; `None` where there is none, or it was busy for all attempts (`busy` counts those).
    fn read(&self, py: Python<'_>, pool_id: usize) -> Option<PoolBlob> {
        self.inner.read(pool_id).map(|blob| PoolBlob {
            data: PyBytes::new(py, &blob.data).unbind(),
            slot: blob.slot,
            write_version: blob.write_version,
            observed_ns: blob.observed_ns,
        })
    }

    /// Return (slot, write version) of a pool's snapshot, or `None`.
    fn version(&self, pool_id: usize) -> Option<(u64, u64)> {
        self.inner.version(pool_id)
    }

    /// Pools that fit; ids are below it.
    #[getter]
    fn slots(&self) -> usize {
        self.inner.slots()
    }

    /// True while the writer has not closed the file and its last heartbeat is less than 2 s old.
    #[getter]
    fn writer_alive(&self) -> bool {
        self.inner.mapped.writer_alive(ALIVE_WITHIN_NS)
    }

    /// True when the name belongs to another file now, or to none: open it anew.
    #[getter]
    fn replaced(&self) -> bool {
        self.inner.mapped.replaced()
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
}
