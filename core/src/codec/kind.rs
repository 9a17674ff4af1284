//! The kinds of field a table can have: how each is verified, read, written, taken from Python and given back.
//!
//! Strings, bytes and vectors are kept as the Python objects they will be handed out as, numbers as numbers: so a string
//! attribute costs no more than a slot, and a number costs its conversion only when it is read.

use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};

use super::enumeration::{Enumeration, Number};
use super::inline::{Inline, wrong_type};
use super::invalid::Reason;
use super::verify::{self, Verifier};
use super::write::Writer;

/// One kind of field. `Stored` is what the message object holds.
pub trait Kind {
    type Stored;
    type Default: Copy;
    /// Inline bytes, and alignment.
    const SIZE: usize;

    fn verify(check: &mut Verifier<'_>, at: usize) -> Result<(), Reason>;
    fn read(py: Python<'_>, buf: &[u8], at: usize) -> PyResult<Self::Stored>;
    fn absent(py: Python<'_>, default: Self::Default) -> Self::Stored;
    fn take(value: &Bound<'_, PyAny>, place: &'static str) -> PyResult<Self::Stored>;
    fn write(py: Python<'_>, value: &Self::Stored, out: &mut Writer, at: usize) -> PyResult<()>;
    fn share(py: Python<'_>, value: &Self::Stored) -> Self::Stored;
    fn same(py: Python<'_>, one: &Self::Stored, other: &Self::Stored) -> PyResult<bool>;
    fn hash<H: Hasher>(py: Python<'_>, value: &Self::Stored, state: &mut H) -> PyResult<()>;
    fn object<'py>(py: Python<'py>, value: &Self::Stored) -> PyResult<Bound<'py, PyAny>>;
    /// The value as it stands in source.
    fn repr(py: Python<'_>, value: &Self::Stored) -> PyResult<String> {
        Ok(Self::object(py, value)?.repr()?.to_str()?.to_owned())
    }
    /// As `object`, in what JSON can hold.
    fn plain<'py>(py: Python<'py>, value: &Self::Stored) -> PyResult<Bound<'py, PyAny>>;
}

/// A number or a truth value.
pub struct Scalar<T>(PhantomData<T>);

impl<T: Inline> Kind for Scalar<T> {
    type Stored = T;
    type Default = T;
    const SIZE: usize = T::SIZE;

    #[inline]
    fn verify(_: &mut Verifier<'_>, _: usize) -> Result<(), Reason> {
        Ok(())
    }

    #[inline]
    fn read(_: Python<'_>, buf: &[u8], at: usize) -> PyResult<T> {
        Ok(T::read(buf, at))
    }

    #[inline]
    fn absent(_: Python<'_>, default: T) -> T {
        default
    }

    #[inline]
    fn take(value: &Bound<'_, PyAny>, place: &'static str) -> PyResult<T> {
        T::take(value, place)
    }

    #[inline]
    fn write(_: Python<'_>, value: &T, out: &mut Writer, at: usize) -> PyResult<()> {
        value.write(out, at);
        Ok(())
    }

    #[inline]
    fn share(_: Python<'_>, value: &T) -> T {
        *value
    }

    #[inline]
    fn same(_: Python<'_>, one: &T, other: &T) -> PyResult<bool> {
        Ok(one.bits() == other.bits())
    }

    fn hash<H: Hasher>(_: Python<'_>, value: &T, state: &mut H) -> PyResult<()> {
        value.bits().hash(state);
        Ok(())
    }

    fn object<'py>(py: Python<'py>, value: &T) -> PyResult<Bound<'py, PyAny>> {
        value.object(py)
    }

    fn plain<'py>(py: Python<'py>, value: &T) -> PyResult<Bound<'py, PyAny>> {
        value.plain(py)
    }
}

/// A value of an enumeration, kept as its number: one that the schema does not know yet stays what it is.
pub struct Member<E>(PhantomData<E>);

impl<E: Enumeration> Kind for Member<E> {
    type Stored = Number<E>;
    type Default = u8;
    const SIZE: usize = 1;

    #[inline]
    fn verify(_: &mut Verifier<'_>, _: usize) -> Result<(), Reason> {
        Ok(())
    }

    #[inline]
    fn read(_: Python<'_>, buf: &[u8], at: usize) -> PyResult<Number<E>> {
        Ok(Number::new(buf[at]))
    }

    #[inline]
    fn absent(_: Python<'_>, default: u8) -> Number<E> {
        Number::new(default)
    }

    #[inline]
    fn take(value: &Bound<'_, PyAny>, place: &'static str) -> PyResult<Number<E>> {
        // a plain int is taken as it is; a member must be of this enumeration
        if !value.is_exact_instance_of::<PyInt>() && !E::has(value)? {
            return Err(wrong_type(value, place, E::NAME));
        }
        u8::take(value, place).map(Number::new)
    }

    #[inline]
    fn write(_: Python<'_>, value: &Number<E>, out: &mut Writer, at: usize) -> PyResult<()> {
        out.put(at, &[value.get()]);
        Ok(())
    }

    #[inline]
    fn share(_: Python<'_>, value: &Number<E>) -> Number<E> {
        Number::new(value.get())
    }

    #[inline]
    fn same(_: Python<'_>, one: &Number<E>, other: &Number<E>) -> PyResult<bool> {
        Ok(one.get() == other.get())
    }

    fn hash<H: Hasher>(_: Python<'_>, value: &Number<E>, state: &mut H) -> PyResult<()> {
        value.get().hash(state);
        Ok(())
    }

