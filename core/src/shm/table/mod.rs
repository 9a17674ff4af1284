//! The quote table: entries of 128 bytes, a directory of names, and a ring of what changed.
//!
//! Lines of 16 words from the beginning: prefix (`file.rs`), counts, commit record, ring head, wake word; then directory, ring, entries.

pub mod factors;
mod reader;
mod writer;

pub use reader::{Changes, Commit, Cursor, Snapshot, TableReader};
pub use writer::{Standing, TableWriter};

use super::error::ShmError;
use super::file::{self, Layout, PREFIX_WORDS};
use super::region::WORD;

pub const MAGIC: u64 = file::magic(b"PLQUOTES");
pub const VERSION: u64 = 2;
pub const WHAT: &str = "quote table";
/// Marks an entry whose amounts mean nothing: never written, or voided after its writer died in it.
pub const VOID: u8 = 255;

pub const ENTRY_WORDS: usize = 16;
const LINE: usize = 16;
/// Words in use of the lines after the prefix.
const NAME_COUNT: usize = PREFIX_WORDS;
const ENTRY_COUNT: usize = PREFIX_WORDS + 1;
/// Odd while a batch is open: written to, and not committed.
const BATCH: usize = PREFIX_WORDS + 2;
const COMMIT: usize = PREFIX_WORDS + LINE;
const COMMIT_WORDS: usize = 6;
const HEAD: usize = PREFIX_WORDS + 2 * LINE;
const RESERVED: usize = HEAD + 1;
const WAKE: usize = PREFIX_WORDS + 3 * LINE;
const DIRECTORY: usize = PREFIX_WORDS + 4 * LINE;

/// One entry's content, as it lies in the file after its sequence word.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Quote {
    pub pool: u32,
    pub pair: u32,
    pub token_in: u16,
    pub token_out: u16,
    pub provider: u16,
    pub protocol: u8,
    pub staleness: u8,
    pub amount_in: u64,
    pub amount_out: u64,
    pub slot: u64,
    pub write_version: u64,
    pub quoted_ns: i64,
    pub price_impact_bps: f64,
    pub confidence: f64,
    /// What `amount_in` is worth at the oracle's prices, in base units of the token out; 0 where no oracle says.
    pub oracle_amount_out: u64,
    pub route: u64,
    pub fee_amount: u64,
    pub batch: u64,
    pub amount_index: u32,
    pub hops: u32,
    /// The confidence's factors, packed (`factors.rs`).
    pub factors: u64,
}

const _: () = assert!(
    size_of::<Quote>() + WORD == ENTRY_WORDS * WORD,
    "an entry is 128 bytes"
);
const _: () = assert!(ENTRY_WORDS * WORD == 128, "an entry is 128 bytes");

pub type Content = [u64; ENTRY_WORDS - 1];

impl Quote {
    #[inline]
    pub fn to_words(self) -> Content {
        [
            u64::from(self.pool) | u64::from(self.pair) << 32,
            u64::from(self.token_in)
                | u64::from(self.token_out) << 16
                | u64::from(self.provider) << 32
                | u64::from(self.protocol) << 48
                | u64::from(self.staleness) << 56,
            self.amount_in,
            self.amount_out,
            self.slot,
            self.write_version,
            self.quoted_ns.cast_unsigned(),
            self.price_impact_bps.to_bits(),
            self.confidence.to_bits(),
            self.oracle_amount_out,
            self.route,
            self.fee_amount,
            self.batch,
            u64::from(self.amount_index) | u64::from(self.hops) << 32,
            self.factors,
        ]
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)]
    pub fn from_words(words: &Content) -> Self {
        Self {
            pool: words[0] as u32,
            pair: (words[0] >> 32) as u32,
            token_in: words[1] as u16,
            token_out: (words[1] >> 16) as u16,
            provider: (words[1] >> 32) as u16,
            protocol: (words[1] >> 48) as u8,
            staleness: (words[1] >> 56) as u8,
            amount_in: words[2],
            amount_out: words[3],
            slot: words[4],
            write_version: words[5],
            quoted_ns: words[6].cast_signed(),
            price_impact_bps: f64::from_bits(words[7]),
            confidence: f64::from_bits(words[8]),
            oracle_amount_out: words[9],
            route: words[10],
            fee_amount: words[11],
            batch: words[12],
            amount_index: words[13] as u32,
            hops: (words[13] >> 32) as u32,
            factors: words[14],
        }
    }

    /// What an entry is found by: it never changes once the entry is published.
    pub fn key(&self) -> Key {
        (
            self.pool,
            self.provider,
            self.token_in,
            self.token_out,
            self.amount_index,
        )
    }
}

pub type Key = (u32, u16, u16, u16, u32);

/// Where the parts of a table lie, in words.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub capacity: usize,
    pub ring: usize,
    pub names: usize,
}

impl Plan {
    pub fn new(capacity: usize, ring: usize, names: usize) -> Result<Self, ShmError> {
        if !(1..=1 << 24).contains(&capacity)
            || !(2..=1 << 20).contains(&ring)
            || !(4..=1 << 20).contains(&names)
        {
            return Err(ShmError::Invalid(format!(
                "a quote table has 1 to 2^24 entries, 2 to 2^20 ring slots and 4 to 2^20 names, not {capacity}, {ring} and {names}"
            )));
        }
        if !ring.is_multiple_of(LINE) {
            return Err(ShmError::Invalid(format!(
                "the ring is a multiple of {LINE} slots, not {ring}"
            )));
        }
        Ok(Self {
            capacity,
            ring,
            names,
        })
    }

    fn ring_start(&self) -> usize {
        DIRECTORY + self.names * super::directory::RECORD_WORDS
    }

    fn entries_start(&self) -> usize {
        self.ring_start() + self.ring
    }

    pub fn layout(&self) -> Layout {
        let bytes = (self.entries_start() + self.capacity * ENTRY_WORDS) * WORD;
        Layout {
            what: WHAT,
            magic: MAGIC,
            version: VERSION,
            parameters: [
                self.capacity as u64,
                self.ring as u64,
                self.names as u64,
                (ENTRY_WORDS * WORD) as u64,
            ],
            bytes,
            allocated: bytes,
        }
    }

    pub fn from_parameters(parameters: [u64; 4]) -> Result<Self, ShmError> {
        let [capacity, ring, names, entry] =
            parameters.map(|value| usize::try_from(value).unwrap_or(usize::MAX));
        if entry != ENTRY_WORDS * WORD {
            return Err(ShmError::Invalid(format!(
                "entries of {entry} bytes; {} expected",
                ENTRY_WORDS * WORD
            )));
        }
        Self::new(capacity, ring, names)
    }
}
