//! Readers of a quote table: any number, in any process, each with its own cursor.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::directory::{Kind, Names, RECORD_WORDS};
use super::super::error::ShmError;
use super::super::file::{self, Mapped};
use super::super::protocol::{self, load_acquire};
use super::super::ring::Found;
use super::super::sync::{AtomicU64, Ordering, fence};
use super::super::waiting::{self, Interrupted};
use super::writer::ring;
use super::{
    BATCH, COMMIT, COMMIT_WORDS, DIRECTORY, ENTRY_COUNT, ENTRY_WORDS, HEAD, MAGIC, NAME_COUNT,
    Plan, Quote, VERSION, WAKE, WHAT,
};

pub struct TableReader {
    pub mapped: Mapped,
    pub plan: Plan,
    names: Mutex<Names>,
    /// Reads that had to be tried again, and reads that were given up.
    pub retries: AtomicU64,
    pub busy: AtomicU64,
}

/// What the last commit said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    pub slot: u64,
    pub market_ns: i64,
    pub committed_ns: u64,
    pub sequence: u64,
    pub batch: u64,
}

/// Every entry, each whole.
pub struct Snapshot {
    /// Entries as they lie in the file, 16 words each; zeros where an entry was busy.
    pub words: Vec<u64>,
    pub commit: Commit,
    /// True when no batch was open while it was taken: all entries belong to one state of the table.
    pub whole: bool,
    pub busy: Vec<u32>,
}

impl TableReader {
    pub fn open(path: &Path) -> Result<Self, ShmError> {
        let layout_of = |parameters| Plan::from_parameters(parameters).map(|plan| plan.layout());
        let (mapped, layout) = file::open_reader(path, WHAT, MAGIC, VERSION, false, layout_of)?;
        let plan = Plan::from_parameters(layout.parameters)?;
        Ok(Self {
            mapped,
            plan,
            names: Mutex::default(),
            retries: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        })
    }

    #[allow(clippy::cast_possible_truncation)]
    pub fn len(&self) -> usize {
        (load_acquire(self.mapped.region.word(ENTRY_COUNT)) as usize).min(self.plan.capacity)
    }

    #[inline]
    pub fn head(&self) -> u64 {
        load_acquire(self.mapped.region.word(HEAD))
    }

    pub fn commit(&self) -> Option<Commit> {
        let mut words = [0; COMMIT_WORDS - 1];
        let retries = protocol::read(self.mapped.region.words(COMMIT, COMMIT_WORDS), &mut words);
        self.count(retries)?;
        let [slot, market_ns, committed_ns, sequence, batch] = words;
        Some(Commit {
            slot,
            market_ns: market_ns.cast_signed(),
            committed_ns,
            sequence,
            batch,
        })
    }

    #[inline]
    fn count(&self, retries: Option<u32>) -> Option<()> {
        match retries {
            Some(0) => Some(()),
            Some(retries) => {
                self.retries
                    .fetch_add(u64::from(retries), Ordering::Relaxed);
                Some(())
            }
            None => {
                self.busy.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Read one entry whole; `None` when it was busy for all attempts. The index must be below `len()`.
    #[inline]
    pub fn read(&self, index: usize) -> Option<Quote> {
        let mut words = [0; ENTRY_WORDS - 1];
        let retries = protocol::read(self.entry(index), &mut words);
        self.count(retries)?;
        Some(Quote::from_words(&words))
    }

    pub fn read_unprotected(&self, index: usize) -> Quote {
        let mut words = [0; ENTRY_WORDS - 1];
        protocol::read_unprotected(self.entry(index), &mut words);
        Quote::from_words(&words)
    }

    fn entry(&self, index: usize) -> &[AtomicU64] {
        self.mapped
            .region
            .words(self.plan.entries_start() + index * ENTRY_WORDS, ENTRY_WORDS)
    }

    /// Copy every entry into `words`, which is reused memory.
    pub fn snapshot(&self, mut words: Vec<u64>) -> Snapshot {
        let batch = self.mapped.region.word(BATCH);
        let before = load_acquire(batch);
        let commit = self.commit().unwrap_or_default();
        let count = self.len();
        words.resize(count * ENTRY_WORDS, 0);
        let entries = self
            .mapped
            .region
            .words(self.plan.entries_start(), count * ENTRY_WORDS);
        let mut busy = Vec::new();
        for (index, (record, copy)) in entries
            .chunks_exact(ENTRY_WORDS)
            .zip(words.chunks_exact_mut(ENTRY_WORDS))
            .enumerate()
        {
            copy[0] = 0;
            let retries = protocol::read(record, &mut copy[1..]);
            if self.count(retries).is_none() {
                copy.fill(0);
                busy.push(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
        fence(Ordering::Acquire);
        let whole = before & 1 == 0 && batch.load(Ordering::Relaxed) == before && busy.is_empty();
        Snapshot {
            words,
            commit,
            whole,
            busy,
        }
    }

    pub fn with_names<T>(&self, use_names: impl FnOnce(&Names) -> T) -> T {
        let mut names = self
            .names
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let region = &self.mapped.region;
        names.refresh(
            region.word(NAME_COUNT),
            region.words(DIRECTORY, self.plan.names * RECORD_WORDS),
        );
        use_names(&names)
    }

    pub fn name(&self, kind: Kind, id: u32) -> Option<String> {
        self.with_names(|names| names.name(kind, id).map(str::to_owned))
    }

    pub fn id(&self, kind: Kind, name: &str) -> Option<u32> {
        self.with_names(|names| names.id(kind, name))
    }

    /// Sleep in the kernel until the head has left `position`, or for `timeout`. `Ok(false)` is a timeout, `Err` an interruption.
    pub fn wait(&self, position: u64, timeout: Duration) -> Result<bool, Interrupted> {
        let deadline = Instant::now() + timeout;
        let word = self.mapped.region.futex_word(WAKE);
        loop {
            let seen = word.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if self.head() != position {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Woken, changed meanwhile, or timed out: the loop looks for itself.
            waiting::wait(word, seen, left)?;
        }
    }
}

/// A reader's place in the change ring, in the reader's own memory.
pub struct Cursor {
    position: AtomicU64,
    pub laps: AtomicU64,
}

pub enum Changes {
    None,
    /// Indices of the entries that were committed since the last look, each once.
    Some(Vec<u32>),
    /// More changed than the ring holds, or the writer began anew: look at everything.
    Lapped,
}

impl Cursor {
    pub fn new(position: u64) -> Self {
        Self {
            position: AtomicU64::new(position),
            laps: AtomicU64::new(0),
        }
    }

    #[inline]
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn poll(&self, table: &TableReader) -> Changes {
        let head = table.head();
        let position = self.position();
        if head == position {
            return Changes::None;
        }
        self.collect(table, position, head)
    }

    fn collect(&self, table: &TableReader, position: u64, head: u64) -> Changes {
        self.position.store(head, Ordering::Relaxed);
        if let Found::Changes(changes) = ring(&table.mapped, &table.plan).collect(position, head) {
            // `NOTHING` fits no index. Several batches may name an entry several times.
            let mut indices: Vec<u32> = changes
                .into_iter()
                .filter_map(|index| u32::try_from(index).ok())
                .collect();
            if indices.len() > 1 {
                indices.sort_unstable();
                indices.dedup();
            }
            return Changes::Some(indices);
        }
        self.laps.fetch_add(1, Ordering::Relaxed);
        Changes::Lapped
    }
}
