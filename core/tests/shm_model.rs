//! The shared-memory protocol under a model checker: every interleaving of two small programs, and every value that the memory model
//! lets a load return. The source under test is the one that is shipped; only its atomics are loom's.
#![allow(dead_code)]

#[path = "../src/shm/directory.rs"]
mod directory;
#[path = "../src/shm/error.rs"]
mod error;
#[path = "../src/shm/protocol.rs"]
mod protocol;
#[path = "../src/shm/ring.rs"]
mod ring;

mod sync {
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};

    pub const ATTEMPTS: u32 = 2;

    pub fn pause(_attempt: u32) {
        loom::thread::yield_now();
    }
}

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};

use directory::{Kind, Names, RECORD_WORDS};
use loom::sync::Arc;
use loom::thread;
use ring::{Found, Ring};
use sync::{AtomicU64, Ordering, fence};

fn words(count: usize) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..count).map(|_| AtomicU64::new(0)).collect())
}

/// Counts something over all executions of a model.
#[derive(Clone, Default)]
struct Counter(StdArc<AtomicUsize>);

impl Counter {
    fn add(&self) {
        self.0.fetch_add(1, StdOrdering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(StdOrdering::Relaxed)
    }
}

#[test]
fn a_record_is_never_read_torn() {
    let whole = Counter::default();
    let counted = whole.clone();
    loom::model(move || {
        let record = words(3);
        let writing = record.clone();
        let writer = thread::spawn(move || {
            protocol::write(&writing, &[1, 1]);
            protocol::write(&writing, &[2, 2]);
        });
        let mut content = [9, 9];
        if protocol::try_read(&record, &mut content) {
            assert_eq!(content[0], content[1], "torn");
            counted.add();
        }
        writer.join().unwrap();
        assert_eq!(protocol::read(&record, &mut content), Some(0));
        assert_eq!(content, [2, 2]);
    });
    assert!(whole.get() > 0);
}

#[test]
fn without_the_protocol_the_same_read_is_torn() {
    let torn = Counter::default();
    let counted = torn.clone();
    loom::model(move || {
        let record = words(3);
        let writing = record.clone();
        let writer = thread::spawn(move || protocol::write(&writing, &[1, 1]));
        let mut content = [9, 9];
        protocol::read_unprotected(&record, &mut content);
        if content[0] != content[1] {
            counted.add();
        }
        writer.join().unwrap();
    });
    assert!(
        torn.get() > 0,
        "the model must be able to show what the protocol prevents"
    );
}

#[test]
fn a_writer_dead_inside_a_record_is_repaired_by_its_successor() {
    loom::model(|| {
        let record = words(3);
        protocol::write(&record, &[1, 1]);
        let writing = record.clone();
        let writers = thread::spawn(move || {
            // The first writer dies after one word; the second voids the record, then writes.
            protocol::begin(&writing[0]);
            writing[1].store(2, Ordering::Relaxed);
            assert!(protocol::is_open(&writing[0]));
            protocol::write(&writing, &[7, 7]);
        });
        let mut content = [9, 9];
        if protocol::try_read(&record, &mut content) {
            assert!(content == [1, 1] || content == [7, 7], "{content:?}");
        }
        writers.join().unwrap();
        assert!(protocol::try_read(&record, &mut content));
        assert_eq!(content, [7, 7]);
    });
}

/// head, reserved, slots.
fn ring_of(words: &[AtomicU64]) -> Ring<'_> {
    Ring {
        head: &words[0],
        reserved: &words[1],
        slots: &words[2..],
    }
}

