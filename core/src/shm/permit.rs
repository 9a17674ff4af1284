//! The permit word: what every process of a host reads immediately before an effect.
//!
//! Two cache lines after the prefix. The lease (sequence, state, epoch, renewed, lease, lifted) is a seqlock written by the permit's
//! manager alone. The halt counter stands apart from it: any process may raise it, nothing lowers it, and a renewal cannot overwrite
//! it. The manager lifts halts by naming, inside the seqlock, how many of them are lifted; one that comes later is not among them.

use std::path::Path;

use super::clock;
use super::error::ShmError;
use super::file::{self, Layout, Mapped, PREFIX_WORDS};
use super::protocol::{self, load_acquire};
use super::region::WORD;
use super::sync::Ordering;

const MAGIC: u64 = file::magic(b"PLPERMIT");
const VERSION: u64 = 1;
const WHAT: &str = "permit word";
const LEASE: usize = PREFIX_WORDS;
const LEASE_WORDS: usize = 8;
const HALTS: usize = PREFIX_WORDS + LEASE_WORDS;
/// A lease "renewed" further in the future than this is not believed.
const CLOCK_SLACK_NS: u64 = 1_000_000;

pub const HALTED: u8 = 0;
const ACTIVE: u64 = 2;

fn layout() -> Layout {
    let bytes = (PREFIX_WORDS + 2 * LEASE_WORDS) * WORD;
    Layout {
        what: WHAT,
        magic: MAGIC,
        version: VERSION,
        parameters: [0; 4],
        bytes,
        allocated: bytes,
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    pub state: u64,
    pub epoch: u64,
    pub renewed_ns: u64,
    pub lease_ns: u64,
    pub lifted: u64,
    pub halts: u64,
}

impl Permit {
    /// The state that may be acted on: HALTED unless everything speaks for more.
    #[allow(clippy::cast_possible_truncation)]
    pub fn effective(&self, now_ns: u64) -> u8 {
        let known = self.state <= ACTIVE;
        let fresh = self.renewed_ns <= now_ns.saturating_add(CLOCK_SLACK_NS)
            && now_ns.saturating_sub(self.renewed_ns) < self.lease_ns;
        if known && fresh && self.halts == self.lifted {
            self.state as u8
        } else {
            HALTED
        }
    }
}

pub struct PermitWriter {
    mapped: Mapped,
}

impl PermitWriter {
    /// Open the word without renewing anything: an earlier lease runs out by itself, and halts stay.
    pub fn open(path: &Path, mode: u32) -> Result<Self, ShmError> {
        let (mapped, _) = file::open_writer(path, &layout(), mode, false)?;
        let lease = mapped.region.words(LEASE, LEASE_WORDS);
        if protocol::is_open(&lease[0]) {
            protocol::write(lease, &[0; LEASE_WORDS - 1]);
        }
        mapped.take_over();
        Ok(Self { mapped })
    }

    pub fn renew(
        &self,
        state: u64,
        epoch: u64,
        lease_ns: u64,
        lifted: u64,
    ) -> Result<(), ShmError> {
        if state > ACTIVE {
            return Err(ShmError::Invalid(format!(
                "no permit state {state}; 0 HALTED, 1 REDUCING, 2 ACTIVE"
            )));
        }
        let content = [state, epoch, clock::boottime_ns(), lease_ns, lifted, 0, 0];
        protocol::write(self.mapped.region.words(LEASE, LEASE_WORDS), &content);
        self.mapped.beat();
        Ok(())
    }

    pub fn halt(&self) -> u64 {
        halt(&self.mapped)
    }

    pub fn halts(&self) -> u64 {
        load_acquire(self.mapped.region.word(HALTS))
    }

    pub fn close(&self) {
        self.mapped.set_closed();
    }

    /// Leave the lease as a manager leaves it that dies in the middle of a renewal. For tests.
    pub fn tear(&self) {
        protocol::begin(&self.mapped.region.words(LEASE, LEASE_WORDS)[0]);
    }
}

fn halt(mapped: &Mapped) -> u64 {
    mapped.region.word(HALTS).fetch_add(1, Ordering::SeqCst) + 1
}

pub struct PermitReader {
    pub mapped: Mapped,
}

impl PermitReader {
    /// Open for reading and halting; for reading alone where the file's mode allows no more.
    pub fn open(path: &Path) -> Result<Self, ShmError> {
        let open =
            |writable| file::open_reader(path, WHAT, MAGIC, VERSION, writable, |_| Ok(layout()));
        let (mapped, _) = match open(true) {
            Err(ShmError::Permission { .. }) => open(false)?,
            result => result?,
        };
        Ok(Self { mapped })
    }

    /// Lease and halts, raw; `None` when the lease was busy for all attempts.
    #[inline]
    pub fn read(&self) -> Option<Permit> {
        let mut words = [0; LEASE_WORDS - 1];
        protocol::read(self.mapped.region.words(LEASE, LEASE_WORDS), &mut words)?;
        let [state, epoch, renewed_ns, lease_ns, lifted, ..] = words;
        let halts = load_acquire(self.mapped.region.word(HALTS));
        Some(Permit {
            state,
            epoch,
            renewed_ns,
            lease_ns,
            lifted,
            halts,
        })
    }

    #[inline]
    pub fn state(&self, now_ns: Option<u64>) -> u8 {
        self.read().map_or(HALTED, |permit| {
            permit.effective(now_ns.unwrap_or_else(clock::boottime_ns))
        })
    }

    pub fn halt(&self) -> Result<u64, ShmError> {
        if !self.mapped.region.writable() {
            return Err(ShmError::Permission {
                path: self.mapped.path.clone(),
                cause: std::io::Error::from(std::io::ErrorKind::PermissionDenied),
            });
        }
        Ok(halt(&self.mapped))
    }
}
