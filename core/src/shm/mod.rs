//! Shared memory: quote tables, pool snapshots and the permit word, as memory-mapped files.
//!
//! This is the only place in the crate where `unsafe` is allowed. It is needed for two things: to look at a mapped file as atomic
//! words (`region.rs`), and to lend a snapshot's memory to Python (`python/snapshot.rs`). The protocol itself (`protocol.rs`) is safe
//! code over `&[AtomicU64]`, so that the same source runs under a model checker.
//!
//! Invariants. Every function of this module may rely on them, and must keep them.
//!
//! 1. A file is complete before it has its name: it is built under another name and linked into place. From then on it is never
//!    truncated, and never replaced while its writer lives. A successor works in the same file, or puts a new file under the name
//!    after marking the old one retired.
//! 2. One writer: whoever holds the exclusive `flock` on the file. Every word has exactly one writing process, except the permit
//!    word's halt counter, which any process may only raise.
//! 3. Shared words are only touched through atomics, never through plain references. Readers map read-only and use relaxed loads
//!    with an acquire fence, the form that Rust defines for read-only memory.
//! 4. A seqlock's sequence is odd while its record is being written and even while it is whole. Every other word of the record is
//!    written between the two. Only a dead writer leaves it odd; its successor voids the record and makes it even.
//! 5. `head` of the change ring never goes down, and moves only at a commit, after the ring slots and the commit record. `reserved`
//!    is raised before a slot is overwritten, so a reader that finds `reserved - cursor > ring` knows that it was lapped.
//! 6. A successor moves `head` on by more than the ring: every reader is lapped and looks at everything once.
//! 7. Directory records are appended, never changed: first the bytes, then the record's length word, then the count.
//! 8. Every page that is written through a mapping has been allocated before (`fallocate`): a full disk is an error, not a SIGBUS.
//!    Readers never touch a page that the writer has not allocated.
//! 9. Retries are bounded. A reader that cannot get a whole record says so; it never returns a torn one and never waits for ever.
#![allow(unsafe_code)]

mod blobs;
mod clock;
mod directory;
mod error;
mod file;
mod permit;
mod protocol;
mod python;
mod region;
mod ring;
mod sync;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

pub use python::register;
