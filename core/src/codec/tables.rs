//! Tables inside tables.

use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use pyo3::IntoPyObjectExt;
use pyo3::PyTypeInfo;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::inline::wrong_type;
use super::invalid::Reason;
use super::kind::Kind;
use super::verify::{self, Verifier};
use super::write::Writer;

/// A table that stands inside others.
pub trait Part: Sized {
    const NAME: &'static str;

    fn verify(check: &mut Verifier<'_>, position: usize) -> Result<(), Reason>;
    fn read(py: Python<'_>, buf: &[u8], position: usize) -> PyResult<Py<Self>>;
    /// Write the table, with the vtable that stands at `vtable` already, or its own; return where table and vtable stand.
    fn write(
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        out: &mut Writer,
        vtable: Option<usize>,
    ) -> PyResult<(usize, usize)>;
    fn is(value: &Bound<'_, PyAny>) -> bool;
}

/// A table that becomes an object when the tuple asks for it, so that no list of objects is made first.
struct Element<'a, T>(&'a [u8], usize, PhantomData<T>);

impl<'py, T: Part + PyTypeInfo> IntoPyObject<'py> for Element<'_, T> {
    type Target = T;
    type Output = Bound<'py, T>;
    type Error = PyErr;

    #[inline]
    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, T>> {
        Ok(T::read(py, self.0, self.1)?.into_bound(py))
    }
}

/// A vector of tables, handed out as a tuple; an absent one is empty.
pub struct Tables<T>(PhantomData<T>);

impl<T: Part + PyTypeInfo> Kind for Tables<T> {
    type Stored = Py<PyTuple>;
    type Default = ();
    const SIZE: usize = 4;

    #[inline]
    fn verify(check: &mut Verifier<'_>, at: usize) -> Result<(), Reason> {
        check.tables(at, T::verify)
    }

    #[inline]
    fn read(py: Python<'_>, buf: &[u8], at: usize) -> PyResult<Py<PyTuple>> {
        let (start, count) = verify::elements(buf, at);
        let elements = (0..count).map(|index| {
            let element = start + 4 * index;
            let position = element + verify::u32_at(buf, element).unwrap_or(0) as usize;
            Element::<T>(buf, position, PhantomData)
        });
        Ok(PyTuple::new(py, elements)?.unbind())
    }

    #[inline]
    fn absent(py: Python<'_>, (): ()) -> Py<PyTuple> {
        PyTuple::empty(py).unbind()
    }

    fn take(value: &Bound<'_, PyAny>, place: &'static str) -> PyResult<Py<PyTuple>> {
        let expected = || format!("a sequence of {}", T::NAME);
        let tuple = match value.cast_exact::<PyTuple>() {
            Ok(tuple) => tuple.clone(),
            // a string is a sequence too, of the wrong things: its first element is refused below
            Err(_) if value.try_iter().is_ok() => {
                PyTuple::new(value.py(), value.try_iter()?.collect::<PyResult<Vec<_>>>()?)?
            }
            Err(_) => return Err(wrong_type(value, place, &expected())),
        };
        match tuple.iter().find(|item| !T::is(item)) {
            Some(other) => Err(wrong_type(&other, place, &expected())),
            None => Ok(tuple.unbind()),
        }
    }

    #[inline]
    fn write(py: Python<'_>, value: &Py<PyTuple>, out: &mut Writer, at: usize) -> PyResult<()> {
        let tuple = value.bind(py);
        let start = out.offsets(at, tuple.len());
        let mut vtable = None;
        for (index, item) in tuple.iter_borrowed().enumerate() {
            let (position, written) = T::write(py, &item, out, vtable)?;
            vtable = Some(written);
            out.point(start + 4 * index, position);
        }
        Ok(())
    }

    #[inline]
    fn share(py: Python<'_>, value: &Py<PyTuple>) -> Py<PyTuple> {
        value.clone_ref(py)
    }

    #[inline]
    fn same(py: Python<'_>, one: &Py<PyTuple>, other: &Py<PyTuple>) -> PyResult<bool> {
        one.bind(py).eq(other)
    }

    fn hash<H: Hasher>(py: Python<'_>, value: &Py<PyTuple>, state: &mut H) -> PyResult<()> {
        value.bind(py).hash()?.hash(state);
        Ok(())
    }

    fn object<'py>(py: Python<'py>, value: &Py<PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        Ok(value.bind(py).clone().into_any())
    }

    fn plain<'py>(py: Python<'py>, value: &Py<PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        value
            .bind(py)
            .iter()
            .map(|item| item.call_method0("to_dict"))
            .collect::<PyResult<Vec<_>>>()?
            .into_bound_py_any(py)
    }
}
