//! The one writer of a quote table.

use std::collections::HashMap;
use std::path::Path;

use super::super::clock;
use super::super::directory::{Kind, Names, RECORD_WORDS};
use super::super::error::ShmError;
use super::super::file::{self, Mapped};
use super::super::protocol;
use super::super::ring::{NOTHING, Ring};
use super::super::sync::{AtomicU64, Ordering};
use super::super::waiting;
use super::{
    BATCH, COMMIT, COMMIT_WORDS, DIRECTORY, ENTRY_COUNT, ENTRY_WORDS, HEAD, Key, NAME_COUNT, Plan,
    Quote, RESERVED, VOID, WAKE, factors,
};

/// How far a quote can be trusted, as time passes.
#[derive(Clone, Copy)]
pub struct Standing {
    pub quoted_ns: i64,
    pub confidence: f64,
    pub staleness: u8,
    pub factors: u64,
    /// What the amount given is worth by the oracle now.
    pub oracle_amount_out: u64,
}

pub struct TableWriter {
    mapped: Mapped,
    plan: Plan,
    names: Names,
    by_key: HashMap<Key, u32>,
    known: Vec<Known>,
    /// Entries of the open batch, each once, in order.
    changed: Vec<u32>,
    batch: u64,
    head: u64,
    repaired: u64,
}

impl TableWriter {
    pub fn open(path: &Path, plan: Plan, mode: u32, replace: bool) -> Result<Self, ShmError> {
        let (mapped, _) = file::open_writer(path, &plan.layout(), mode, replace)?;
        let mut writer = Self {
            mapped,
            plan,
            names: Names::default(),
            by_key: HashMap::new(),
            known: Vec::new(),
            changed: Vec::new(),
            batch: 0,
            head: 0,
            repaired: 0,
        };
        writer.recover();
        writer.mapped.take_over();
        writer.wake();
        Ok(writer)
    }

    /// Make good what a dead predecessor left, and learn what stands in the file. Does nothing to a new file.
    fn recover(&mut self) {
        let region = &self.mapped.region;
        self.names.refresh(
            region.word(NAME_COUNT),
            region.words(DIRECTORY, self.plan.names * RECORD_WORDS),
        );
        let count = usize::try_from(region.word(ENTRY_COUNT).load(Ordering::Relaxed))
            .unwrap_or(usize::MAX)
            .min(self.plan.capacity);
        for index in 0..count {
            let record = entry(&self.mapped, &self.plan, index);
            let mut words = [0; ENTRY_WORDS - 1];
            protocol::read_unprotected(record, &mut words);
            let mut quote = Quote::from_words(&words);
            if protocol::is_open(&record[0]) {
                quote = Quote {
                    staleness: VOID,
                    ..fixed_part(&quote)
                };
                protocol::write(record, &quote.to_words());
                self.repaired += 1;
            }
            self.by_key
                .insert(quote.key(), u32::try_from(index).expect("capacity fits"));
            self.known.push(Known::of(&quote));
        }
        let commit = region.words(COMMIT, COMMIT_WORDS);
        if protocol::is_open(&commit[0]) {
            let mut words = [0; COMMIT_WORDS - 1];
            protocol::read_unprotected(commit, &mut words);
            protocol::write(commit, &words);
            self.repaired += 1;
        }
        // What the predecessor wrote and did not commit was announced to nobody: every reader must look at everything once.
        let ring = ring(&self.mapped, &self.plan);
        if count > 0 || ring.reached() > 0 {
            ring.lap_all();
        }
        self.head = ring.reached();
        self.batch = region
            .word(BATCH)
            .load(Ordering::Relaxed)
            .next_multiple_of(2);
        region.word(BATCH).store(self.batch, Ordering::Release);
    }

    pub fn intern(&mut self, kind: Kind, name: &str) -> Result<u32, ShmError> {
        let region = &self.mapped.region;
        self.names.intern(
            kind,
            name,
            region.word(NAME_COUNT),
            region.words(DIRECTORY, self.plan.names * RECORD_WORDS),
        )
    }

