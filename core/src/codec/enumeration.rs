//! Enumerations: an `IntEnum` on the Python side, a number inside a message.

use std::marker::PhantomData;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

/// The Python class of an enumeration, and its members by number.
pub struct Members {
    class: Py<PyAny>,
    by_number: Vec<Option<Py<PyAny>>>,
}

/// An enumeration of the schemas; its underlying type is `ubyte`.
pub trait Enumeration: 'static {
    const NAME: &'static str;
    const DOC: &'static str;
    const VALUES: &'static [(&'static str, u8)];

    fn cell() -> &'static PyOnceLock<Members>;

    /// Return the name of a number, where the schema has one.
    fn name_of(number: u8) -> Option<&'static str> {
        Self::VALUES
            .iter()
            .find(|(_, value)| *value == number)
            .map(|(name, _)| *name)
    }

    /// Return the class and members, made on first use.
    fn members(py: Python<'_>) -> PyResult<&'static Members> {
        Self::cell().get_or_try_init(py, || {
            let values = PyList::new(py, Self::VALUES)?;
            let options = PyDict::new(py);
            options.set_item("module", "pipeline.messages")?;
            let class = py
                .import("enum")?
                .getattr("IntEnum")?
                .call((Self::NAME, values), Some(&options))?;
            class.setattr("__doc__", Self::DOC.trim())?;
            let last = Self::VALUES
                .iter()
                .map(|(_, number)| *number)
                .max()
                .unwrap_or(0);
            let mut by_number: Vec<Option<Py<PyAny>>> = (0..=last).map(|_| None).collect();
            for (name, number) in Self::VALUES {
                by_number[usize::from(*number)] = Some(class.getattr(*name)?.unbind());
            }
            Ok(Members {
                class: class.unbind(),
                by_number,
            })
        })
    }

    fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
        Ok(Self::members(py)?.class.bind(py))
    }

    fn has(value: &Bound<'_, PyAny>) -> PyResult<bool> {
        value.is_instance(Self::class(value.py())?)
    }
}

/// A value of `E` by its number.
pub struct Number<E>(u8, PhantomData<E>);

impl<E> Number<E> {
    #[inline]
    pub fn new(number: u8) -> Self {
        Self(number, PhantomData)
    }

    #[inline]
    pub fn get(&self) -> u8 {
        self.0
    }
}

impl<'py, E: Enumeration> IntoPyObject<'py> for &Number<E> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    /// The member, or the plain number where the schema has no name for it yet.
    #[inline]
    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match E::members(py)?.by_number.get(usize::from(self.0)) {
            Some(Some(member)) => Ok(member.bind(py).clone()),
            _ => self.0.into_bound_py_any(py),
        }
    }
}
