//! Pool snapshots: one variable-length record per pool id, with the slot and write version of the state it was taken from.
//!
//! The file is sparse. Each record's line of 8 words (sequence, length, slot, write version, observed) is allocated with the file; a
//! record's room is allocated by the writer, page by page as it grows, before it is touched, and readers touch no more of it than the
//! line's length says (invariant 8).

use std::path::Path;

use super::error::ShmError;
use super::file::{self, Layout, Mapped, PREFIX_WORDS};
use super::protocol::{self, load_acquire};
use super::region::WORD;
use super::sync::{ATTEMPTS, AtomicU64, Ordering, fence, pause};

const MAGIC: u64 = file::magic(b"PLPOOLS ");
const VERSION: u64 = 1;
const WHAT: &str = "pool snapshot table";
const LINE: usize = 8;
const PAGE: usize = 4096;

#[derive(Clone, Copy)]
pub struct Plan {
    pub slots: usize,
    pub slot_bytes: usize,
}

impl Plan {
    pub fn new(slots: usize, slot_bytes: usize) -> Result<Self, ShmError> {
        if !(1..=1 << 16).contains(&slots)
            || slot_bytes == 0
            || !slot_bytes.is_multiple_of(PAGE)
            || slot_bytes > 1 << 24
        {
            return Err(ShmError::Invalid(format!(
                "a pool snapshot table has 1 to 65,536 records of whole pages up to 16 MiB, not {slots} of {slot_bytes} bytes"
            )));
        }
        Ok(Self { slots, slot_bytes })
    }

    fn data_start(self) -> usize {
        ((PREFIX_WORDS + self.slots * LINE) * WORD).next_multiple_of(PAGE)
    }

    fn layout(self) -> Layout {
        let allocated = self.data_start();
        Layout {
            what: WHAT,
            magic: MAGIC,
            version: VERSION,
            parameters: [self.slots as u64, self.slot_bytes as u64, 0, 0],
            bytes: allocated + self.slots * self.slot_bytes,
            allocated,
        }
    }

    fn from_parameters(parameters: [u64; 4]) -> Result<Self, ShmError> {
        let [slots, slot_bytes, ..] =
            parameters.map(|value| usize::try_from(value).unwrap_or(usize::MAX));
        Self::new(slots, slot_bytes)
    }

    fn line(self, mapped: &Mapped, id: usize) -> &[AtomicU64] {
        mapped.region.words(PREFIX_WORDS + id * LINE, LINE)
    }

    fn data(self, mapped: &Mapped, id: usize, bytes: usize) -> &[AtomicU64] {
        mapped.region.words(
            (self.data_start() + id * self.slot_bytes) / WORD,
            bytes.div_ceil(WORD),
        )
    }

    fn check(self, id: usize) -> Result<(), ShmError> {
        if id >= self.slots {
            return Err(ShmError::Full {
                what: format!("the pool snapshot table (pool id {id})"),
                limit: self.slots as u64,
            });
        }
        Ok(())
    }
}

/// Order of states: by slot, then by write version inside it.
pub type Version = (u64, u64);

pub struct BlobWriter {
    mapped: Mapped,
    plan: Plan,
    /// Bytes of each record's room that are known to be allocated.
    allocated: Vec<usize>,
    repaired: u64,
}

impl BlobWriter {
    pub fn open(path: &Path, plan: Plan, mode: u32, replace: bool) -> Result<Self, ShmError> {
        let (mapped, _) = file::open_writer(path, &plan.layout(), mode, replace)?;
        let mut repaired = 0;
        for id in 0..plan.slots {
            let line = plan.line(&mapped, id);
            if protocol::is_open(&line[0]) {
                protocol::write(line, &[0; LINE - 1]);
                repaired += 1;
            }
        }
        mapped.take_over();
        Ok(Self {
            mapped,
            plan,
            allocated: vec![0; plan.slots],
            repaired,
        })
    }