    pub fn name(&self, kind: Kind, id: u32) -> Option<&str> {
        self.names.name(kind, id)
    }

    /// The entry with the quote's key, made and published as void when it is new. Ids must stand in the directory.
    pub fn entry(&mut self, quote: &Quote) -> Result<u32, ShmError> {
        let fixed = fixed_part(quote);
        for (kind, id, required) in [
            (Kind::Pool, quote.pool, false),
            (Kind::Pair, quote.pair, false),
            (Kind::Token, quote.token_in.into(), true),
            (Kind::Token, quote.token_out.into(), true),
            (Kind::Provider, quote.provider.into(), false),
        ] {
            if (id != 0 || required) && self.names.name(kind, id).is_none() {
                return Err(ShmError::Invalid(format!(
                    "{kind:?} {id} is not in the directory: intern its name first"
                )));
            }
        }
        if let Some(&index) = self.by_key.get(&fixed.key()) {
            self.known[index as usize] = Known::of(&fixed);
            return Ok(index);
        }
        let index = self.known.len();
        if index >= self.plan.capacity {
            return Err(ShmError::Full {
                what: "the quote table".into(),
                limit: self.plan.capacity as u64,
            });
        }
        let void = Quote {
            staleness: VOID,
            ..fixed
        };
        protocol::write(entry(&self.mapped, &self.plan, index), &void.to_words());
        self.mapped
            .region
            .word(ENTRY_COUNT)
            .store(index as u64 + 1, Ordering::Release);
        self.known.push(Known::of(&fixed));
        let index = u32::try_from(index).expect("capacity fits");
        self.by_key.insert(fixed.key(), index);
        Ok(index)
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Write an entry's changing part. Readers of the entry see it at once; waiting readers hear of it at the commit.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)]
    pub fn write(&mut self, index: u64, quote: &Quote) -> Result<(), ShmError> {
        let at = self.position(index)?;
        self.open_batch();
        let known = &mut self.known[at];
        let mut content = quote.to_words();
        content[IDS] = known.ids;
        content[TOKENS] = known.tokens | content[TOKENS] & STALENESS;
        content[INDEX] = known.amount_index | content[INDEX] & HOPS;
        content[WRITTEN] = self.batch;
        protocol::write(entry(&self.mapped, &self.plan, at), &content);
        if known.written != self.batch {
            known.written = self.batch;
            self.changed.push(index as u32);
        }
        Ok(())
    }

    /// Change what is said of an entry's quote as time passes, and leave the quote. A void entry stays void; when its pool was
    /// last known to be as it was, and its factors, are told all the same.
    ///
    /// The entry enters the ring, and `true` is returned, only when its staleness or its confidence's band is another: ageing by
    /// itself would wake every reader for nothing.
    pub fn refresh(&mut self, index: u64, standing: Standing) -> Result<bool, ShmError> {
        let at = self.position(index)?;
        let record = entry(&self.mapped, &self.plan, at);
        let mut content = [0; ENTRY_WORDS - 1];
        // The writer's own words: nobody else writes them.
        protocol::read_unprotected(record, &mut content);
        let before = Quote::from_words(&content);
        let void = before.staleness == VOID;
        let tells = !void
            && (before.staleness != standing.staleness
                || factors::band(before.confidence) != factors::band(standing.confidence));
        let quote = Quote {
            quoted_ns: standing.quoted_ns,
            confidence: if void { 0.0 } else { standing.confidence },
            staleness: if void { VOID } else { standing.staleness },
            factors: standing.factors,
            oracle_amount_out: standing.oracle_amount_out,
            ..before
        };
        if tells {
            self.write(index, &quote)?;
        } else {
            self.open_batch();
            let mut content = quote.to_words();
            content[WRITTEN] = self.batch;
            protocol::write(entry(&self.mapped, &self.plan, at), &content);
        }
        Ok(tells)
    }

    #[inline(always)]
    fn position(&self, index: u64) -> Result<usize, ShmError> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        if at < self.known.len() {
            return Ok(at);
        }
        Err(ShmError::Invalid(format!(
            "no entry {index}; there are {}",
            self.known.len()
        )))
    }