#[test]
fn a_batch_is_seen_whole_and_after_its_records() {
    let seen = Counter::default();
    let counted = seen.clone();
    loom::model(move || {
        let ring_words = words(4);
        let records = words(2);
        let (writing, writing_records) = (ring_words.clone(), records.clone());
        let writer = thread::spawn(move || {
            writing_records[0].store(1, Ordering::Relaxed);
            writing_records[1].store(1, Ordering::Relaxed);
            let ring = ring_of(&writing);
            ring.show(ring.fill(0, [10, 11].into_iter()));
        });
        let ring = ring_of(&ring_words);
        let head = ring.reached();
        assert!(head == 0 || head == 2, "half a batch");
        if head == 2 {
            let Found::Changes(changes) = ring.collect(0, head) else {
                panic!("nobody lapped it")
            };
            assert_eq!(changes, [10, 11]);
            assert!(
                records
                    .iter()
                    .all(|record| record.load(Ordering::Relaxed) == 1)
            );
            counted.add();
        }
        writer.join().unwrap();
    });
    assert!(seen.get() > 0);
}

#[test]
fn a_reader_knows_that_it_was_lapped() {
    let (laps, right) = (Counter::default(), Counter::default());
    let (counted_laps, counted_right) = (laps.clone(), right.clone());
    loom::model(move || {
        let ring_words = words(4);
        let ring = ring_of(&ring_words);
        ring.show(ring.fill(0, [10, 11].into_iter()));
        let writing = ring_words.clone();
        let writer = thread::spawn(move || {
            let ring = ring_of(&writing);
            ring.show(ring.fill(2, [12].into_iter()));
        });
        match ring.collect(0, 2) {
            Found::Changes(changes) => {
                assert_eq!(
                    changes,
                    [10, 11],
                    "a slot of the next round passed for one of this"
                );
                counted_right.add();
            }
            Found::Lapped => counted_laps.add(),
        }
        writer.join().unwrap();
        assert!(matches!(ring.collect(0, ring.reached()), Found::Lapped));
    });
    assert!(laps.get() > 0 && right.get() > 0);
}

#[test]
fn a_successor_laps_every_reader() {
    loom::model(|| {
        let ring_words = words(4);
        let ring = ring_of(&ring_words);
        ring.show(ring.fill(0, [10, 11].into_iter()));
        let writing = ring_words.clone();
        let writers = thread::spawn(move || {
            let ring = ring_of(&writing);
            // Died between filling and showing.
            ring.fill(2, [12].into_iter());
            ring.lap_all();
        });
        let head = ring.reached();
        if head > 2 {
            assert!(matches!(ring.collect(2, head), Found::Lapped));
        }
        writers.join().unwrap();
        assert!(matches!(ring.collect(2, ring.reached()), Found::Lapped));
    });
}

#[test]
fn a_whole_snapshot_belongs_to_one_batch() {
    let whole = Counter::default();
    let counted = whole.clone();
    loom::model(move || {
        // The batch word, then two records of one word each.
        let table = words(5);
        let writing = table.clone();
        let writer = thread::spawn(move || {
            let odd = protocol::begin(&writing[0]);
            protocol::write(&writing[1..3], &[1]);
            protocol::write(&writing[3..5], &[1]);
            protocol::end(&writing[0], odd);
        });
        let before = protocol::load_acquire(&table[0]);
        let (mut first, mut second) = ([9], [9]);
        let read = protocol::try_read(&table[1..3], &mut first)
            && protocol::try_read(&table[3..5], &mut second);
        fence(Ordering::Acquire);
        if read && before & 1 == 0 && table[0].load(Ordering::Relaxed) == before {
            assert_eq!(first, second, "two batches in one snapshot");
            counted.add();
        }
        writer.join().unwrap();
    });
    assert!(whole.get() > 0);
}

#[test]
fn a_name_is_read_only_when_it_is_complete() {
    let seen = Counter::default();
    let counted = seen.clone();
    loom::model(move || {
        let directory = words(1 + RECORD_WORDS);
        let writing = directory.clone();
        let writer = thread::spawn(move || {
            let mut names = Names::default();
            assert_eq!(
                names
                    .intern(Kind::Pool, "pool-of-two-words", &writing[0], &writing[1..])
                    .unwrap(),
                1
            );
        });
        let mut names = Names::default();
        names.refresh(&directory[0], &directory[1..]);
        if let Some(name) = names.name(Kind::Pool, 1) {
            assert_eq!(name, "pool-of-two-words");
            counted.add();
        }
        writer.join().unwrap();
    });
    assert!(seen.get() > 0);
}
