use std::ffi::{c_long, c_ulong};

use pyo3::exceptions::PyOverflowError;
use pyo3::ffi;
use pyo3::prelude::*;

/// An unsigned 64-bit argument. PyO3 converts a `u64` by a call that is slow for numbers above 2^30, which amounts and times are; where
/// C's `unsigned long` has 64 bits there is a faster one.
#[derive(Clone, Copy)]
pub struct Word(pub u64);

impl<'a, 'py> FromPyObject<'a, 'py> for Word {
    type Error = PyErr;

    #[inline(always)]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        const { assert!(c_ulong::BITS == 64, "Unix on 64 bits") };
        // SAFETY: a plain call of the C API with a valid object, holding the GIL; it sets an exception when it returns the error value.
        let value = unsafe { ffi::PyLong_AsUnsignedLong(object.as_ptr()) };
        if value == c_ulong::MAX {
            return largest_or_error(object);
        }
        Ok(Self(value))
    }
}

#[cold]
fn largest_or_error(object: Borrowed<'_, '_, PyAny>) -> PyResult<Word> {
    match PyErr::take(object.py()) {
        None => Ok(Word(u64::MAX)),
        Some(error)
            if error.is_instance_of::<PyOverflowError>(object.py())
                || object.is_instance_of::<pyo3::types::PyInt>() =>
        {
            Err(error)
        }
        // Not an `int`, but perhaps something that stands for one, like numpy's integers.
        Some(_) => object.extract().map(Word),
    }
}

/// A signed 64-bit argument, likewise.
#[derive(Clone, Copy)]
pub struct Signed(pub i64);

impl<'a, 'py> FromPyObject<'a, 'py> for Signed {
    type Error = PyErr;

    #[inline(always)]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        const { assert!(c_long::BITS == 64, "Unix on 64 bits") };
        // SAFETY: as above.
        let value = unsafe { ffi::PyLong_AsLong(object.as_ptr()) };
        if value == -1 {
            return match PyErr::take(object.py()) {
                None => Ok(Self(value)),
                Some(error) => Err(error),
            };
        }
        Ok(Self(value))
    }
}

/// A float argument: a look into the object where it is a `float`, which PyO3 makes a call of.
#[derive(Clone, Copy)]
pub struct Float(pub f64);

impl<'a, 'py> FromPyObject<'a, 'py> for Float {
    type Error = PyErr;

    #[inline(always)]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        // SAFETY: a valid object, holding the GIL, and looked into only where its type is exactly `float`.
        unsafe {
            if ffi::PyFloat_CheckExact(object.as_ptr()) != 0 {
                return Ok(Self(ffi::PyFloat_AS_DOUBLE(object.as_ptr())));
            }
        }
        object.extract().map(Self)
    }
}
