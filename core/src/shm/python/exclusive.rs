use std::cell::UnsafeCell;

use pyo3::Python;

/// A value that one thread at a time may change, because it holds the GIL. PyO3's own borrow flag costs two locked instructions, a
/// quarter of a write. The module asks for the GIL (`gil_used` in `lib.rs`), so a free-threaded interpreter turns it on.
pub struct Exclusive<T>(UnsafeCell<T>);

// SAFETY: `with` is the only access, and needs the GIL.
unsafe impl<T: Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    pub fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Use the value. `work` must not run Python code or give up the GIL: nobody else may come in meanwhile.
    #[inline]
    pub fn with<'py, R>(&self, _holds_gil: Python<'py>, work: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: the token proves that this thread holds the GIL, and `work` keeps it, so there is no second reference.
        work(unsafe { &mut *self.0.get() })
    }
}
