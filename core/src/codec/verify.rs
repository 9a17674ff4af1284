//! Verification: nothing of a buffer is read into an object before all of it that will be read has been checked.
//!
//! Checked are the identifier, every offset and its alignment, every vtable, every string (bounds, final zero, UTF-8) and every
//! vector that the reader's schema knows; what only a newer schema knows is never read. FlatBuffers lets offsets share their
//! targets, so that a small buffer can describe a huge object: the budgets below bound what one buffer may become.

use super::invalid::Reason;

/// Shortest buffer that may hold a message: root offset, identifier, and a table of nothing but its vtable offset.
pub const MIN_BUFFER: usize = 12;
/// Longest buffer that is written or read, bytes.
pub const MAX_BUFFER: usize = 16 << 20;
/// Most tables in one message.
pub const MAX_TABLES: u32 = 16_384;
/// Deepest nesting of tables.
pub const MAX_DEPTH: u32 = 16;
/// How far the bytes read, each counted as often as it is pointed to, may pass the buffer's length. Writers that share equal
/// strings stay far below it.
pub const SHARED_BYTES: usize = 64 << 10;

const _: () = assert!(
    usize::BITS >= 64,
    "offsets are added without overflow checks"
);

pub fn u16_at(buf: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(buf.get(at..at + 2)?.try_into().ok()?))
}

pub fn u32_at(buf: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(buf.get(at..at + 4)?.try_into().ok()?))
}

/// A table whose vtable has been checked.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    pub position: usize,
    inline: usize,
    vtable: &'a [u8],
}

impl<'a> Table<'a> {
    /// Find a table and check that it and its vtable lie inside the buffer.
    #[inline]
    pub fn find(buf: &'a [u8], position: usize) -> Result<Self, Reason> {
        if !position.is_multiple_of(4) {
            return Err(Reason::Misaligned);
        }
        let back = u32_at(buf, position).ok_or(Reason::OffsetOutOfBounds)? as i32;
        let start = position as i64 - i64::from(back);
        if start < 0 || start % 2 != 0 {
            return Err(Reason::BadVtable);
        }
        let start = start as usize;
        let size = usize::from(u16_at(buf, start).ok_or(Reason::BadVtable)?);
        let inline = usize::from(u16_at(buf, start + 2).ok_or(Reason::BadVtable)?);
        if size < 4 || !size.is_multiple_of(2) || inline < 4 || position + inline > buf.len() {
            return Err(Reason::BadVtable);
        }
        let vtable = buf.get(start..start + size).ok_or(Reason::BadVtable)?;
        Ok(Self {
            position,
            inline,
            vtable,
        })
    }

    /// Return whether the table has exactly the layout that our writer gives to its kind. Then every field is present, and
    /// in bounds and aligned by construction: eight-byte fields follow the table's first four bytes.
    #[inline]
    pub fn has_layout<const LENGTH: usize>(&self, vtable: &[u8; LENGTH]) -> bool {
        self.position % 8 == 4 && self.vtable == vtable
    }

    /// Return where a field stands in the buffer, or 0 where it is absent.
    #[inline]
    pub fn field(&self, slot: usize) -> usize {
        match u16_at(self.vtable, 4 + 2 * slot) {
            None | Some(0) => 0,
            Some(offset) => self.position + usize::from(offset),
        }
    }

    /// As `field`, after checking that `size` bytes stand there, aligned to `size`.
    #[inline]
    pub fn checked_field(&self, slot: usize, size: usize) -> Result<usize, Reason> {
        let at = self.field(slot);
        if at == 0 {
            return Ok(0);
        }
        if at < self.position + 4 || at + size > self.position + self.inline {
            return Err(Reason::BadVtable);
        }
        if !at.is_multiple_of(size) {
            return Err(Reason::Misaligned);
        }
        Ok(at)
    }
}

/// Check the buffer's length and identifier and return where its root table stands.
#[inline]
pub fn root(buf: &[u8], identifier: &[u8]) -> Result<usize, Reason> {
    if buf.len() < MIN_BUFFER {
        return Err(Reason::TooShort);
    }
    if buf.len() > MAX_BUFFER {
        return Err(Reason::TooLong);
    }
    if &buf[4..8] != identifier {
        return Err(Reason::WrongIdentifier);
    }
    Ok(u32_at(buf, 0).ok_or(Reason::TooShort)? as usize)
}

