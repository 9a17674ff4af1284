//! Native core of the pipeline, imported from Python as `pipeline._core`.

mod codec;
pub mod pools;
pub mod quotes;
pub mod search;
mod shm;

use pyo3::prelude::*;

// Shared memory's writers rely on the GIL; a free-threaded interpreter turns it on for this module.
#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    codec::register(module)?;
    pools::python::register(module)?;
    quotes::python::register(module)?;
    search::python::register(module)?;
    shm::register(module)?;
    Ok(())
}