    /// Write a pool's snapshot. `Ok(false)`: the one there is as new or newer, nothing was written.
    pub fn write(
        &mut self,
        id: usize,
        data: &[u8],
        version: Version,
        observed_ns: i64,
    ) -> Result<bool, ShmError> {
        self.plan.check(id)?;
        if data.is_empty() || data.len() > self.plan.slot_bytes {
            let limit = self.plan.slot_bytes;
            return Err(ShmError::Invalid(format!(
                "a pool snapshot has 1 to {limit} bytes, not {} (pool id {id})",
                data.len()
            )));
        }
        let line = self.plan.line(&self.mapped, id);
        let there = (
            line[2].load(Ordering::Relaxed),
            line[3].load(Ordering::Relaxed),
        );
        if line[1].load(Ordering::Relaxed) > 0 && there >= version {
            return Ok(false);
        }
        if data.len() > self.allocated[id] {
            let room = data.len().next_multiple_of(PAGE);
            self.mapped
                .allocate(self.plan.data_start() + id * self.plan.slot_bytes, room)?;
            self.allocated[id] = room;
        }
        let odd = protocol::begin(&line[0]);
        let words = self.plan.data(&self.mapped, id, data.len());
        let (whole, rest) = data.as_chunks::<WORD>();
        for (word, chunk) in words.iter().zip(whole) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; WORD];
            last[..rest.len()].copy_from_slice(rest);
            words[whole.len()].store(u64::from_le_bytes(last), Ordering::Relaxed);
        }
        for (word, value) in line[1..].iter().zip([
            data.len() as u64,
            version.0,
            version.1,
            observed_ns.cast_unsigned(),
        ]) {
            word.store(value, Ordering::Relaxed);
        }
        protocol::end(&line[0], odd);
        Ok(true)
    }

    /// Forget a pool, or begin a market whose slots count anew.
    pub fn remove(&self, id: usize) -> Result<(), ShmError> {
        self.plan.check(id)?;
        protocol::write(self.plan.line(&self.mapped, id), &[0; LINE - 1]);
        Ok(())
    }

    pub fn slots(&self) -> usize {
        self.plan.slots
    }

    pub fn heartbeat(&self) {
        self.mapped.beat();
    }

    pub fn close(&self) {
        self.mapped.set_closed();
    }

    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    /// Leave a record as a writer leaves it that dies in the middle of it. For tests.
    pub fn tear(&self, id: usize) {
        protocol::begin(&self.plan.line(&self.mapped, id)[0]);
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Blob {
    pub data: Vec<u8>,
    pub slot: u64,
    pub write_version: u64,
    pub observed_ns: i64,
}

pub struct BlobReader {
    pub mapped: Mapped,
    plan: Plan,
    pub retries: AtomicU64,
    pub busy: AtomicU64,
}

impl BlobReader {
    pub fn open(path: &Path) -> Result<Self, ShmError> {
        let layout_of = |parameters| Plan::from_parameters(parameters).map(Plan::layout);
        let (mapped, layout) = file::open_reader(path, WHAT, MAGIC, VERSION, false, layout_of)?;
        let plan = Plan::from_parameters(layout.parameters)?;
        Ok(Self {
            mapped,
            plan,
            retries: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        })
    }

    pub fn slots(&self) -> usize {
        self.plan.slots
    }

    /// Slot and write version of a pool's snapshot; `None` where there is none, or it is being written.
    pub fn version(&self, id: usize) -> Option<Version> {
        let mut words = [0; LINE - 1];
        (id < self.plan.slots
            && protocol::read(self.plan.line(&self.mapped, id), &mut words).is_some()
            && words[0] > 0)
            .then_some((words[1], words[2]))
    }

    /// A pool's snapshot, whole; `None` where there is none, or it was busy for all attempts (then `busy` counts one more).
    pub fn read(&self, id: usize) -> Option<Blob> {
        if id >= self.plan.slots {
            return None;
        }
        for attempt in 0..ATTEMPTS {
            match self.try_read(id) {
                Ok(blob) => {
                    self.retries
                        .fetch_add(u64::from(attempt), Ordering::Relaxed);
                    return blob;
                }
                Err(Busy) => pause(attempt),
            }
        }
        self.busy.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn try_read(&self, id: usize) -> Result<Option<Blob>, Busy> {
        let line = self.plan.line(&self.mapped, id);
        let mut content = [0; LINE - 1];
        let before = load_acquire(&line[0]);
        if before & 1 == 1 || !protocol::try_read(line, &mut content) {
            return Err(Busy);
        }
        let [length, slot, write_version, observed_ns, ..] = content;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length == 0 || length > self.plan.slot_bytes {
            return Ok(None);
        }
        let mut data = Vec::with_capacity(length.next_multiple_of(WORD));
        for word in self.plan.data(&self.mapped, id, length) {
            data.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        data.truncate(length);
        fence(Ordering::Acquire);
        if line[0].load(Ordering::Relaxed) != before {
            return Err(Busy);
        }
        Ok(Some(Blob {
            data,
            slot,
            write_version,
            observed_ns: observed_ns.cast_signed(),
        }))
    }
}

/// The record was being written.
struct Busy;