    fn object<'py>(py: Python<'py>, value: &Number<E>) -> PyResult<Bound<'py, PyAny>> {
        value.into_pyobject(py)
    }

    fn repr(_: Python<'_>, value: &Number<E>) -> PyResult<String> {
        Ok(match E::name_of(value.get()) {
            Some(name) => format!("{}.{name}", E::NAME),
            None => value.get().to_string(),
        })
    }

    fn plain<'py>(py: Python<'py>, value: &Number<E>) -> PyResult<Bound<'py, PyAny>> {
        match E::name_of(value.get()) {
            Some(name) => name.into_bound_py_any(py),
            None => value.get().into_bound_py_any(py),
        }
    }
}

/// A string; an absent one is empty.
pub struct Text;

impl Kind for Text {
    type Stored = Py<PyString>;
    type Default = ();
    const SIZE: usize = 4;

    #[inline]
    fn verify(check: &mut Verifier<'_>, at: usize) -> Result<(), Reason> {
        check.string(at)
    }

    #[inline]
    fn read(py: Python<'_>, buf: &[u8], at: usize) -> PyResult<Py<PyString>> {
        Ok(PyString::from_bytes(py, verify::contents(buf, at))?.unbind())
    }

    #[inline]
    fn absent(py: Python<'_>, (): ()) -> Py<PyString> {
        PyString::new(py, "").unbind()
    }

    #[inline]
    fn take(value: &Bound<'_, PyAny>, place: &'static str) -> PyResult<Py<PyString>> {
        let text = value
            .cast::<PyString>()
            .map_err(|_| wrong_type(value, place, "str"))?;
        let utf8 = text.to_str().map_err(|_| {
            PyValueError::new_err(format!(
                "{place}: a lone surrogate can not be written as UTF-8"
            ))
        })?;
        if value.is_exact_instance_of::<PyString>() {
            Ok(text.clone().unbind())
        } else {
            // a subclass of str may carry state of its own
            Ok(PyString::new(value.py(), utf8).unbind())
        }
    }

    #[inline]
    fn write(py: Python<'_>, value: &Py<PyString>, out: &mut Writer, at: usize) -> PyResult<()> {
        out.bytes(at, value.to_str(py)?.as_bytes());
        Ok(())
    }

    #[inline]
    fn share(py: Python<'_>, value: &Py<PyString>) -> Py<PyString> {
        value.clone_ref(py)
    }

    #[inline]
    fn same(py: Python<'_>, one: &Py<PyString>, other: &Py<PyString>) -> PyResult<bool> {
        Ok(one.is(other) || one.to_str(py)? == other.to_str(py)?)
    }

    fn hash<H: Hasher>(py: Python<'_>, value: &Py<PyString>, state: &mut H) -> PyResult<()> {
        value.to_str(py)?.hash(state);
        Ok(())
    }

    fn object<'py>(py: Python<'py>, value: &Py<PyString>) -> PyResult<Bound<'py, PyAny>> {
        Ok(value.bind(py).clone().into_any())
    }

    fn plain<'py>(py: Python<'py>, value: &Py<PyString>) -> PyResult<Bound<'py, PyAny>> {
        Self::object(py, value)
    }
}

/// Bytes; absent ones are empty.
pub struct Blob;

impl Kind for Blob {
    type Stored = Py<PyBytes>;
    type Default = ();
    const SIZE: usize = 4;

    #[inline]
    fn verify(check: &mut Verifier<'_>, at: usize) -> Result<(), Reason> {
        check.bytes(at)
    }

    #[inline]
    fn read(py: Python<'_>, buf: &[u8], at: usize) -> PyResult<Py<PyBytes>> {
        Ok(PyBytes::new(py, verify::contents(buf, at)).unbind())
    }

    #[inline]
    fn absent(py: Python<'_>, (): ()) -> Py<PyBytes> {
        PyBytes::new(py, b"").unbind()
    }

    #[inline]
    fn take(value: &Bound<'_, PyAny>, place: &'static str) -> PyResult<Py<PyBytes>> {
        match value.cast_exact::<PyBytes>() {
            Ok(bytes) => Ok(bytes.clone().unbind()),
            Err(_) => Err(wrong_type(value, place, "bytes")),
        }
    }

    #[inline]
    fn write(py: Python<'_>, value: &Py<PyBytes>, out: &mut Writer, at: usize) -> PyResult<()> {
        out.bytes(at, value.as_bytes(py));
        Ok(())
    }

    #[inline]
    fn share(py: Python<'_>, value: &Py<PyBytes>) -> Py<PyBytes> {
        value.clone_ref(py)
    }

    #[inline]
    fn same(py: Python<'_>, one: &Py<PyBytes>, other: &Py<PyBytes>) -> PyResult<bool> {
        Ok(one.is(other) || one.as_bytes(py) == other.as_bytes(py))
    }

    fn hash<H: Hasher>(py: Python<'_>, value: &Py<PyBytes>, state: &mut H) -> PyResult<()> {
        value.as_bytes(py).hash(state);
        Ok(())
    }

    fn object<'py>(py: Python<'py>, value: &Py<PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        Ok(value.bind(py).clone().into_any())
    }

    /// Base64, as JSON customarily carries bytes.
    fn plain<'py>(py: Python<'py>, value: &Py<PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        py.import("base64")?
            .call_method1("b64encode", (value,))?
            .call_method1("decode", ("ascii",))
    }
}
