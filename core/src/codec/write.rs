//! Writing: front to back, every offset forward, every table with the layout that the generator fixed for it.
//!
//! A table is written as its vtable, its inline part and then what it points to, so that nothing is measured beforehand.
//! Every field is written, so that a table of one kind has always the same vtable, and a reader that knows it can tell at one
//! glance that every field stands where it should. Neighbours in a vector share it.

use super::invalid::Reason;
use super::verify::{MAX_BUFFER, MAX_TABLES};

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

    /// Write the empty inline part of a table, behind its vtable unless that was `written` before; return where both stand.
    #[inline]
    pub fn table(
        &mut self,
        vtable: &[u8],
        inline: usize,
        written: Option<usize>,
    ) -> (usize, usize) {
        self.tables += 1;
        let vtable = written.unwrap_or_else(|| {
            let start = self.out.len();
            self.out.extend_from_slice(vtable);
            start
        });
        // fields of eight bytes follow the table's own four
        let position = (self.out.len() + 3) / 8 * 8 + 4;
        self.out.resize((position + inline).next_multiple_of(4), 0);
        let back = (position - vtable) as i32;
        self.put(position, &back.to_le_bytes());
        (position, vtable)
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
