//! One client's stream: where it is, and what it is sent next.
//!
//! It pulls: nothing is made or fetched for it before the connection has room. It begins with a snapshot, or where it was;
//! then it is sent the frames that all share. One that is further behind than these reach gets what it missed in one
//! frame; one that is behind all that is kept begins anew; one whose connection takes nothing is cut by that
//! (`watched`). At a stop it ends at once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout};

use super::asked::{Asked, Begin};
use super::channel::Channel;
use super::frame;
use super::reset::Reset;
use super::ring::Next;
use super::subject::{CHUNK_BYTES, FRAME_BYTES_MAX, Place, Standing};
use crate::dataflow::ViewId;
use crate::http::{App, admission};
use crate::model::Epoch;
use crate::published::ReadView;
use crate::published::stream::keys::KeyCounts;

/// Snapshots up to this length are kept and shared.
const SHARED_BYTES_MAX: usize = 1024 * 1024;
/// A snapshot that a client takes longer for holds too much for too long.
const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(120);

/// A client.
pub(super) struct Client {
    app: Arc<App>,
    asked: Asked,
    channel: Arc<Channel>,
    changes: watch::Receiver<()>,
    ending: watch::Receiver<bool>,
    /// It has all until this epoch.
    at: Epoch,
    /// A snapshot that it begins with is not older.
    least: Epoch,
    /// Until here it gets every frame by itself, if there are as many: it has come back.
    exact_until: Epoch,
    /// The keys that were there at its epoch, while it gets what it missed.
    keys: Option<KeyCounts>,
    /// To be sent before anything else.
    queue: VecDeque<Bytes>,
    stage: Stage,
    _place: admission::Place,
}

enum Stage {
    /// It has nothing.
    New,
    /// It is sent what others are sent too.
    Shared { parts: Arc<[Bytes]>, next: usize, epoch: Epoch },
    /// It waits for the turn to have a snapshot alone.
    Queueing(BoxFuture<'static, OwnedSemaphorePermit>),
    /// It is sent what is made for it.
    Alone(Alone),
    /// It has all until its epoch.
    Following,
    /// There is nothing more.
    Ended,
}

/// A snapshot that is made for one client.
struct Alone {
    view: Arc<ReadView>,
    rendering: ViewId,
    place: Option<Place>,
    until: Instant,
    _turn: OwnedSemaphorePermit,
}

impl Client {
    /// A client that begins so on a channel, with nothing older than an epoch.
    pub(super) fn new(
        app: Arc<App>,
        asked: Asked,
        channel: Arc<Channel>,
        (begin, least): (Begin, Epoch),
        place: admission::Place,
    ) -> Self {
        let changes = channel.changes();
        let ending = app.streams.ending();
        let hello = frame::hello(&asked.policy(&app, begin));
        let mut queue = VecDeque::from([Bytes::from(hello)]);
        let (stage, at) = match begin {
            Begin::After(epoch) => (Stage::Following, epoch),
            Begin::Anew(reset) => {
                queue.extend(reset.map(|reset| Bytes::from(told(reset))));
                (Stage::New, 0)
            }
        };
        let exact_until = if at > 0 { app.service.publisher.glance().epoch() } else { 0 };
        Self { app, asked, channel, changes, ending, at, least, exact_until, keys: None, queue, stage, _place: place }
    }

    /// Its stream as a body.
    pub(super) fn body(self) -> Body {
        let next = |mut client: Self| async move {
            let bytes = client.next().await?;
            metrics::counter!("tarn_stream_bytes_sent_total").increment(bytes.len() as u64);
            Some((Ok::<Bytes, Infallible>(bytes), client))
        };
        Body::from_stream(stream::unfold(self, next))
    }

    async fn next(&mut self) -> Option<Bytes> {
        if matches!(self.stage, Stage::Ended) {
            return self.queue.pop_front();
        }
        let mut ending = self.ending.clone();
        let bytes = tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => None,
            bytes = self.some() => Some(bytes),
        };
        bytes.or_else(|| {
            self.queue.clear();
            self.stage = Stage::Ended;
            Some(frame::farewell("the service is stopping").into())
        })
    }

