use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::super::blobs::{BlobReader, BlobWriter, Plan};
use super::super::sync::Ordering;
use super::{ALIVE_WITHIN_NS, PathArgument};

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

    fn remove(&self, pool_id: usize) -> PyResult<()> {
        Ok(self.inner.remove(pool_id)?)
    }

    fn clear(&self) -> PyResult<()> {
        (0..self.inner.slots())
            .try_for_each(|id| self.inner.remove(id))
            .map_err(Into::into)
    }

    fn heartbeat(&self) {
        self.inner.heartbeat();
    }

    #[getter]
    fn repaired(&self) -> u64 {
        self.inner.repaired()
    }

    fn close(&self) {
        self.inner.close();
    }

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

    fn read(&self, py: Python<'_>, pool_id: usize) -> Option<PoolBlob> {
        self.inner.read(pool_id).map(|blob| PoolBlob {
            data: PyBytes::new(py, &blob.data).unbind(),
            slot: blob.slot,
            write_version: blob.write_version,
            observed_ns: blob.observed_ns,
        })
    }

    fn version(&self, pool_id: usize) -> Option<(u64, u64)> {
        self.inner.version(pool_id)
    }

    #[getter]
    fn slots(&self) -> usize {
        self.inner.slots()
    }

    #[getter]
    fn writer_alive(&self) -> bool {
        self.inner.mapped.writer_alive(ALIVE_WITHIN_NS)
    }

    #[getter]
    fn replaced(&self) -> bool {
        self.inner.mapped.replaced()
    }

    #[getter]
    fn retries(&self) -> u64 {
        self.inner.retries.load(Ordering::Relaxed)
    }

    #[getter]
    fn busy(&self) -> u64 {
        self.inner.busy.load(Ordering::Relaxed)
    }
}
