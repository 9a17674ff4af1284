//! Message classes: the definitions that `make schemas` wrote, expanded here into frozen Python classes.

use std::cell::Cell;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hasher};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::enumeration::{Enumeration, Members};
use super::invalid::Reason;
use super::kind::{Blob, Kind, Member, Scalar, Text};
use super::tables::{Part, Tables};
use super::verify::{self, Table, Verifier};
use super::write::Writer;

thread_local! {
    /// The allocation that the last message was written into, kept for the next.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}
/// A scratch allocation that grew past this is given back.
const SCRATCH_KEPT: usize = 1 << 20;

/// A table with a file identifier.
trait Message: Part {
    const TAG: &'static [u8];
}

/// Lend the bytes of `buf` to `read`; anything but `bytes` is copied first, for it could change meanwhile.
#[inline]
fn with_bytes<T>(buf: &Bound<'_, PyAny>, read: impl FnOnce(&[u8]) -> PyResult<T>) -> PyResult<T> {
    if let Ok(bytes) = buf.cast::<PyBytes>() {
        return read(bytes.as_bytes());
    }
    let view = PyBuffer::<u8>::get(buf)
        .map_err(|_| PyTypeError::new_err(format!("expected bytes, got {}", buf.get_type())))?;
    if view.len_bytes() > verify::MAX_BUFFER {
        return Err(Reason::TooLong.at(""));
    }
    read(&view.to_vec(buf.py())?)
}

/// Verify a whole message, then read it.
#[inline]
fn read_message<T: Message>(py: Python<'_>, buf: &[u8]) -> PyResult<Py<T>> {
    let position = verify::root(buf, T::TAG).map_err(|reason| reason.at(T::NAME))?;
    let mut check = Verifier::new(buf);
    if let Err(reason) = T::verify(&mut check, position) {
        return Err(reason.at(if check.place().is_empty() {
            T::NAME
        } else {
            check.place()
        }));
    }
    T::read(py, buf, position)
}

/// Write a whole message.
#[inline]
fn write_message<'py, T: Message>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = value.py();
    let mut out = Writer::new(SCRATCH.take(), T::TAG);
    let (position, _) = T::write(py, value, &mut out, None)?;
    let written = out.finish(position).map_err(|reason| reason.at(T::NAME))?;
    let bytes = PyBytes::new(py, &written);
    if written.capacity() <= SCRATCH_KEPT {
        SCRATCH.set(written);
    }
    Ok(bytes)
}

/// Return the vtable of a table with the layout that the generator fixed; a retired field's slot stays zero.
const fn vtable<const LENGTH: usize>(
    slots: usize,
    size: usize,
    fields: &[(usize, usize)],
) -> [u8; LENGTH] {
    let mut out = [0; LENGTH];
    let head = ((4 + 2 * slots) as u16).to_le_bytes();
    let inline = (size as u16).to_le_bytes();
    (out[0], out[1], out[2], out[3]) = (head[0], head[1], inline[0], inline[1]);
    let mut index = 0;
    while index < fields.len() {
        let (slot, at) = fields[index];
        let offset = (at as u16).to_le_bytes();
        (out[4 + 2 * slot], out[5 + 2 * slot]) = (offset[0], offset[1]);
        index += 1;
    }
    out
}

/// A keyword argument that may be left out. `None` is not left out, it is a value, and of the wrong type.
pub struct Given<'py>(Option<Bound<'py, PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'py> {
    type Error = Infallible;

    #[inline]
    fn extract(value: Borrowed<'a, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Self(Some(value.to_owned())))
    }
}

impl<'py> Given<'py> {
    /// Return the argument as the field's kind takes it, or what stands in for it.
    #[inline]
    fn or<K: Kind>(
        &self,
        place: &'static str,
        otherwise: impl FnOnce() -> K::Stored,
    ) -> PyResult<K::Stored> {
        match &self.0 {
            Some(value) => K::take(value, place),
            None => Ok(otherwise()),
        }
    }
}