    /// What is sent next, once there is something.
    async fn some(&mut self) -> Bytes {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                return bytes;
            }
            let heartbeat = Duration::from_millis(self.app.service.config.streams.heartbeat_ms);
            let more = match self.stage {
                Stage::Following => self.follow(heartbeat).await,
                Stage::Ended => return Bytes::new(),
                _ => self.snapshot(heartbeat).await,
            };
            match more {
                Ok(Some(bytes)) => return bytes,
                Ok(None) => {}
                Err(reset) => self.reset(reset).await,
            }
        }
    }

    /// The next of the frames.
    async fn follow(&mut self, heartbeat: Duration) -> Result<Option<Bytes>, Reset> {
        // Before the look: what comes meanwhile is seen the next time.
        self.changes.mark_unchanged();
        match self.channel.next(self.at) {
            Next::Frame(epoch, bytes) => {
                self.at = epoch;
                self.keys = None;
                metrics::counter!("tarn_stream_frames_sent_total").increment(1);
                Ok(Some(bytes))
            }
            Next::Behind(reached) => self.catch_up(reached).await,
            Next::Over(why) => Err(why),
            Next::Nothing => match timeout(heartbeat, self.changes.changed()).await {
                Ok(_) => Ok(None),
                Err(_) => Ok(Some(Bytes::from_static(frame::HEARTBEAT))),
            },
        }
    }

    /// What it missed, which is kept for it alone.
    async fn catch_up(&mut self, reached: Epoch) -> Result<Option<Bytes>, Reset> {
        let (app, channel) = (Arc::clone(&self.app), Arc::clone(&self.channel));
        let (at, exact_until) = (self.at, self.exact_until.min(reached));
        let mut keys = self.keys.take();
        let work = move || {
            let made = if at < exact_until {
                channel.missed(&app.service, &mut keys, at, exact_until)
            } else {
                channel.coalesced(&app.service, at, reached).map(|frame| (frame, reached))
            };
            made.map(|(frame, at)| (frame, at, keys))
        };
        let Some((made, _reserved)) = self.app.admission.patiently(FRAME_BYTES_MAX, work).await else {
            std::future::pending().await
        };
        let (frame, at, keys) = made?;
        (self.at, self.keys) = (at, keys);
        Ok((!frame.is_empty()).then(|| self.channel.budget.counted(frame)))
    }

    /// The next part of the snapshot, if it has anything.
    async fn snapshot(&mut self, heartbeat: Duration) -> Result<Option<Bytes>, Reset> {
        match &mut self.stage {
            Stage::New => self.begin_snapshot().await.map(|()| None),
            Stage::Shared { parts, next, epoch } => match parts.get(*next) {
                Some(part) => {
                    *next += 1;
                    Ok(Some(part.clone()))
                }
                None => {
                    self.at = *epoch;
                    self.stage = Stage::Following;
                    Ok(None)
                }
            },
            Stage::Queueing(turn) => match timeout(heartbeat, turn).await {
                Ok(turn) => {
                    let (view, rendering) = self.view()?;
                    let until = Instant::now() + SNAPSHOT_TIME_MAX;
                    self.stage = Stage::Alone(Alone { view, rendering, place: None, until, _turn: turn });
                    Ok(None)
                }
                Err(_) => Ok(Some(Bytes::from_static(frame::HEARTBEAT))),
            },
            Stage::Alone(alone) => {
                if Instant::now() > alone.until {
                    self.queue.push_back(frame::farewell("the snapshot was not taken in time").into());
                    self.stage = Stage::Ended;
                    return Ok(None);
                }
                let (view, rendering, place) = (Arc::clone(&alone.view), alone.rendering, alone.place.clone());
                let (part, next) = part(&self.app, &self.channel, view, rendering, place).await?;
                match next {
                    Some(next) => alone.place = Some(next),
                    None => {
                        self.at = alone.view.epoch();
                        self.stage = Stage::Following;
                    }
                }
                Ok(part.map(|part| self.channel.budget.counted(part)))
            }
            Stage::Following | Stage::Ended => Ok(None),
        }
    }

    /// Takes the snapshot that is shared, or makes it; where it is too large, queues for the turn to have one alone.
    async fn begin_snapshot(&mut self) -> Result<(), Reset> {
        let channel = Arc::clone(&self.channel);
        let mut shared = channel.snapshot.lock().await;
        if shared.is_large {
            let turns = Arc::clone(&self.app.streams.snapshots);
            let turn = async { turns.acquire_owned().await.expect("nobody closes the turns of snapshots") };
            self.stage = Stage::Queueing(turn.boxed());
            return Ok(());
        }
        let length: usize = shared.parts.iter().map(Bytes::len).sum();
        let is_fresh = shared.epoch >= channel.since().max(self.least)
            && channel.bytes_after(shared.epoch) <= length.max(CHUNK_BYTES);
        if shared.parts.is_empty() || !is_fresh {
            let (view, rendering) = self.view()?;
            let (mut parts, mut length, mut place) = (Vec::new(), 0, None);
            loop {
                let (part, next) = part(&self.app, &channel, Arc::clone(&view), rendering, place).await?;
                length += part.as_ref().map_or(0, Vec::len);
                parts.extend(part.map(|part| channel.budget.counted(part)));
                place = next;
                if place.is_none() {
                    break;
                }
                if length > SHARED_BYTES_MAX || channel.budget.is_short() {
                    (shared.is_large, shared.parts) = (true, Arc::default());
                    return Ok(());
                }
            }
            metrics::counter!("tarn_stream_snapshots_made_total", "of" => channel.subject.label()).increment(1);
            (shared.epoch, shared.parts) = (view.epoch(), parts.into());
        }
        self.stage = Stage::Shared { parts: Arc::clone(&shared.parts), next: 0, epoch: shared.epoch };
        Ok(())
    }

    /// An instant at which the subject can be read.
    fn view(&self) -> Result<(Arc<ReadView>, ViewId), Reset> {
        let view = self.app.service.publisher.view();
        match self.channel.subject.standing(&self.app.service, &view) {
            Standing::Ready(rendering) => Ok((view, rendering)),
            Standing::Over(why) => Err(why),
            // It comes back when it can be read again.
            Standing::Paused => Err(Reset::Suspended),
        }
    }

    /// It cannot go on from where it is: it is told, and begins anew if it can.
    async fn reset(&mut self, why: Reset) {
        self.queue.push_back(told(why).into());
        self.stage = Stage::Ended;
        if !why.is_final() {
            match self.asked.open(&self.app, None).await {
                Ok((channel, _)) => {
                    self.changes = channel.changes();
                    self.channel = channel;
                    (self.stage, self.at, self.exact_until, self.keys) = (Stage::New, 0, 0, None);
                    return;
                }
                Err(error) => tracing::debug!(?error, "a stream cannot begin anew"),
            }
        }
        self.queue.push_back(frame::farewell("there is nothing to be told now").into());
    }
}

/// Says that a client begins anew.
fn told(why: Reset) -> Vec<u8> {
    metrics::counter!("tarn_stream_resets_total", "reason" => why.as_str()).increment(1);
    frame::reset(why)
}

/// The part of a snapshot after a place, and where the next one begins.
async fn part(
    app: &Arc<App>,
    channel: &Arc<Channel>,
    view: Arc<ReadView>,
    rendering: ViewId,
    place: Option<Place>,
) -> Result<(Option<Vec<u8>>, Option<Place>), Reset> {
    let (reader, read) = (Arc::clone(app), Arc::clone(channel));
    let work = move || read.subject.part(&(&reader.service).into(), &view, rendering, place.as_ref());
    match app.admission.patiently(2 * CHUNK_BYTES, work).await {
        Some((made, _reserved)) => made,
        None => std::future::pending().await,
    }
}
