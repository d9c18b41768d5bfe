//! Waiting for an instant that includes something: without a thread, a turn or bytes, for as long as the request says.
//!
//! A wait ends when what it is for is shown, with its client, with the service's stop, and at its deadline, which is told
//! with what was reached. Everyone that waits counts as a request at work, so there are only so many. What can never come
//! is told at once: a token of another life of the state or from the future, an event that was let go, a log that is no
//! longer read.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::instant::Named;
use super::query::Query;
use super::{ApiError, App};
use crate::clock::now_ms;
use crate::dataflow::event_ids::EventSearch;
use crate::model::{Epoch, EventId, Position, Topics};
use crate::published::{ConsistencyToken, ReadView};
use crate::source::Phase;

/// How long is waited when nothing is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// An epoch is from the future when it is later by more than this than any can be that was shown: the clock may have been
/// set back a little.
const AHEAD_MAX_MS: u64 = 5_000;
/// When the end of the log could not be told, it is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// More ids are looked through on a thread for such work.
const IDS_AT_ONCE: u64 = 50_000;

/// What is waited for.
#[derive(Debug)]
pub(super) enum Until {
    /// All that the answer with the token had.
    Token(ConsistencyToken),
    /// All that the log holds now.
    AllOfTheLog,
    /// An event, by where it stands.
    Place { topic: String, partition: i32, offset: i64 },
    /// An event, by its id.
    Event(EventId),
    /// Time.
    Epoch(Epoch),
}

impl Until {
    /// An event that a client names.
    pub(super) fn event(app: &App, text: &str) -> Result<Self, ApiError> {
        Ok(match Named::parse(text) {
            Named::Id(id) => Self::Event(id),
            Named::Place { topic, partition, offset } => {
                let read = app.service.config.ingest().topics;
                if !read.is_empty() && !read.contains(&topic) && !Topics::is_own(&topic) {
                    let shown: String = topic.chars().take(64).collect();
                    let why = format!("`after`: the topic {shown:?} is not read; those that are: {}", read.join(", "));
                    return Err(ApiError::Invalid(why));
                }
                Self::Place { topic, partition, offset }
            }
        })
    }
}

/// One request's wait.
pub(super) struct Wait<'a> {
    app: &'a App,
    query: &'a Query,
    timeout: Duration,
    until: Instant,
}

impl<'a> Wait<'a> {
    /// A wait that begins now.
    pub(super) fn begin(app: &'a App, query: &'a Query) -> Self {
        let timeout = query.duration("timeout").unwrap_or(TIMEOUT_DEFAULT);
        Self { app, query, timeout, until: Instant::now() + timeout }
    }