macro_rules! enumeration {
    ($(#[doc = $doc:literal])* $name:ident { $($value:ident = $number:literal,)* }) => {
        pub struct $name;

        impl Enumeration for $name {
            const NAME: &'static str = stringify!($name);
            const DOC: &'static str = concat!($($doc),*);
            const VALUES: &'static [(&'static str, u8)] = &[$((stringify!($value), $number)),*];

            fn cell() -> &'static PyOnceLock<Members> {
                static CELL: PyOnceLock<Members> = PyOnceLock::new();
                &CELL
            }
        }
    };
}

/// A table that stands inside others.
macro_rules! part {
    ($($definition:tt)*) => {
        table! { { $($definition)* } }
    };
}

/// A table that travels on its own.
macro_rules! message {
    ($(#[doc = $doc:literal])* $name:ident $identifier:literal slots $($rest:tt)*) => {
        table! {
            { $(#[doc = $doc])* $name slots $($rest)* }

            /// Bytes 4 to 8 of the message's buffer.
            #[classattr]
            const IDENTIFIER: &'static str = $identifier;

            /// Return the message as a FlatBuffer.
            fn encode<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyBytes>> {
                write_message::<Self>(slf.as_any())
            }

            /// Verify a FlatBuffer and return its message; raise InvalidMessage where it is not a whole, well-formed one.
            #[staticmethod]
            #[pyo3(signature = (buf, /))]
            fn decode(py: Python<'_>, buf: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
                with_bytes(buf, |buf| read_message::<Self>(py, buf))
            }
        }

        impl Message for $name {
            const TAG: &'static [u8] = $identifier.as_bytes();
        }
    };
}

macro_rules! table {
    (
        {
            $(#[doc = $doc:literal])*
            $name:ident slots $slots:literal size $size:literal signature $signature:literal {
                $($field:ident: $kind:ty = $default:expr, slot $slot:literal at $at:literal;)*
            }
        }
        $($method:tt)*
    ) => {
        $(#[doc = $doc])*
        #[pyclass(frozen, module = "pipeline.messages")]
        pub struct $name {
            $(#[pyo3(get)] $field: <$kind as Kind>::Stored,)*
        }

        impl $name {
            const VTABLE: [u8; 4 + 2 * $slots] = vtable($slots, $size, &[$(($slot, $at)),*]);
        }

        impl Part for $name {
            const NAME: &'static str = stringify!($name);

            fn verify(check: &mut Verifier<'_>, position: usize) -> Result<(), Reason> {
                let table = match check.enter(position) {
                    Ok(table) => table,
                    Err(reason) => return Err(check.refuse(reason, stringify!($name))),
                };
                let known = table.has_layout(&Self::VTABLE);
                $(
                    let at = if known { Ok(position + $at) } else { table.checked_field($slot, <$kind as Kind>::SIZE) };
                    let checked = match at {
                        Ok(0) => Ok(()),
                        Ok(at) => <$kind as Kind>::verify(check, at),
                        Err(reason) => Err(reason),
                    };
                    if let Err(reason) = checked {
                        return Err(check.refuse(reason, concat!(stringify!($name), ".", stringify!($field))));
                    }
                )*
                check.leave();
                Ok(())
            }

            fn read(py: Python<'_>, buf: &[u8], position: usize) -> PyResult<Py<Self>> {
                let table = Table::find(buf, position).map_err(|reason| reason.at(Self::NAME))?;
                let known = table.has_layout(&Self::VTABLE);
                Py::new(py, Self {
                    $($field: match if known { position + $at } else { table.field($slot) } {
                        0 => <$kind as Kind>::absent(py, $default),
                        at => <$kind as Kind>::read(py, buf, at)?,
                    },)*
                })
            }

            fn write(
                py: Python<'_>,
                value: &Bound<'_, PyAny>,
                out: &mut Writer,
                vtable: Option<usize>,
            ) -> PyResult<(usize, usize)> {
                let this = value.cast::<Self>()?.get();
                let (position, vtable) = out.table(&Self::VTABLE, $size, vtable);
                $(<$kind as Kind>::write(py, &this.$field, out, position + $at)?;)*
                Ok((position, vtable))
            }

            fn is(value: &Bound<'_, PyAny>) -> bool {
                value.is_exact_instance_of::<Self>()
            }
        }

        #[pymethods]
        impl $name {
            #[new]
            #[pyo3(signature = (*, $($field = Given(None)),*), text_signature = $signature)]
            #[allow(clippy::too_many_arguments)]
            fn new<'py>(py: Python<'py>, $($field: Given<'py>),*) -> PyResult<Self> {
                Ok(Self {
                    $($field: $field.or::<$kind>(
                        concat!(stringify!($name), ".", stringify!($field)),
                        || <$kind as Kind>::absent(py, $default),
                    )?,)*
                })
            }

            #[classattr]
            #[pyo3(name = "FIELDS")]
            fn field_names(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
                PyTuple::new(py, [$(pyo3::intern!(py, stringify!($field))),*])
            }

            /// Return a copy with some fields changed.
            #[pyo3(signature = (*, $($field = Given(None)),*))]
            #[allow(clippy::too_many_arguments)]
            fn replace<'py>(&self, py: Python<'py>, $($field: Given<'py>),*) -> PyResult<Self> {
                Ok(Self {
                    $($field: $field.or::<$kind>(
                        concat!(stringify!($name), ".", stringify!($field)),
                        || <$kind as Kind>::share(py, &self.$field),
                    )?,)*
                })
            }

            /// Return the fields as JSON can hold them: enumerations by name, bytes in base64.
            fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
                let out = PyDict::new(py);
                $(out.set_item(pyo3::intern!(py, stringify!($field)), <$kind as Kind>::plain(py, &self.$field)?)?;)*
                Ok(out)
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let fields = [$((stringify!($field), <$kind as Kind>::repr(py, &self.$field)?)),*];
                let mut out = String::from(concat!(stringify!($name), "("));
                for (index, (field, value)) in fields.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    out.push_str(field);
                    out.push('=');
                    out.push_str(value);
                }
                out.push(')');
                Ok(out)
            }

            fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
                let Ok(other) = other.cast::<Self>() else {
                    return Ok(py.NotImplemented());
                };
                let other = other.get();
                let same = true $(&& <$kind as Kind>::same(py, &self.$field, &other.$field)?)*;
                Ok(pyo3::types::PyBool::new(py, same).to_owned().into_any().unbind())
            }

            fn __hash__(&self, py: Python<'_>) -> PyResult<u64> {
                let mut state = DefaultHasher::new();
                $(<$kind as Kind>::hash(py, &self.$field, &mut state)?;)*
                Ok(state.finish())
            }

            /// Pickle and copy by fields.
            fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
                let fields = PyDict::new(py);
                $(fields.set_item(pyo3::intern!(py, stringify!($field)), <$kind as Kind>::object(py, &self.$field)?)?;)*
                Ok((PyTuple::empty(py), fields))
            }

            $($method)*
        }
    };
}

/// What there is: registration, and the way from an identifier to its message.
macro_rules! catalogue {
    (
        enumerations: $($enumeration:ident),*;
        tables: $($table:ident),*;
        messages: $($message:ident),*;
    ) => {
        pub fn register_classes(module: &Bound<'_, PyModule>) -> PyResult<()> {
            $(module.add(stringify!($enumeration), $enumeration::class(module.py())?)?;)*
            $(module.add_class::<$table>()?;)*
            Ok(())
        }

        fn read_any(py: Python<'_>, buf: &[u8]) -> PyResult<Py<PyAny>> {
            match buf.get(4..8).filter(|_| buf.len() >= verify::MIN_BUFFER) {
                None => Err(Reason::TooShort.at("")),
                $(Some(tag) if tag == $message::TAG => Ok(read_message::<$message>(py, buf)?.into_any()),)*
                Some(_) => Err(Reason::UnknownIdentifier.at("")),
            }
        }
    };
}

/// Verify a FlatBuffer and return its message, whichever its identifier names.
#[pyfunction]
#[pyo3(signature = (buf, /))]
pub fn decode(py: Python<'_>, buf: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    with_bytes(buf, |buf| read_any(py, buf))
}

include!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../generated/messages.rs"
));
