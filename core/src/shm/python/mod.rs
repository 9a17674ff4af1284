//! What Python sees of shared memory: classes of `pipeline._core`, documented in `pipeline/shm.py` and typed in `pipeline/_core.pyi`.

mod blobs;
mod exclusive;
mod integer;
mod permit;
mod reader;
mod snapshot;
mod stress;
mod waker;
mod writer;

use std::path::PathBuf;

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use super::error::ShmError;
use super::table;

create_exception!(
    _core,
    SharedMemoryError,
    PyException,
    "Something is wrong with a shared-memory file."
);
create_exception!(
    _core,
    SharedMemoryMissing,
    SharedMemoryError,
    "The file is not there: its writer has not started yet."
);
create_exception!(
    _core,
    SharedMemoryIncompatible,
    SharedMemoryError,
    "The file is of another kind, version, layout or size."
);
create_exception!(
    _core,
    SharedMemoryOwned,
    SharedMemoryError,
    "Another process is writing the file."
);
create_exception!(
    _core,
    SharedMemoryDenied,
    SharedMemoryError,
    "The file's mode does not allow it."
);
create_exception!(
    _core,
    SharedMemoryFull,
    SharedMemoryError,
    "The disk, the table or the directory is full."
);

impl From<ShmError> for PyErr {
    fn from(error: ShmError) -> Self {
        let text = error.to_string();
        match error {
            ShmError::Missing { .. } => SharedMemoryMissing::new_err(text),
            ShmError::Incompatible { .. } => SharedMemoryIncompatible::new_err(text),
            ShmError::Owned { .. } => SharedMemoryOwned::new_err(text),
            ShmError::Permission { .. } => SharedMemoryDenied::new_err(text),
            ShmError::DiskFull { .. } | ShmError::Full { .. } => SharedMemoryFull::new_err(text),
            ShmError::Invalid(_) | ShmError::Io { .. } => SharedMemoryError::new_err(text),
        }
    }
}

/// Age of a heartbeat after which a writer counts as dead.
const ALIVE_WITHIN_NS: u64 = 2_000_000_000;

/// Add the classes and exceptions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("SharedMemoryError", py.get_type::<SharedMemoryError>())?;
    module.add("SharedMemoryMissing", py.get_type::<SharedMemoryMissing>())?;
    module.add(
        "SharedMemoryIncompatible",
        py.get_type::<SharedMemoryIncompatible>(),
    )?;
    module.add("SharedMemoryOwned", py.get_type::<SharedMemoryOwned>())?;
    module.add("SharedMemoryDenied", py.get_type::<SharedMemoryDenied>())?;
    module.add("SharedMemoryFull", py.get_type::<SharedMemoryFull>())?;
    module.add("QUOTE_VOID", table::VOID)?;
    module.add_class::<writer::QuoteTableWriter>()?;
    module.add_class::<reader::QuoteTable>()?;
    module.add_class::<reader::Cursor>()?;
    module.add_class::<waker::Waker>()?;
    module.add_class::<snapshot::QuoteSnapshot>()?;
    module.add_class::<snapshot::QuoteEntry>()?;
    module.add_class::<blobs::PoolBlobWriter>()?;
    module.add_class::<blobs::PoolBlobTable>()?;
    module.add_class::<blobs::PoolBlob>()?;
    module.add_class::<permit::PermitWordWriter>()?;
    module.add_class::<permit::PermitWord>()?;
    module.add_function(wrap_pyfunction!(stress::_shm_hammer, module)?)?;
    module.add_function(wrap_pyfunction!(stress::_shm_inspect, module)?)?;
    Ok(())
}

/// A path as Python gives it: `str` or `os.PathLike`.
type PathArgument = PathBuf;
