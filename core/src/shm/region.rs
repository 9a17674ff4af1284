//! A mapped file, seen as atomic words.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU32;

use memmap2::{MmapOptions, MmapRaw};
#[cfg(target_os = "linux")]
use rustix::fs::{FallocateFlags, fallocate};
#[cfg(target_os = "linux")]
use rustix::io::Errno;

use super::sync::AtomicU64;

pub const WORD: usize = 8;

/// A shared mapping of a whole file. It stays valid after the file has lost its name.
pub struct Region {
    map: MmapRaw,
    words: usize,
    writable: bool,
}

impl Region {
    pub fn map(file: &File, bytes: usize, writable: bool) -> io::Result<Self> {
        assert_eq!(bytes % WORD, 0, "shared files are whole words");
        let mut options = MmapOptions::new();
        options.len(bytes);
        let map = if writable {
            options.map_raw(file)?
        } else {
            options.map_raw_read_only(file)?
        };
        Ok(Self {
            map,
            words: bytes / WORD,
            writable,
        })
    }

    pub fn writable(&self) -> bool {
        self.writable
    }

    /// The words `start .. start + count`.
    #[inline]
    pub fn words(&self, start: usize, count: usize) -> &[AtomicU64] {
        assert!(
            start <= self.words && count <= self.words - start,
            "outside of the mapping"
        );
        // SAFETY: inside the mapping by the assertion, aligned because a mapping begins on a page, alive as long as `self`. Other
        // processes change the words at any time, which `AtomicU64` allows; nobody in this process makes a plain reference to them
        // (invariant 3). Callers store only through writable mappings: `Writer` types alone store, and they map writable.
        unsafe {
            std::slice::from_raw_parts(self.map.as_mut_ptr().cast::<AtomicU64>().add(start), count)
        }
    }

    #[inline]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        &self.words(index, 1)[0]
    }

    /// The first half of a word, for the kernel's futex calls. A word used so is never accessed as 64 bits.
    pub fn futex_word(&self, index: usize) -> &AtomicU32 {
        assert!(index < self.words, "outside of the mapping");
        // SAFETY: as above; a u32 at the beginning of an aligned u64 is aligned, and the layout gives this word no 64-bit use.
        unsafe {
            &*self
                .map
                .as_mut_ptr()
                .cast::<AtomicU64>()
                .add(index)
                .cast::<AtomicU32>()
        }
    }
}

/// Allocate a range, so that a later write through the mapping cannot fail for want of room.
pub fn allocate(file: &File, start: usize, bytes: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match fallocate(file, FallocateFlags::empty(), start as u64, bytes as u64) {
        Err(Errno::OPNOTSUPP) => {}
        result => return Ok(result?),
    }
    // What is there, written again: a hole becomes room, and nothing that a reader may look at changes.
    use std::os::unix::fs::FileExt;
    let mut content = vec![0; bytes];
    file.read_exact_at(&mut content, start as u64)?;
    file.write_all_at(&content, start as u64)
}
