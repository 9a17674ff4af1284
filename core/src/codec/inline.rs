//! Numbers and truth values, which stand inside a table.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};

use super::write::Writer;

#[cold]
pub fn wrong_type(value: &Bound<'_, PyAny>, place: &str, expected: &str) -> PyErr {
    let got = value
        .get_type()
        .name()
        .map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{place}: expected {expected}, got {got}"))
}

/// A number that stands inline.
pub trait Inline: Copy + 'static {
    const SIZE: usize;
    fn read(buf: &[u8], at: usize) -> Self;
    fn write(self, out: &mut Writer, at: usize);
    fn take(value: &Bound<'_, PyAny>, place: &'static str) -> PyResult<Self>;
    fn object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;
    fn plain(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;
    /// Bits that are equal exactly when two values count as equal.
    fn bits(self) -> u64;
}

/// Refuse what is not an integer: `bool` is one to Python, and never meant as one here.
#[inline]
fn integer<'a, 'py>(
    value: &'a Bound<'py, PyAny>,
    place: &'static str,
) -> PyResult<&'a Bound<'py, PyInt>> {
    match value.cast::<PyInt>() {
        Ok(number) if !value.is_instance_of::<PyBool>() => Ok(number),
        _ => Err(wrong_type(value, place, "int")),
    }
}

macro_rules! inline_integer {
    ($($type:ty),*) => {$(
        impl Inline for $type {
            const SIZE: usize = size_of::<$type>();

            #[inline]
            fn read(buf: &[u8], at: usize) -> Self {
                buf[at..at + Self::SIZE].try_into().map_or(0, <$type>::from_le_bytes)
            }

            #[inline]
            fn write(self, out: &mut Writer, at: usize) {
                out.put(at, &self.to_le_bytes());
            }

            #[inline]
            fn take(value: &Bound<'_, PyAny>, place: &'static str) -> PyResult<Self> {
                integer(value, place)?.extract().map_err(|_| {
                    let (low, high) = (<$type>::MIN, <$type>::MAX);
                    PyValueError::new_err(format!("{place}: {value} is outside {low}..{high}"))
                })
            }

            #[inline]
            fn object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                self.into_bound_py_any(py)
            }

            fn plain(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                self.object(py)
            }

            #[inline]
            fn bits(self) -> u64 {
                self as u64
            }
        }
    )*};
}

inline_integer!(i8, u8, i16, u16, i32, u32, i64, u64);

macro_rules! inline_float {
    ($($type:ty),*) => {$(
        impl Inline for $type {
            const SIZE: usize = size_of::<$type>();

            #[inline]
            fn read(buf: &[u8], at: usize) -> Self {
                buf[at..at + Self::SIZE].try_into().map_or(0.0, <$type>::from_le_bytes)
            }

            #[inline]
            fn write(self, out: &mut Writer, at: usize) {
                out.put(at, &self.to_le_bytes());
            }

            #[inline]
            fn take(value: &Bound<'_, PyAny>, place: &'static str) -> PyResult<Self> {
                if value.is_instance_of::<PyFloat>() {
                    return value.extract();
                }
                integer(value, place).map_err(|_| wrong_type(value, place, "float"))?.extract()
            }

            #[inline]
            fn object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                self.into_bound_py_any(py)
            }

            /// JSON has no word for these three: they become strings.
            fn plain(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                match self {
                    number if number.is_nan() => "NaN".into_bound_py_any(py),
                    number if number.is_infinite() => {
                        (if number > 0.0 { "Infinity" } else { "-Infinity" }).into_bound_py_any(py)
                    }
                    number => number.object(py),
                }
            }

            /// Zero equals minus zero, as everywhere; NaN equals NaN, so that a message equals its copy.
            #[inline]
            fn bits(self) -> u64 {
                if self.is_nan() {
                    f64::NAN.to_bits()
                } else {
                    (f64::from(self) + 0.0).to_bits()
                }
            }
        }
    )*};
}

inline_float!(f32, f64);

impl Inline for bool {
    const SIZE: usize = 1;

    #[inline]
    fn read(buf: &[u8], at: usize) -> Self {
        buf[at] != 0
    }

    #[inline]
    fn write(self, out: &mut Writer, at: usize) {
        out.put(at, &[u8::from(self)]);
    }

    #[inline]
    fn take(value: &Bound<'_, PyAny>, place: &'static str) -> PyResult<Self> {
        value
            .cast::<PyBool>()
            .map(|value| value.is_true())
            .map_err(|_| wrong_type(value, place, "bool"))
    }

    #[inline]
    fn object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        self.into_bound_py_any(py)
    }

    fn plain(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        self.object(py)
    }

    #[inline]
    fn bits(self) -> u64 {
        u64::from(self)
    }
}
