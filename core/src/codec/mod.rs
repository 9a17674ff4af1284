//! The contract between workers: message classes, and their plain FlatBuffers wire.

mod enumeration;
mod inline;
mod invalid;
mod kind;
mod message;
mod tables;
#[cfg(test)]
mod tests;
mod verify;
mod write;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Add the message classes, the enumerations, `decode` and `InvalidMessage` to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    message::register_classes(module)?;
    module.add_class::<invalid::InvalidMessage>()?;
    module.add_function(wrap_pyfunction!(message::decode, module)?)?;
    module.add(
        "INVALID_REASONS",
        PyTuple::new(module.py(), invalid::Reason::ALL.map(invalid::Reason::name))?,
    )?;
    module.add("MAX_MESSAGE_BYTES", verify::MAX_BUFFER)?;
    Ok(())
}
