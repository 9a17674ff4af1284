use pyo3::prelude::*;

use super::super::permit::{PermitReader, PermitWriter};
use super::PathArgument;

/// The permit's manager on this host. Opening the word renews nothing: an earlier lease runs out, and halts stay.
#[pyclass(frozen, module = "pipeline._core")]
pub struct PermitWordWriter {
    inner: PermitWriter,
}

#[pymethods]
impl PermitWordWriter {
    #[new]
    #[pyo3(signature = (path, *, mode=0o600))]
    fn new(path: PathArgument, mode: u32) -> PyResult<Self> {
        Ok(Self {
            inner: PermitWriter::open(&path, mode)?,
        })
    }

    /// Renew the lease from now (CLOCK_BOOTTIME), and lift the first `lifted` halts.
    fn renew(&self, state: u64, epoch: u64, lease_ns: u64, lifted: u64) -> PyResult<()> {
        Ok(self.inner.renew(state, epoch, lease_ns, lifted)?)
    }

    /// Halt every process of the host; no renewal undoes it. Returns the number of halts.
    fn halt(&self) -> u64 {
        self.inner.halt()
    }

    /// Number of halts so far, lifted ones included.
    #[getter]
    fn halts(&self) -> u64 {
        self.inner.halts()
    }

    /// Close without renewing: the lease runs out, the file stays.
    fn close(&self) {
        self.inner.close();
    }

    /// Leave the lease half-written, as a manager that dies in a renewal. For tests.
    fn _tear(&self) {
        self.inner.tear();
    }
}

/// The permit as any process of the host reads it, immediately before an effect.
///
/// Raises `SharedMemoryMissing` or another `SharedMemoryError` where there is none to read: that means HALTED.
#[pyclass(frozen, module = "pipeline._core")]
pub struct PermitWord {
    inner: PermitReader,
}

#[pymethods]
impl PermitWord {
    #[new]
    fn new(path: PathArgument) -> PyResult<Self> {
        Ok(Self {
            inner: PermitReader::open(&path)?,
        })
    }

    /// Return (state, epoch, renewed_ns, lease_ns, halts, lifted) as they stand, or `None` when busy for all attempts.
    #[inline]
    fn read(&self) -> Option<(u64, u64, u64, u64, u64, u64)> {
        self.inner.read().map(|p| {
            (
                p.state,
                p.epoch,
                p.renewed_ns,
                p.lease_ns,
                p.halts,
                p.lifted,
            )
        })
    }

    /// Return the state that may be acted on: 0 (HALTED) unless the lease is fresh, known, and every halt lifted.
    #[pyo3(signature = (now_ns=None))]
    #[inline]
    fn state(&self, now_ns: Option<u64>) -> u8 {
        self.inner.state(now_ns)
    }

    /// Halt every process of the host; no renewal undoes it. Returns the number of halts.
    fn halt(&self) -> PyResult<u64> {
        Ok(self.inner.halt()?)
    }

    /// True when the name belongs to another file now, or to none: open it anew.
    #[getter]
    fn replaced(&self) -> bool {
        self.inner.mapped.replaced()
    }
}
