//! The atomics that the protocol runs on. The model test gives `protocol.rs` another `sync` module.

pub use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Let the other side get on: first by idling the core for a moment, then by giving it up, so that a writer that was descheduled
/// in the middle of a record can finish it.
pub fn pause(attempt: u32) {
    if attempt < 64 {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// How often a reader tries before it answers that the record is busy.
pub const ATTEMPTS: u32 = 192;
