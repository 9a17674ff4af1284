//! The contract between workers: message classes, and their plain FlatBuffers wire.

mod enumeration;
mod invalid;
mod kind;
mod message;
#[cfg(test)]
mod tests;
mod verify;
mod write;

use pyo3::prelude::*;

/// Add the message classes, the enumerations, `decode` and `InvalidMessage` to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    message::register_classes(module)?;
    module.add_class::<invalid::InvalidMessage>()?;
    module.add_function(wrap_pyfunction!(message::decode, module)?)?;
    module.add(
        "INVALID_REASONS",
        invalid::Reason::ALL.map(invalid::Reason::name),
    )?;
    module.add("MAX_MESSAGE_BYTES", verify::MAX_BUFFER)?;
    Ok(())
}
