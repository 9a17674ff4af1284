//! Writing: front to back, every offset forward, every table with the layout that the generator fixed for it.
//!
//! A table is written as its vtable, its inline part and then what it points to, so that nothing is measured beforehand.
//! Scalars are always written; an empty string or vector is left out by a zero in the vtable. Neighbours in a vector that leave
//! out the same fields share one vtable.

use super::invalid::Reason;
use super::verify::{MAX_BUFFER, MAX_TABLES};

/// Vtable of the table written before in the same vector: which fields it leaves out, and where it stands.
#[derive(Clone, Copy)]
pub struct Shared {
    absent: u128,
    vtable: usize,
}

/// A message being written. The length is a multiple of 4 between any two calls.
pub struct Writer {
    out: Vec<u8>,
    tables: u32,
}

impl Writer {
    /// Start a message on a used allocation.
    pub fn new(mut out: Vec<u8>, identifier: &[u8]) -> Self {
        out.clear();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(identifier);
        Self { out, tables: 0 }
    }

    pub fn finish(mut self, root: usize) -> Result<Vec<u8>, Reason> {
        if self.out.len() > MAX_BUFFER {
            return Err(Reason::TooLong);
        }
        if self.tables > MAX_TABLES {
            return Err(Reason::TooManyTables);
        }
        self.put(0, &(root as u32).to_le_bytes());
        Ok(self.out)
    }

    #[inline]
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.out[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Point the offset at `at` to the present end.
    #[inline]
    fn point_here(&mut self, at: usize) {
        let distance = (self.out.len() - at) as u32;
        self.put(at, &distance.to_le_bytes());
    }

    /// Write vtable and empty inline part of a table; return where the table stands, and its vtable for the neighbour.
    #[inline]
    pub fn table(
        &mut self,
        vtable: &[u8],
        inline: usize,
        absent: u128,
        before: Option<Shared>,
    ) -> (usize, Shared) {
        self.tables += 1;
        let shared = match before {
            Some(shared) if shared.absent == absent => shared,
            _ => {
                let start = self.out.len();
                self.out.extend_from_slice(vtable);
                let mut left = absent;
                while left != 0 {
                    let slot = left.trailing_zeros() as usize;
                    self.put(start + 4 + 2 * slot, &[0, 0]);
                    left &= left - 1;
                }
                Shared {
                    absent,
                    vtable: start,
                }
            }
        };
        // fields of eight bytes follow the table's own four
        let position = (self.out.len() + 3) / 8 * 8 + 4;
        self.out.resize((position + inline).next_multiple_of(4), 0);
        let back = (position - shared.vtable) as i32;
        self.put(position, &back.to_le_bytes());
        (position, shared)
    }

    /// Append a string or byte vector and point `at` to it. Byte vectors carry a final zero as well: it is padding to a reader.
    #[inline]
    pub fn bytes(&mut self, at: usize, bytes: &[u8]) {
        self.point_here(at);
        self.out
            .extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.out.extend_from_slice(bytes);
        const ZEROS: [u8; 4] = [0; 4];
        self.out.extend_from_slice(&ZEROS[bytes.len() % 4..]);
    }

    /// Append a vector of `count` offsets and point `at` to it; return where the first stands.
    #[inline]
    pub fn offsets(&mut self, at: usize, count: usize) -> usize {
        self.point_here(at);
        self.out.extend_from_slice(&(count as u32).to_le_bytes());
        let start = self.out.len();
        self.out.resize(start + 4 * count, 0);
        start
    }

    /// Set the offset at `at` to `target`.
    #[inline]
    pub fn point(&mut self, at: usize, target: usize) {
        self.put(at, &((target - at) as u32).to_le_bytes());
    }
}
