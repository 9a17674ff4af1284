//! Why a buffer or an object is refused.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A reason with a name that stays the same from version to version: it is stored in dead letters and counted in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    TooShort,
    TooLong,
    UnknownIdentifier,
    WrongIdentifier,
    OffsetOutOfBounds,
    Misaligned,
    BadVtable,
    BadString,
    NotUtf8,
    BadVector,
    TooDeep,
    TooManyTables,
    TooMuchOutput,
}

impl Reason {
    pub const ALL: [Reason; 13] = [
        Reason::TooShort,
        Reason::TooLong,
        Reason::UnknownIdentifier,
        Reason::WrongIdentifier,
        Reason::OffsetOutOfBounds,
        Reason::Misaligned,
        Reason::BadVtable,
        Reason::BadString,
        Reason::NotUtf8,
        Reason::BadVector,
        Reason::TooDeep,
        Reason::TooManyTables,
        Reason::TooMuchOutput,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Reason::TooShort => "too_short",
            Reason::TooLong => "too_long",
            Reason::UnknownIdentifier => "unknown_identifier",
            Reason::WrongIdentifier => "wrong_identifier",
            Reason::OffsetOutOfBounds => "offset_out_of_bounds",
            Reason::Misaligned => "misaligned",
            Reason::BadVtable => "bad_vtable",
            Reason::BadString => "bad_string",
            Reason::NotUtf8 => "not_utf8",
            Reason::BadVector => "bad_vector",
            Reason::TooDeep => "too_deep",
            Reason::TooManyTables => "too_many_tables",
            Reason::TooMuchOutput => "too_much_output",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Reason::TooShort => "too short to be a message",
            Reason::TooLong => "longer than a message may be",
            Reason::UnknownIdentifier => "no message has this file identifier",
            Reason::WrongIdentifier => "the file identifier is another message's",
            Reason::OffsetOutOfBounds => "an offset points outside the buffer",
            Reason::Misaligned => "an offset is not aligned to what it points to",
            Reason::BadVtable => "a vtable does not fit its table",
            Reason::BadString => "a string does not end inside the buffer with a zero byte",
            Reason::NotUtf8 => "a string is not UTF-8",
            Reason::BadVector => "a vector does not end inside the buffer",
            Reason::TooDeep => "tables are nested too deep",
            Reason::TooManyTables => "too many tables",
            Reason::TooMuchOutput => {
                "offsets share their targets and expand to more than the buffer may hold"
            }
        }
    }

    /// Return the exception for this reason; `place` is the table or field it was found at, or empty.
    #[cold]
    pub fn at(self, place: &str) -> PyErr {
        let detail = if place.is_empty() {
            self.text().to_owned()
        } else {
            format!("{place}: {}", self.text())
        };
        PyErr::new::<InvalidMessage, _>((self.name(), detail))
    }
}

/// A buffer that is not a whole, well-formed message, or an object that can not be written as one.
///
/// `reason` is the stable name of the cause; the text names the field it was found at.
#[pyclass(extends = PyValueError, subclass, frozen, module = "pipeline.messages")]
pub struct InvalidMessage {
    #[pyo3(get)]
    reason: String,
    #[pyo3(get)]
    detail: String,
}

#[pymethods]
impl InvalidMessage {
    #[new]
    #[pyo3(signature = (reason, detail = String::new()))]
    fn new(reason: String, detail: String) -> Self {
        Self { reason, detail }
    }

    fn __str__(&self) -> String {
        if self.detail.is_empty() {
            self.reason.clone()
        } else {
            format!("{}: {}", self.reason, self.detail)
        }
    }
}
