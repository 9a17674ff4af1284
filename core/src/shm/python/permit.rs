use pyo3::prelude::*;

use super::super::permit::{PermitReader, PermitWriter};
use super::PathArgument;

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

    fn renew(&self, state: u64, epoch: u64, lease_ns: u64, lifted: u64) -> PyResult<()> {
        Ok(self.inner.renew(state, epoch, lease_ns, lifted)?)
    }

    fn halt(&self) -> u64 {
        self.inner.halt()
    }

    #[getter]
    fn halts(&self) -> u64 {
        self.inner.halts()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn _tear(&self) {
        self.inner.tear();
    }
}

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

    #[pyo3(signature = (now_ns=None))]
    #[inline]
    fn state(&self, now_ns: Option<u64>) -> u8 {
        self.inner.state(now_ns)
    }

    fn halt(&self) -> PyResult<u64> {
        Ok(self.inner.halt()?)
    }

    #[getter]
    fn replaced(&self) -> bool {
        self.inner.mapped.replaced()
    }
}