    #[inline]
    fn open_batch(&mut self) {
        if self.batch & 1 == 0 {
            self.batch = protocol::begin(self.mapped.region.word(BATCH));
        }
    }

    /// Publish the open batch to waiting readers, whole. Returns the ring's head. An empty batch moves
    /// the clock, and wakes readers too.
    pub fn commit(&mut self, slot: u64, market_ns: i64) -> u64 {
        let region = &self.mapped.region;
        let ring = ring(&self.mapped, &self.plan);
        let head = if self.changed.is_empty() {
            ring.fill(self.head, [NOTHING].into_iter())
        } else {
            ring.fill(self.head, self.changed.iter().copied().map(u64::from))
        };
        let batch = self.batch.next_multiple_of(2);
        let commit = [
            slot,
            market_ns.cast_unsigned(),
            clock::wall_ns(),
            head,
            batch,
        ];
        protocol::write(region.words(COMMIT, COMMIT_WORDS), &commit);
        if self.batch & 1 == 1 {
            protocol::end(region.word(BATCH), self.batch);
            self.batch = batch;
        }
        ring.show(head);
        self.head = head;
        self.changed.clear();
        self.mapped.beat();
        self.wake();
        head
    }

    fn wake(&self) {
        let word = self.mapped.region.futex_word(WAKE);
        word.fetch_add(1, Ordering::Release);
        waiting::wake(word);
    }

    pub fn heartbeat(&self) {
        self.mapped.beat();
    }

    pub fn epoch(&self) -> u64 {
        self.mapped.epoch()
    }

    /// Records that were found half-written by a predecessor and voided.
    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    /// Say that no more will come. The file stays for its readers and for the next writer.
    pub fn close(&self) {
        self.mapped.set_closed();
        self.wake();
    }

    /// Leave an entry as a writer leaves it that dies in the middle of it. For tests.
    pub fn tear(&self, index: u32) {
        let record = entry(&self.mapped, &self.plan, index as usize);
        protocol::begin(&record[0]);
        record[4].store(u64::MAX, Ordering::Relaxed);
    }
}

/// What of an entry never changes, ready to be written again with what does.
struct Known {
    ids: u64,
    tokens: u64,
    amount_index: u64,
    /// Batch in which the entry was last written.
    written: u64,
}

// Words of the content that fixed and changing fields share, and the bits that change.
const IDS: usize = 0;
const TOKENS: usize = 1;
const STALENESS: u64 = 0xFF << 56;
const WRITTEN: usize = 12;
const INDEX: usize = 13;
const HOPS: u64 = !0 << 32;

impl Known {
    fn of(quote: &Quote) -> Self {
        let words = fixed_part(quote).to_words();
        Self {
            ids: words[IDS],
            tokens: words[TOKENS],
            amount_index: words[INDEX],
            written: 0,
        }
    }
}

fn fixed_part(quote: &Quote) -> Quote {
    Quote {
        pool: quote.pool,
        pair: quote.pair,
        token_in: quote.token_in,
        token_out: quote.token_out,
        provider: quote.provider,
        protocol: quote.protocol,
        amount_index: quote.amount_index,
        ..Quote::default()
    }
}

fn entry<'a>(mapped: &'a Mapped, plan: &Plan, index: usize) -> &'a [AtomicU64] {
    mapped
        .region
        .words(plan.entries_start() + index * ENTRY_WORDS, ENTRY_WORDS)
}

pub(super) fn ring<'a>(mapped: &'a Mapped, plan: &Plan) -> Ring<'a> {
    Ring {
        head: mapped.region.word(HEAD),
        reserved: mapped.region.word(RESERVED),
        slots: mapped.region.words(plan.ring_start(), plan.ring),
    }
}
