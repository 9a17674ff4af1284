//! Clocks that all processes of a host share.

use rustix::time::{ClockId, clock_gettime};

const NS_PER_S: u64 = 1_000_000_000;

fn now(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * NS_PER_S + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Nanoseconds of the monotonic clock: the same in every process of the host, and what `time.monotonic_ns()` gives.
pub fn monotonic_ns() -> u64 {
    now(ClockId::Monotonic)
}

/// Nanoseconds since the Unix epoch.
pub fn wall_ns() -> u64 {
    now(ClockId::Realtime)
}

/// Nanoseconds since the machine started, time asleep included: a lease must run out while the lid is closed.
pub fn boottime_ns() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    // Elsewhere the monotonic clock is the nearest there is; macOS's runs on while the machine sleeps.
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    now(clock)
}
