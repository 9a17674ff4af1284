use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyBufferError, PyIndexError};
use pyo3::ffi;
use pyo3::prelude::*;

use super::super::table::{Content, ENTRY_WORDS, Quote, Snapshot, VOID, factors};

/// One quote, as it stood in the table.
#[pyclass(frozen, eq, module = "pipeline._core")]
#[derive(PartialEq)]
pub struct QuoteEntry {
    index: usize,
    quote: Quote,
}

impl QuoteEntry {
    #[inline]
    pub fn new(index: usize, quote: Quote) -> Self {
        Self { index, quote }
    }
}

macro_rules! getters {
    ($($name:ident: $type:ty),* $(,)?) => {
        #[pymethods]
        impl QuoteEntry {
            #[getter]
            fn index(&self) -> usize {
                self.index
            }

            /// True when its amounts mean nothing: never written, or its writer died in it.
            #[getter]
            fn void(&self) -> bool {
                self.quote.staleness == VOID
            }

            /// What the confidence was weighed from: age, hops, oracle, provider, slippage; each 0 to 1, to a 4095th.
            #[getter]
            fn factors(&self) -> (f64, f64, f64, f64, f64) {
                factors::unpack(self.quote.factors).into()
            }

            /// What the confidence allows, numbered as `ConfidenceBand`: skip 0, cautious 1, verify 2, execute 3.
            #[getter]
            fn band(&self) -> u8 {
                factors::band(self.quote.confidence)
            }

            $(
                #[getter]
                fn $name(&self) -> $type {
                    self.quote.$name
                }
            )*

            fn __repr__(&self) -> String {
                let mut text = format!("QuoteEntry(index={}", self.index);
                $(text.push_str(&format!(", {}={:?}", stringify!($name), self.quote.$name));)*
                text.push_str(&format!(", factors={:?})", factors::unpack(self.quote.factors)));
                text
            }
        }
    };
}

getters! {
    pool: u32,
    pair: u32,
    token_in: u16,
    token_out: u16,
    provider: u16,
    protocol: u8,
    staleness: u8,
    amount_index: u32,
    amount_in: u64,
    amount_out: u64,
    slot: u64,
    write_version: u64,
    quoted_ns: i64,
    price_impact_bps: f64,
    confidence: f64,
    oracle_amount_out: u64,
    route: u64,
    fee_amount: u64,
    hops: u32,
    batch: u64,
}

/// Memory of an earlier snapshot, used again by the next: fresh pages would cost more than the copy.
#[derive(Clone, Default)]
pub struct Spare(Arc<Mutex<Option<Vec<u64>>>>);

impl Spare {
    pub fn take(&self) -> Vec<u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .unwrap_or_default()
    }

    fn give(&self, words: Vec<u64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
    }
}

/// Every entry of a table, each whole.
///
/// Indexing makes one `QuoteEntry` (`None` where the entry was busy); `memoryview(snapshot)` is the raw entries, 128
/// bytes each, zeros where one was busy.
#[pyclass(frozen, module = "pipeline._core")]
pub struct QuoteSnapshot {
    snapshot: Snapshot,
    spare: Spare,
}

impl QuoteSnapshot {
    pub fn new(snapshot: Snapshot, spare: Spare) -> Self {
        Self { snapshot, spare }
    }
}

impl Drop for QuoteSnapshot {
    fn drop(&mut self) {
        self.spare.give(std::mem::take(&mut self.snapshot.words));
    }
}

#[pymethods]
impl QuoteSnapshot {
    fn __len__(&self) -> usize {
        self.snapshot.words.len() / ENTRY_WORDS
    }

    fn __getitem__(&self, index: isize) -> PyResult<Option<QuoteEntry>> {
        let length = self.snapshot.words.len() / ENTRY_WORDS;
        let at = if index < 0 {
            index + length.cast_signed()
        } else {
            index
        };
        let at = usize::try_from(at)
            .ok()
            .filter(|at| *at < length)
            .ok_or_else(|| PyIndexError::new_err(index))?;
        if self
            .snapshot
            .busy
            .contains(&u32::try_from(at).unwrap_or(u32::MAX))
        {
            return Ok(None);
        }
        let start = at * ENTRY_WORDS + 1;
        let content: &Content = self.snapshot.words[start..start + ENTRY_WORDS - 1]
            .try_into()
            .expect("one entry");
        Ok(Some(QuoteEntry::new(at, Quote::from_words(content))))
    }

    /// Slot of the newest commit when it was taken.
    #[getter]
    fn slot(&self) -> u64 {
        self.snapshot.commit.slot
    }

    /// Market time of that commit, ns.
    #[getter]
    fn market_ns(&self) -> i64 {
        self.snapshot.commit.market_ns
    }

    /// Wall-clock time of that commit, ns.
    #[getter]
    fn committed_ns(&self) -> u64 {
        self.snapshot.commit.committed_ns
    }

    /// The ring's sequence at that commit.
    #[getter]
    fn sequence(&self) -> u64 {
        self.snapshot.commit.sequence
    }

    /// True when all entries belong to one commit: no batch was open meanwhile.
    #[getter]
    fn whole(&self) -> bool {
        self.snapshot.whole
    }

    /// Indices of the entries that were busy for all attempts.
    #[getter]
    fn busy(&self) -> Vec<u32> {
        self.snapshot.busy.clone()
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view"));
        }
        let words = &slf.get().snapshot.words;
        let bytes = isize::try_from(size_of_val(words.as_slice())).expect("a vector fits");
        // SAFETY: the buffer is this object's own vector, which is not changed or moved while the object lives; the view holds a
        // reference to the object, and is declared read-only.
        let result = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                words.as_ptr() as *mut c_void,
                bytes,
                1,
                flags,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}
