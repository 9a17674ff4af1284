//! The shared-memory protocol between threads on plain memory: small enough for Miri (`make miri`), which checks every access and plays
//! weak memory; without it a quick test of its own. The model test (`shm_model.rs`) tries every interleaving of smaller programs.
#![allow(dead_code)]

#[path = "../src/shm/protocol.rs"]
mod protocol;
#[path = "../src/shm/ring.rs"]
mod ring;
#[path = "../src/shm/sync.rs"]
mod sync;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ring::{Found, Ring};

const WRITES: u64 = if cfg!(miri) { 40 } else { 200_000 };

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

#[test]
fn a_record_is_whole_and_never_older_than_one_read_before() {
    let record = words(5);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=WRITES {
                protocol::write(&record, &[number; 4]);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let (mut newest, mut content) = (0, [0; 4]);
                while newest < WRITES {
                    if protocol::read(&record, &mut content).is_some() {
                        assert_eq!(content, [content[0]; 4], "torn");
                        assert!(content[0] >= newest, "went back");
                        newest = content[0];
                    }
                    thread::yield_now();
                }
            });
        }
    });
}

#[test]
fn a_reader_of_the_ring_misses_nothing_or_knows_it() {
    let (head, reserved, slots) = (AtomicU64::new(0), AtomicU64::new(0), words(16));
    let ring = Ring {
        head: &head,
        reserved: &reserved,
        slots: &slots,
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while at < WRITES {
                // Change number n says n.
                let changes: Vec<u64> = (at..(at + 1 + at % 3).min(WRITES)).collect();
                let next = ring.fill(at, changes.into_iter());
                ring.show(next);
                at = next;
            }
        });
        scope.spawn(|| {
            let mut position = 0;
            while position < WRITES {
                let reached = ring.reached();
                if let Found::Changes(changes) = ring.collect(position, reached) {
                    assert!(changes.into_iter().eq(position..reached));
                }
                position = reached;
                thread::yield_now();
            }
        });
    });
    assert_eq!(head.load(Ordering::Relaxed), WRITES);
}

#[test]
fn a_record_that_its_writer_died_in_is_busy_until_it_is_written_again() {
    let record = words(3);
    protocol::write(&record, &[1, 1]);
    protocol::begin(&record[0]);
    assert!(protocol::is_open(&record[0]));
    assert_eq!(protocol::read(&record, &mut [0; 2]), None);
    protocol::write(&record, &[2, 2]);
    let mut content = [0; 2];
    assert_eq!(protocol::read(&record, &mut content), Some(0));
    assert_eq!(content, [2, 2]);
}
