//! Sleeping until another process has done something, and waking those who sleep.
//!
//! On Linux in the kernel, by futex. Elsewhere (and with the feature `portable`, by which this is tested on Linux) by short sleeps: a
//! waiting reader then learns of a commit up to `NAP` late, and wakes that often for nothing.

use std::time::Duration;

/// A signal came while waiting.
pub struct Interrupted;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod system {
    use std::sync::atomic::AtomicU32;

    use rustix::io::Errno;
    use rustix::thread::futex;

    use super::{Duration, Interrupted};

    /// Sleep until the word is another than `seen`, or for `left`, or for no reason: the caller looks for itself.
    pub fn wait(word: &AtomicU32, seen: u32, left: Duration) -> Result<(), Interrupted> {
        let timespec = futex::Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        match futex::wait(word, futex::Flags::empty(), seen, Some(&timespec)) {
            Err(Errno::INTR) => Err(Interrupted),
            _ => Ok(()),
        }
    }

    /// Waking nobody is not an error, and a failed wake-up only costs a waiting reader its timeout.
    pub fn wake(word: &AtomicU32) {
        let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
    }
}

#[cfg(any(not(target_os = "linux"), feature = "portable"))]
mod system {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{Duration, Interrupted};

    const NAP: Duration = Duration::from_micros(500);
    /// How often Python gets a chance to see a signal.
    const TURN: Duration = Duration::from_millis(50);

    pub fn wait(word: &AtomicU32, seen: u32, left: Duration) -> Result<(), Interrupted> {
        let mut slept = Duration::ZERO;
        while word.load(Ordering::Relaxed) == seen && slept < left {
            if slept >= TURN {
                return Err(Interrupted);
            }
            let nap = NAP.min(left - slept);
            std::thread::sleep(nap);
            slept += nap;
        }
        Ok(())
    }

    pub fn wake(_word: &AtomicU32) {}
}

pub use system::{wait, wake};
