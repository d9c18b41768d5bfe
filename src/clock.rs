//! The clocks: that of the wall, which people set, and one that only goes on. Read in one place; whoever is to be
//! simulated is given a [`Clock`] of its own.

use std::fmt::Debug;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where the time is read.
pub trait Clock: Debug + Send + Sync {
    /// What the wall shows, milliseconds since 1970; 0 for a clock before that.
    fn now_ms(&self) -> u64;

    /// A time that never goes back and is never set.
    fn instant(&self) -> Instant;
}

/// The clocks of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// Milliseconds since 1970 by the wall clock of this machine; 0 for a clock before that.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
