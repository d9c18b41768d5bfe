//! The last frames of a subject, for all that follow it: bounded in number and in bytes, over all subjects together.
//!
//! A frame's bytes count until the last client that is sent them has taken them, so that what slow clients hold leaves less
//! to keep, not more to hold. The newest frame is always there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;

use super::reset::Reset;
use crate::model::Epoch;

/// No more frames are kept of a subject.
pub(super) const FRAMES_MAX: usize = 1_024;

/// What frames may take, all together.
#[derive(Debug)]
pub(super) struct Budget {
    held: AtomicUsize,
    pub(super) bytes_max: usize,
    pub(super) subjects: AtomicUsize,
}

/// Bytes that count.
struct Counted {
    bytes: Vec<u8>,
    budget: Arc<Budget>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), bytes_max, subjects: AtomicUsize::new(0) })
    }

    /// The bytes, counted.
    pub(super) fn counted(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        self.held.fetch_add(bytes.len(), Ordering::Relaxed);
        Bytes::from_owner(Counted { bytes, budget: Arc::clone(self) })
    }

    /// How much is held.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether so much is held that what is not needed is better not kept.
    pub(super) fn is_short(&self) -> bool {
        self.held() > self.bytes_max / 2
    }

    /// Whether a subject that keeps so much keeps too much.
    fn is_exceeded(&self, kept: usize) -> bool {
        kept > self.bytes_max / self.subjects.load(Ordering::Relaxed).max(1) || self.held() > self.bytes_max
    }
}

/// What a client at some epoch gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A frame; it is then at this epoch.
    Frame(Epoch, Bytes),
    /// It is behind what is kept, which reaches so far.
    Behind(Epoch),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Over(Reset),
}

/// The frames.
#[derive(Debug)]
pub(super) struct Ring {
    frames: VecDeque<(Epoch, Bytes)>,
    bytes: usize,
    /// All frames later than this are here,
    since: Epoch,
    /// and none is missing up to this.
    reached: Epoch,
    progress: Option<(Epoch, Bytes)>,
    over: Option<Reset>,
    budget: Arc<Budget>,
}

impl Ring {
    pub(super) fn new(since: Epoch, budget: Arc<Budget>) -> Self {
        let frames = VecDeque::new();
        Self { frames, bytes: 0, since, reached: since, progress: None, over: None, budget }
    }

    pub(super) fn since(&self) -> Epoch {
        self.since
    }

    pub(super) fn reached(&self) -> Epoch {
        self.reached
    }

    /// Nothing comes any more.
    pub(super) fn end(&mut self, why: Reset) {
        self.over.get_or_insert(why);
    }

    pub(super) fn over(&self) -> Option<Reset> {
        self.over
    }

    /// The frame of the next epoch that has one.
    pub(super) fn push(&mut self, epoch: Epoch, bytes: Bytes) {
        debug_assert!(epoch > self.reached, "frames come in order");
        self.bytes += bytes.len();
        self.frames.push_back((epoch, bytes));
        self.reached = epoch;
        self.progress = None;
        while self.frames.len() > 1 && (self.frames.len() > FRAMES_MAX || self.budget.is_exceeded(self.bytes)) {
            let Some((epoch, bytes)) = self.frames.pop_front() else { break };
            self.bytes -= bytes.len();
            self.since = epoch;
        }
    }

    /// There are no more frames up to an epoch.
    pub(super) fn advance(&mut self, epoch: Epoch) {
        self.reached = self.reached.max(epoch);
    }

    /// The last epoch of which something was told.
    pub(super) fn told(&self) -> Epoch {
        let frame = self.frames.back().map_or(self.since, |(epoch, _)| *epoch);
        self.progress.as_ref().map_or(frame, |(epoch, _)| (*epoch).max(frame))
    }

    /// What clients are told that have taken everything.
    pub(super) fn tell_progress(&mut self, bytes: Bytes) {
        self.progress = Some((self.reached, bytes));
    }

    /// How much a client at an epoch has yet to take.
    pub(super) fn bytes_after(&self, epoch: Epoch) -> usize {
        self.frames.iter().rev().take_while(|(at, _)| *at > epoch).map(|(_, bytes)| bytes.len()).sum()
    }

    /// What a client gets that has all until an epoch.
    pub(super) fn next(&self, at: Epoch) -> Next {
        if at < self.since {
            return self.over.map_or(Next::Behind(self.reached), Next::Over);
        }
        let place = self.frames.partition_point(|(epoch, _)| *epoch <= at);
        match (self.frames.get(place), &self.progress, self.over) {
            (Some((epoch, bytes)), ..) => Next::Frame(*epoch, bytes.clone()),
            (None, Some((epoch, bytes)), _) if *epoch > at => Next::Frame(*epoch, bytes.clone()),
            (None, _, Some(why)) => Next::Over(why),
            _ => Next::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_every_frame_once_or_is_told_that_it_is_behind() {
        let budget = Budget::new(100);
        let mut ring = Ring::new(10, Arc::clone(&budget));
        let frame = |epoch: Epoch| (epoch, budget.counted(vec![epoch as u8; 30]));
        for epoch in [12, 14, 16] {
            let (epoch, bytes) = frame(epoch);
            ring.push(epoch, bytes);
        }
        ring.advance(17);
        let taken = |ring: &Ring, at| match ring.next(at) {
            Next::Frame(epoch, _) => Ok(epoch),
            other => Err(other),
        };
        assert_eq!([10, 11, 12, 15].map(|at| taken(&ring, at)), [Ok(12), Ok(12), Ok(14), Ok(16)]);
        assert_eq!((taken(&ring, 16), taken(&ring, 9)), (Err(Next::Nothing), Err(Next::Behind(17))));
        ring.tell_progress(budget.counted(vec![1]));
        assert_eq!((taken(&ring, 16), taken(&ring, 17), ring.told()), (Ok(17), Err(Next::Nothing), 17));
        // A slow client holds on to the oldest one.
        let held = ring.next(10);
        let (epoch, bytes) = frame(18);
        ring.push(epoch, bytes);
        assert_eq!((taken(&ring, 10), taken(&ring, 17)), (Err(Next::Behind(18)), Ok(18)));
        assert_eq!(budget.held(), 30 * 3, "what it holds counts, so two are kept and not three");
        drop(held);
        assert_eq!((budget.held(), ring.since()), (30 * 2, 14));
        ring.end(Reset::Subject);
        assert_eq!((taken(&ring, 17), taken(&ring, 18)), (Ok(18), Err(Next::Over(Reset::Subject))));
    }
}