/// One pass over one buffer, with what is left of its budgets.
pub struct Verifier<'a> {
    pub buf: &'a [u8],
    tables: u32,
    bytes: usize,
    depth: u32,
    place: &'static str,
}

impl<'a> Verifier<'a> {
    pub fn new(buf: &'a [u8]) -> Self {
        Self {
            buf,
            tables: MAX_TABLES,
            bytes: buf.len() + SHARED_BYTES,
            depth: MAX_DEPTH,
            place: "",
        }
    }

    /// Return the innermost field at which the buffer was refused, or empty.
    pub fn place(&self) -> &'static str {
        self.place
    }

    /// Remember where a reason was found; the first call, from the innermost field, counts.
    #[cold]
    pub fn refuse(&mut self, reason: Reason, place: &'static str) -> Reason {
        if self.place.is_empty() {
            self.place = place;
        }
        reason
    }

    #[inline]
    fn spend(&mut self, bytes: usize) -> Result<(), Reason> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Reason::TooMuchOutput)?;
        Ok(())
    }

    /// Enter a table: its own bounds are checked, its fields are the caller's.
    #[inline]
    pub fn enter(&mut self, position: usize) -> Result<Table<'a>, Reason> {
        self.depth = self.depth.checked_sub(1).ok_or(Reason::TooDeep)?;
        self.tables = self.tables.checked_sub(1).ok_or(Reason::TooManyTables)?;
        let table = Table::find(self.buf, position)?;
        self.spend(table.inline)?;
        Ok(table)
    }

    #[inline]
    pub fn leave(&mut self) {
        self.depth += 1;
    }

    /// Follow the offset at `at` to a string or vector; return where its elements start and how many there are.
    #[inline]
    fn follow(&mut self, at: usize, width: usize) -> Result<(usize, usize), Reason> {
        let offset = u32_at(self.buf, at).ok_or(Reason::OffsetOutOfBounds)? as usize;
        let start = at + offset;
        if !start.is_multiple_of(4) {
            return Err(Reason::Misaligned);
        }
        let count = u32_at(self.buf, start).ok_or(Reason::OffsetOutOfBounds)? as usize;
        if start + 4 + count * width > self.buf.len() {
            return Err(Reason::BadVector);
        }
        self.spend(4 + count * width)?;
        Ok((start + 4, count))
    }

    #[inline]
    pub fn string(&mut self, at: usize) -> Result<(), Reason> {
        let (start, count) = self.follow(at, 1).map_err(|reason| match reason {
            Reason::BadVector => Reason::BadString,
            other => other,
        })?;
        if self.buf.get(start + count) != Some(&0) {
            return Err(Reason::BadString);
        }
        let text = &self.buf[start..start + count];
        if !text.is_ascii() {
            std::str::from_utf8(text).map_err(|_| Reason::NotUtf8)?;
        }
        Ok(())
    }

    #[inline]
    pub fn bytes(&mut self, at: usize) -> Result<(), Reason> {
        self.follow(at, 1).map(|_| ())
    }

    /// Check a vector of tables, each with `check`.
    #[inline]
    pub fn tables(
        &mut self,
        at: usize,
        check: impl Fn(&mut Self, usize) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let (start, count) = self.follow(at, 4)?;
        for index in 0..count {
            let element = start + 4 * index;
            let offset = u32_at(self.buf, element).ok_or(Reason::OffsetOutOfBounds)? as usize;
            check(self, element + offset)?;
        }
        Ok(())
    }
}

/// Return the bytes of a string or byte vector that has been verified.
#[inline]
pub fn contents(buf: &[u8], at: usize) -> &[u8] {
    let (start, count) = elements(buf, at);
    &buf[start..start + count]
}

/// Return where the elements of a verified vector start, and how many there are.
#[inline]
pub fn elements(buf: &[u8], at: usize) -> (usize, usize) {
    let start = at + u32_at(buf, at).unwrap_or(0) as usize;
    (start + 4, u32_at(buf, start).unwrap_or(0) as usize)
}
