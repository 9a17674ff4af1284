//! The seqlock, over plain slices of atomic words. Word 0 of a record is its sequence, the rest is its content.
//!
//! The orderings are those of Boehm, "Can seqlocks get along with programming language memory models?" (2012): relaxed accesses to the
//! content, a release fence after the odd sequence and an acquire fence before the second look. They hold on arm64 as on x86-64.

use super::sync::{ATTEMPTS, AtomicU64, Ordering, fence, pause};

/// Load for reading what was published before it. A relaxed load with a fence, because the memory may be mapped read-only.
#[inline]
pub fn load_acquire(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

/// Open a record for writing and return its odd sequence. A record left odd by a dead writer keeps its sequence.
#[inline]
pub fn begin(sequence: &AtomicU64) -> u64 {
    let odd = sequence.load(Ordering::Relaxed) | 1;
    sequence.store(odd, Ordering::Relaxed);
    fence(Ordering::Release);
    odd
}

/// Close a record that `begin` opened.
#[inline]
pub fn end(sequence: &AtomicU64, odd: u64) {
    sequence.store(odd.wrapping_add(1), Ordering::Release);
}

/// Write the content of a record, as its only writer.
#[inline]
pub fn write(record: &[AtomicU64], content: &[u64]) {
    debug_assert_eq!(record.len(), content.len() + 1);
    let odd = begin(&record[0]);
    for (word, value) in record[1..].iter().zip(content) {
        word.store(*value, Ordering::Relaxed);
    }
    end(&record[0], odd);
}

/// Try to read a record once; `false` when it was being written.
#[inline]
pub fn try_read(record: &[AtomicU64], content: &mut [u64]) -> bool {
    debug_assert_eq!(record.len(), content.len() + 1);
    let before = load_acquire(&record[0]);
    if before & 1 == 1 {
        return false;
    }
    for (word, value) in record[1..].iter().zip(content.iter_mut()) {
        *value = word.load(Ordering::Relaxed);
    }
    fence(Ordering::Acquire);
    record[0].load(Ordering::Relaxed) == before
}

/// Read a whole record, with bounded retries. Returns the number of retries, or `None` when no whole record was to be had.
#[inline]
pub fn read(record: &[AtomicU64], content: &mut [u64]) -> Option<u32> {
    if try_read(record, content) {
        return Some(0);
    }
    for attempt in 1..ATTEMPTS {
        pause(attempt);
        if try_read(record, content) {
            return Some(attempt);
        }
    }
    None
}

/// Read a record without the protocol. Only for the test and the benchmark that show what the protocol is for.
#[inline]
pub fn read_unprotected(record: &[AtomicU64], content: &mut [u64]) {
    for (word, value) in record[1..].iter().zip(content.iter_mut()) {
        *value = word.load(Ordering::Relaxed);
    }
}

/// True when a writer died inside the record (or is inside it now).
pub fn is_open(sequence: &AtomicU64) -> bool {
    load_acquire(sequence) & 1 == 1
}