    /// The newest instant that can come in time.
    pub(super) fn newest_in_time(&self, view: &ReadView) -> Epoch {
        self.newest_by_now(view).saturating_add(u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX))
    }

    /// The newest instant that can have been shown. After restarts in quick succession epochs are ahead of the clock, and
    /// of the last one much may not be shown again yet.
    fn newest_by_now(&self, view: &ReadView) -> Epoch {
        now_ms().max(view.epoch()).max(self.app.service.sealed_before)
    }

    /// The first instant that is seen to include something.
    pub(super) async fn until(&self, until: Until) -> Result<Arc<ReadView>, ApiError> {
        match until {
            Until::Token(token) => {
                self.refuse_what_cannot_be(&token)?;
                let holds =
                    |view: &ReadView| Ok(self.is_of_this_life(&token, view)?.is_reached(view.epoch(), view.position()));
                self.view("what the token names", holds).await
            }
            Until::AllOfTheLog => {
                let end = self.end_of_log().await?;
                self.view("what the log held", |view| self.holds_all(view, &end)).await
            }
            Until::Place { topic, partition, offset } => {
                let is_there =
                    |view: &ReadView| view.position().next_offset(&topic, partition).is_some_and(|next| next > offset);
                // While the state is made anew, what is shown is not of this log.
                let holds = |view: &ReadView| Ok(is_there(view) && !self.app.service.publisher.is_rebuilding());
                self.view("the event", holds).await
            }
            Until::Event(id) => {
                let epoch = self.within("the event", self.epoch_of(id)).await??;
                self.view("the event", |view| Ok(view.epoch() >= epoch)).await
            }
            Until::Epoch(epoch) => self.view("the time", |view| Ok(view.epoch() >= epoch)).await,
        }
    }

    /// What `waiting` comes to, in time.
    async fn within<T>(&self, what: &str, waiting: impl Future<Output = T>) -> Result<T, ApiError> {
        let left = async {
            match self.query.client() {
                Some(client) => client.left().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            came = waiting => Ok(came),
            () = left => Err(ApiError::Unprocessable(format!("the wait for {what} has ended with its client"))),
            () = self.app.drained() => Err(ApiError::Unavailable(format!("the service stops; {what} is not waited for"))),
            () = tokio::time::sleep_until(self.until) => Err(self.too_late(what, None)),
        }
    }

    fn too_late(&self, what: &str, why: Option<&str>) -> ApiError {
        let view = self.app.service.publisher.view();
        let waited = self.timeout.as_secs_f64();
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!("{what} did not come within {waited} s{why}");
        ApiError::DeadlineExceeded { message, reached: view.epoch(), position: shown(view.position()) }
    }

    /// The first read view of which something holds.
    async fn view(
        &self,
        what: &str,
        mut holds: impl FnMut(&ReadView) -> Result<bool, ApiError>,
    ) -> Result<Arc<ReadView>, ApiError> {
        let publisher = &self.app.service.publisher;
        let view = publisher.view();
        if holds(&view)? {
            return Ok(view);
        }
        let mut news = publisher.news();
        let waiting = async {
            loop {
                // Before the look: what is shown in between is then seen the next time.
                news.borrow_and_update();
                let view = publisher.view();
                if holds(&view)? {
                    return Ok(view);
                }
                if news.changed().await.is_err() {
                    return Err(ApiError::Unavailable("nothing new will be shown".to_owned()));
                }
            }
        };
        self.within(what, waiting).await?
    }

    /// A token that nothing here can have given is refused at once.
    fn refuse_what_cannot_be(&self, token: &ConsistencyToken) -> Result<(), ApiError> {
        let view = self.app.service.publisher.view();
        self.is_of_this_life(token, &view)?;
        if token.epoch > self.newest_by_now(&view).saturating_add(AHEAD_MAX_MS) {
            let why = "the `token` is from the future: nothing that late was ever shown by this store; forget it";
            return Err(ApiError::Conflict(why.to_owned()));
        }
        Ok(())
    }

    fn is_of_this_life<'t>(
        &self,
        token: &'t ConsistencyToken,
        view: &ReadView,
    ) -> Result<&'t ConsistencyToken, ApiError> {
        if token.incarnation == view.incarnation() {
            return Ok(token);
        }
        let why = "the `token` is of another life of the state: the log was made anew or is of another cluster, or what was \
                   stored is gone; forget it and read again";
        Err(ApiError::Conflict(why.to_owned()))
    }

    /// Where the log ends, asked after this was called.
    async fn end_of_log(&self) -> Result<Arc<Position>, ApiError> {
        let asked = self.app.service.status.end_of_log();
        let mut last_reason: Option<Arc<str>> = None;
        let what = "the end of the log";
        let asking = async {
            loop {
                match asked.answer_to(asked.ask()).await {
                    Ok(end) => return end,
                    Err(reason) => last_reason = Some(reason),
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        let ended = self.within(what, asking).await;
        match ended {
            Err(ApiError::DeadlineExceeded { .. }) => {
                let silent = "the source has not told it".into();
                Err(self.too_late(what, Some(&last_reason.unwrap_or(silent))))
            }
            ended => ended,
        }
    }

    /// Whether all that the log held is shown; an error when it will not be.
    fn holds_all(&self, view: &ReadView, end: &Position) -> Result<bool, ApiError> {
        let service = &self.app.service;
        let is_there = view.position().reached(end);
        let (phase, error) = service.status.look(|state| (state.phase, state.last_error.clone()));
        if phase == Phase::PositionLost || (phase >= Phase::Stopped && !is_there) {
            let (phase, error) = (phase.as_str(), error.unwrap_or_default());
            return Err(ApiError::Unavailable(format!("the log is no longer read ({phase}): {error}")));
        }
        // What is being compared may turn out to be another log than the one that is shown.
        Ok(is_there && phase != Phase::Checking && !service.publisher.is_rebuilding())
    }

    /// The epoch of an event, once it is read.
    async fn epoch_of(&self, id: EventId) -> Result<Epoch, ApiError> {
        let (app, counters) = (self.app, &self.app.service.counters);
        let mut search = EventSearch::new(id);
        let mut news = app.service.publisher.news();
        loop {
            // Ids are there before their epoch is shown.
            news.borrow_and_update();
            let found = if search.count(&counters.event_ids) > IDS_AT_ONCE {
                let ids = Arc::clone(counters);
                let look = move || (search.find(&ids.event_ids), search);
                let (found, back) = app.admission.look(look).await?;
                search = back;
                found
            } else {
                search.find(&counters.event_ids)
            };
            if let Some(epoch) = found {
                return Ok(epoch);
            }
            let gone_until = counters.event_ids.gone_until();
            if id.time_ms().is_some_and(|time_ms| time_ms <= gone_until) {
                let until = super::answer::moment(gone_until);
                let why = format!(
                    "the event is not among the last that were read, and its id is of a time before {until}, up to \
                     which ids were let go: whether it is included is no longer known"
                );
                return Err(ApiError::Gone { message: why, history_since: None });
            }
            if news.changed().await.is_err() {
                return Err(ApiError::Unavailable("nothing new will be shown".to_owned()));
            }
        }
    }
}

/// A position as headers tell it.
fn shown(position: &Position) -> String {
    let each = position.iter().map(|(topic, partition, offset)| format!("{topic}:{partition}:{offset}"));
    each.collect::<Vec<_>>().join(",")
}
