//! The change ring, over a plain slice of atomic words: change number `n` stands in slot `n % size`.
//!
//! Safe code without knowledge of files, like `protocol.rs`, so that it runs under the model checker as well.

use super::protocol::load_acquire;
use super::sync::{AtomicU64, Ordering, fence};

/// Stands for "nothing changed, but there was a commit".
pub const NOTHING: u64 = u64::MAX;

/// The ring's three parts. `reserved` runs ahead of `head` while slots are overwritten.
pub struct Ring<'a> {
    pub head: &'a AtomicU64,
    pub reserved: &'a AtomicU64,
    pub slots: &'a [AtomicU64],
}

/// What a reader that stood at `position` finds.
pub enum Found {
    Changes(Vec<u64>),
    /// More changed than the ring holds.
    Lapped,
}

impl Ring<'_> {
    #[allow(clippy::cast_possible_truncation)]
    #[inline]
    fn slot(&self, number: u64) -> &AtomicU64 {
        &self.slots[(number % self.slots.len() as u64) as usize]
    }

    /// Write changes behind `head` without showing them; `show` does that. Returns the head to show.
    pub fn fill(&self, head: u64, changes: impl ExactSizeIterator<Item = u64>) -> u64 {
        let next = head + changes.len() as u64;
        self.reserved.store(next, Ordering::Relaxed);
        fence(Ordering::Release);
        // Of more changes than the ring has slots only the end would stay; every reader is lapped by them.
        let skipped = changes.len().saturating_sub(self.slots.len());
        for (number, change) in (head..next).zip(changes).skip(skipped) {
            self.slot(number).store(change, Ordering::Relaxed);
        }
        next
    }

    /// Show everything up to `head`, at once.
    pub fn show(&self, head: u64) {
        self.head.store(head, Ordering::Release);
    }

    /// Lap every reader, as the successor of a writer that may have died between any two steps. Returns the new head.
    pub fn lap_all(&self) -> u64 {
        let reached = self
            .head
            .load(Ordering::Relaxed)
            .max(self.reserved.load(Ordering::Relaxed));
        let head = reached + self.slots.len() as u64 + 1;
        self.reserved.store(head, Ordering::Relaxed);
        fence(Ordering::Release);
        self.show(head);
        head
    }

    #[inline]
    pub fn reached(&self) -> u64 {
        load_acquire(self.head)
    }

    /// Collect the changes from `position` up to `head`, a value that `reached` gave.
    pub fn collect(&self, position: u64, head: u64) -> Found {
        let size = self.slots.len() as u64;
        if head.wrapping_sub(position) > size {
            return Found::Lapped;
        }
        let changes = (position..head)
            .map(|number| self.slot(number).load(Ordering::Relaxed))
            .collect();
        fence(Ordering::Acquire);
        if self.reserved.load(Ordering::Relaxed).wrapping_sub(position) > size {
            return Found::Lapped;
        }
        Found::Changes(changes)
    }
}
