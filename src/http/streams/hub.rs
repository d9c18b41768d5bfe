//! All streams of a service: how many there are, which of them share what, and their end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::channel::{Channel, keep_filled};
use super::ring::Budget;
use super::subject::Subject;
use crate::config::StreamsSection;
use crate::dataflow::ViewId;
use crate::http::ApiError;
use crate::http::admission::{Place, Places};
use crate::model::Epoch;
use crate::service::Service;

/// A channel that is opened for somebody who comes back begins so much earlier, ms: others come back too.
const COMING_BACK_MS: u64 = 2_000;

/// The streams.
#[derive(Debug)]
pub(crate) struct Streams {
    places: Arc<Places>,
    channels: Mutex<HashMap<String, Weak<Channel>>>,
    distinct_max: usize,
    pub(super) budget: Arc<Budget>,
    /// Turns of making frames.
    turns: Arc<Semaphore>,
    /// Snapshots that are made for one client alone.
    pub(super) snapshots: Arc<Semaphore>,
    progress_interval: Duration,
    ending: watch::Sender<bool>,
}

impl Streams {
    /// The bounds that a configuration sets.
    pub(crate) fn new(section: &StreamsSection) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            places: Places::new(section.streams_max),
            channels: Mutex::default(),
            distinct_max: section.distinct_max,
            budget: Budget::new(section.buffer_bytes_max),
            turns: Arc::new(Semaphore::new(threads)),
            snapshots: Arc::new(Semaphore::new(section.snapshots_max)),
            progress_interval: Duration::from_millis(section.progress_interval_ms),
            ending: watch::Sender::new(false),
        }
    }

    /// Ends all streams, and lets no more begin.
    pub(crate) fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Turns true when they end.
    pub(super) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// A place for one more, for as long as it is held.
    pub(super) fn enter(&self) -> Result<Place, ApiError> {
        if *self.ending.borrow() {
            return Err(ApiError::Unavailable("the service is stopping".to_owned()));
        }
        Arc::clone(&self.places).take().ok_or_else(|| {
            metrics::counter!("tarn_streams_refused_total").increment(1);
            ApiError::Unavailable("there are as many streams as are allowed; try again".to_owned())
        })
    }

    /// The channel of a subject, opened if there is none. One that is opened begins after `since`, if somebody comes back
    /// who has all until then; a little earlier, where changes are kept.
    pub(super) fn channel(
        &self,
        subject: Subject,
        rendering: ViewId,
        since: (Epoch, bool),
        service: &Service,
    ) -> Result<Arc<Channel>, ApiError> {
        let mut channels = self.channels.lock().expect("nobody panics with the channels");
        if let Some(known) = channels.get(subject.name()).and_then(Weak::upgrade).filter(|known| !known.is_over()) {
            return Ok(known);
        }
        channels.retain(|_, channel| channel.strong_count() > 0);
        if channels.len() >= self.distinct_max {
            let message = "there are as many different streams as are allowed; try again".to_owned();
            return Err(ApiError::Unavailable(message));
        }
        let (since, is_coming_back) = since;
        let earlier = Some(since.saturating_sub(COMING_BACK_MS))
            .filter(|earlier| is_coming_back && subject.is_kept(&service.publisher, rendering, *earlier));
        let name = subject.name().to_owned();
        let channel = Arc::new(Channel::new(subject, rendering, earlier.unwrap_or(since), &self.budget));
        channels.insert(name, Arc::downgrade(&channel));
        let turns = Arc::clone(&self.turns);
        tokio::spawn(keep_filled(Arc::downgrade(&channel), service.clone(), turns, self.progress_interval));
        Ok(channel)
    }

    /// Brings what is counted to the recorder of metrics.
    pub(crate) fn export(&self) {
        metrics::gauge!("tarn_streams_open").set(self.places.taken() as f64);
        let channels = self.channels.lock().expect("nobody panics with the channels");
        let open = channels.values().filter(|channel| channel.strong_count() > 0).count();
        metrics::gauge!("tarn_streams_distinct").set(open as f64);
        metrics::gauge!("tarn_stream_buffer_bytes").set(self.budget.held() as f64);
    }
}
