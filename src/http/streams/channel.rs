//! One subject that is followed: its frames are made once, by one task that is woken by news, for all that follow it.
//!
//! Clients have no queues: each asks for what comes after the epoch that it is at ([`Channel::next`]). What is no longer
//! kept for all is made for one alone: exactly as it was told, for one that came back; in one frame, for one that was too
//! slow. A channel lives as long as somebody holds it.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::sync::{Semaphore, watch};

use super::reset::Reset;
use super::ring::{Budget, Next, Ring};
use super::subject::{Standing, Subject};
use crate::dataflow::ViewId;
use crate::model::Epoch;
use crate::published::stream::keys::KeyCounts;
use crate::service::Service;

/// What is made for one client at a time, about.
const MADE_ALONE_BYTES: usize = 512 * 1024;
/// And of no more epochs than these, ms.
const MADE_ALONE_MS: u64 = 5_000;
/// Where there are no news it is looked whether anybody is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The subject, followed.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) subject: Subject,
    pub(super) budget: Arc<Budget>,
    ring: Mutex<Ring>,
    state: Mutex<State>,
    pub(super) snapshot: tokio::sync::Mutex<Shared>,
    changed: watch::Sender<()>,
}

/// A snapshot that many can begin with.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) epoch: Epoch,
    pub(super) parts: Arc<[Bytes]>,
    /// It was too large to be kept.
    pub(super) is_large: bool,
}

/// What the frames are made with.
#[derive(Debug)]
struct State {
    rendering: ViewId,
    counts: Option<KeyCounts>,
    is_begun: bool,
    told_at: Instant,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.budget.subjects.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Channel {
    /// Begins after an epoch.
    pub(super) fn new(subject: Subject, rendering: ViewId, since: Epoch, budget: &Arc<Budget>) -> Self {
        budget.subjects.fetch_add(1, Ordering::Relaxed);
        Self {
            subject,
            budget: Arc::clone(budget),
            ring: Mutex::new(Ring::new(since, Arc::clone(budget))),
            state: Mutex::new(State { rendering, counts: None, is_begun: false, told_at: Instant::now() }),
            snapshot: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("nobody panics with a ring")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics who makes frames")
    }

    /// Told whenever there is something to take.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What comes after an epoch.
    pub(super) fn next(&self, at: Epoch) -> Next {
        self.ring().next(at)
    }

    /// Since when all frames are here.
    pub(super) fn since(&self) -> Epoch {
        self.ring().since()
    }

    pub(super) fn is_over(&self) -> bool {
        self.ring().over().is_some()
    }

    /// How much a client at an epoch has yet to take.
    pub(super) fn bytes_after(&self, at: Epoch) -> usize {
        self.ring().bytes_after(at)
    }

    /// Which rendering of a view is followed.
    pub(super) fn rendering(&self) -> ViewId {
        self.state().rendering
    }

    fn end(&self, why: Reset) {
        self.ring().end(why);
        self.changed.send_replace(());
    }

    /// Whether there is something to be made that takes a while.
    fn has_work(&self, service: &Service) -> bool {
        let (view, state, reached) = (service.publisher.view(), self.state(), self.ring().reached());
        !state.is_begun || self.subject.changed(&view, state.rendering) > reached
    }

    /// Makes the frames of what is new. By one thread at a time.
    fn fill(&self, service: &Service, progress_interval: Duration) {
        let view = service.publisher.view();
        let mut state = self.state();
        let reached = self.ring().reached();
        let rendering = match self.subject.standing(service, &view) {
            Standing::Paused => return,
            Standing::Over(why) => return self.end(why),
            Standing::Ready(rendering) => rendering,
        };
        if view.epoch() < reached {
            return;
        }
        if !state.is_begun {
            match self.subject.count_keys(&service.publisher, &view, rendering, reached) {
                Err(why) => return self.end(why),
                Ok(counts) => state.counts = counts,
            }
            state.is_begun = true;
        }
        if view.epoch() == reached {
            return;
        }
        let is_other = rendering != state.rendering;
        state.rendering = rendering;
        let State { counts, told_at, .. } = &mut *state;
        let mut made = 0;
        if is_other || self.subject.changed(&view, rendering) > reached {
            let mut each = |epoch, frame| {
                let frame = self.budget.counted(frame);
                self.ring().push(epoch, frame);
                made += 1;
                ControlFlow::Continue(())
            };
            let until = (reached, view.epoch());
            if let Err(why) = self.subject.frames(&service.into(), rendering, until, counts, &mut each) {
                return self.end(why);
            }
            metrics::counter!("tarn_stream_frames_made_total", "of" => self.subject.label()).increment(made);
        }
        let mut ring = self.ring();
        ring.advance(view.epoch());
        if made > 0 {
            *told_at = Instant::now();
        } else if ring.told() < view.epoch() && told_at.elapsed() >= progress_interval {
            *told_at = Instant::now();
            ring.tell_progress(self.budget.counted(self.subject.progress(view.epoch())));
        } else {
            return;
        }
        drop(ring);
        self.changed.send_replace(());
    }

    /// What a client at an epoch missed, frame by frame and as much as one piece has; and at which epoch it is then.
    pub(super) fn missed(
        &self,
        service: &Service,
        keys: &mut Option<KeyCounts>,
        at: Epoch,
        until: Epoch,
    ) -> Result<(Vec<u8>, Epoch), Reset> {
        let rendering = {
            let state = self.state();
            if let (None, Some(counts)) = (&keys, &state.counts) {
                let reached = self.ring().reached();
                *keys = Some(self.subject.keys_before(&service.publisher, counts, state.rendering, (at, reached))?);
            }
            state.rendering
        };
        let until = until.min(at + MADE_ALONE_MS);
        let (mut all, mut reached) = (Vec::new(), until);
        let mut each = |epoch, frame: Vec<u8>| {
            all.extend_from_slice(&frame);
            reached = epoch;
            if all.len() >= MADE_ALONE_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.subject.frames(&service.into(), rendering, (at, until), keys, &mut each)?;
        if all.len() < MADE_ALONE_BYTES {
            reached = until;
        }
        Ok((all, reached))
    }

    /// What a client at an epoch missed, in one frame; without one where it missed nothing after all.
    pub(super) fn coalesced(&self, service: &Service, at: Epoch, until: Epoch) -> Result<Vec<u8>, Reset> {
        let rendering = self.rendering();
        let frame = self.subject.coalesced(&service.into(), rendering, (at, until))?;
        metrics::counter!("tarn_stream_coalesced_total").increment(1);
        Ok(frame.unwrap_or_else(|| self.subject.progress(until)))
    }
}

/// Makes the frames of a channel for as long as somebody follows.
pub(super) async fn keep_filled(
    channel: Weak<Channel>,
    service: Service,
    turns: Arc<Semaphore>,
    progress_interval: Duration,
) {
    let mut news = service.publisher.news();
    loop {
        let Some(followed) = channel.upgrade().filter(|channel| !channel.is_over()) else { return };
        // Before the look: what is shown meanwhile is looked at the next time.
        news.mark_unchanged();
        if followed.has_work(&service) {
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
            let service = service.clone();
            let filled = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                followed.fill(&service, progress_interval);
            });
            if filled.await.is_err() {
                return;
            }
        } else {
            followed.fill(&service, progress_interval);
            drop(followed);
        }
        // That the publisher is gone means that the service is.
        if let Ok(Err(_)) = tokio::time::timeout(LOOK_INTERVAL, news.changed()).await {
            return;
        }
    }
}
