//! Names of tokens, pairs, pools and providers, and the small integers that stand for them.
//!
//! Records of 16 words: word 0 is `kind | length << 8 | id << 32`, written last; the name follows. Ids count from 1 in each kind, 0
//! means "none". The words are a slice that begins with the count; records begin at the next line.

use std::collections::HashMap;

use super::error::ShmError;
use super::protocol::load_acquire;
use super::sync::{AtomicU64, Ordering};

pub const RECORD_WORDS: usize = 16;
const NAME_BYTES: usize = (RECORD_WORDS - 1) * 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Token = 1,
    Pair = 2,
    Pool = 3,
    Provider = 4,
}

pub const KINDS: [Kind; 4] = [Kind::Token, Kind::Pair, Kind::Pool, Kind::Provider];

impl Kind {
    pub fn parse(name: &str) -> Result<Self, ShmError> {
        match name {
            "token" => Ok(Self::Token),
            "pair" => Ok(Self::Pair),
            "pool" => Ok(Self::Pool),
            "provider" => Ok(Self::Provider),
            _ => Err(ShmError::Invalid(format!(
                "no directory of {name:?}; token, pair, pool or provider"
            ))),
        }
    }

    /// Largest id that has room in an entry.
    fn limit(self) -> u32 {
        match self {
            Self::Token | Self::Provider => u32::from(u16::MAX),
            Self::Pair | Self::Pool => u32::MAX,
        }
    }

    fn index(self) -> usize {
        self as usize - 1
    }
}

/// This process's copy of the names, brought up to date from the shared records.
#[derive(Default)]
pub struct Names {
    by_kind: [Vec<String>; KINDS.len()],
    ids: [HashMap<String, u32>; KINDS.len()],
    seen: usize,
}

impl Names {
    /// Read the records that were published since the last call.
    pub fn refresh(&mut self, count: &AtomicU64, records: &[AtomicU64]) {
        let count = usize::try_from(load_acquire(count))
            .unwrap_or(0)
            .min(records.len() / RECORD_WORDS);
        while self.seen < count {
            let record = &records[self.seen * RECORD_WORDS..(self.seen + 1) * RECORD_WORDS];
            self.seen += 1;
            let head = load_acquire(&record[0]);
            let length = ((head >> 8) as usize & 0xFF).min(NAME_BYTES);
            let mut bytes = [0_u8; NAME_BYTES];
            for (chunk, word) in bytes.chunks_exact_mut(8).zip(&record[1..]) {
                chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
            }
            let Some(kind) = KINDS.into_iter().find(|kind| *kind as u64 == head & 0xFF) else {
                continue;
            };
            self.add(kind, String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
    }

    fn add(&mut self, kind: Kind, name: String) {
        let names = &mut self.by_kind[kind.index()];
        names.push(name.clone());
        let id = u32::try_from(names.len()).unwrap_or(u32::MAX);
        self.ids[kind.index()].insert(name, id);
    }

    pub fn name(&self, kind: Kind, id: u32) -> Option<&str> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        self.by_kind[kind.index()].get(index).map(String::as_str)
    }

    pub fn id(&self, kind: Kind, name: &str) -> Option<u32> {
        self.ids[kind.index()].get(name).copied()
    }

    /// Append a name, as the only writer; its id if it is there already.
    pub fn intern(
        &mut self,
        kind: Kind,
        name: &str,
        count: &AtomicU64,
        records: &[AtomicU64],
    ) -> Result<u32, ShmError> {
        if let Some(id) = self.id(kind, name) {
            return Ok(id);
        }
        if name.is_empty() || name.len() > NAME_BYTES {
            return Err(ShmError::Invalid(format!(
                "a name has 1 to {NAME_BYTES} bytes: {name:?}"
            )));
        }
        if self.seen >= records.len() / RECORD_WORDS {
            return Err(ShmError::Full {
                what: "the directory".into(),
                limit: (records.len() / RECORD_WORDS) as u64,
            });
        }
        let id = u32::try_from(self.by_kind[kind.index()].len() + 1).unwrap_or(u32::MAX);
        if id >= kind.limit() {
            return Err(ShmError::Full {
                what: format!("the directory of {kind:?}"),
                limit: u64::from(kind.limit()),
            });
        }
        let record = &records[self.seen * RECORD_WORDS..(self.seen + 1) * RECORD_WORDS];
        let mut bytes = [0_u8; NAME_BYTES];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        for (word, chunk) in record[1..].iter().zip(bytes.chunks_exact(8)) {
            word.store(
                u64::from_le_bytes(chunk.try_into().expect("eight bytes")),
                Ordering::Relaxed,
            );
        }
        let head = kind as u64 | (name.len() as u64) << 8 | u64::from(id) << 32;
        record[0].store(head, Ordering::Release);
        self.seen += 1;
        count.store(self.seen as u64, Ordering::Release);
        self.add(kind, name.to_owned());
        Ok(id)
    }
}
