//! What a client asks for, and from where on it can be told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::channel::Channel;
use super::reset::Reset;
use super::ring::FRAMES_MAX;
use super::subject::{FRAME_BYTES_MAX, RowSelection, Standing, Subject};
use crate::dataflow::ViewId;
use crate::http::answer::moment;
use crate::http::views::{known, unreadable};
use crate::http::{ApiError, App};
use crate::model::Epoch;
use crate::published::{Filter, ReadView};

/// How often it is looked whether a view can be read, where no epoch tells.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What is to be followed.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// A view.
    View(String, RowSelection),
    /// The resources, and whether with repeats.
    Resources(Filter, bool),
}

/// Where a client begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// With a snapshot, and why it cannot go on if it came back.
    Anew(Option<Reset>),
    /// After this epoch.
    After(Epoch),
}

impl Asked {
    /// The subject at an instant.
    fn subject(&self, app: &App, view: &ReadView) -> Result<(Subject, ViewId), ApiError> {
        let (key, incarnation) = (&app.service.token_key, view.incarnation());
        match self {
            Self::Resources(filter, with_repeats) => {
                Ok((Subject::resources(filter.clone(), *with_repeats, key, incarnation), ViewId(0)))
            }
            Self::View(name, selection) => {
                let condition = known(app, view, name)?;
                let shown = condition.shown.as_ref().filter(|_| condition.health.is_readable());
                let Some(shown) = shown else { return Err(unreadable(&condition)) };
                let subject = Subject::view(&shown.plan, selection, key, incarnation);
                Ok((subject.map_err(|error| ApiError::Invalid(error.to_string()))?, shown.id))
            }
        }
    }

    /// The channel of what is asked for, and where a client with this id begins. Where the state that it knew is not there
    /// again yet, it is waited for.
    pub(super) async fn open(&self, app: &Arc<App>, id: Option<&str>) -> Result<(Arc<Channel>, Begin), ApiError> {
        let until = Instant::now() + Duration::from_millis(app.service.config.streams.resume_wait_ms);
        let mut news = app.service.publisher.news();
        let mut ending = app.streams.ending();
        loop {
            news.mark_unchanged();
            let view = app.service.publisher.view();
            let is_late = Instant::now() >= until || *ending.borrow();
            match self.subject(app, &view) {
                Ok((subject, rendering)) => {
                    if let Some(begin) = begin(app, &view, &subject, rendering, id, is_late) {
                        let since = match begin {
                            Begin::Anew(_) => (view.epoch(), false),
                            Begin::After(epoch) => (epoch, true),
                        };
                        let channel = app.streams.channel(subject, rendering, since, &app.service)?;
                        return Ok((channel, begin));
                    }
                }
                Err(ApiError::Unavailable(_)) if id.is_some() && !is_late => {}
                Err(error) => return Err(error),
            }
            let look = (Instant::now() + LOOK_INTERVAL).min(until);
            tokio::select! {
                _ = timeout_at(look, news.changed()) => {}
                _ = ending.wait_for(|ending| *ending) => {}
            }
        }
    }

    /// What a client is told of its stream before anything else.
    pub(super) fn policy(&self, app: &App, begin: Begin) -> Value {
        let config = &app.service.config;
        let streams = &config.streams;
        let mut says = json!({
            "resumed": matches!(begin, Begin::After(_)),
            "from": match begin { Begin::After(epoch) => json!(moment(epoch)), Begin::Anew(_) => Value::Null },
            "policy": {
                "retentionMs": config.history.retention_ms,
                "heartbeatMs": streams.heartbeat_ms,
                "progressIntervalMs": streams.progress_interval_ms,
                "framesKeptMax": FRAMES_MAX,
                "bytesKeptMax": streams.buffer_bytes_max,
                "frameBytesMax": FRAME_BYTES_MAX,
                "streamsMax": streams.streams_max,
                "slowClients": SLOW_CLIENTS,
            },
        });
        match self {
            Self::View(name, selection) => {
                says["view"] = json!(name);
                says["envelope"] = json!(if selection.key.is_some() { "upsert" } else { "rows" });
                if let Some(key) = &selection.key {
                    says["key"] = json!(key);
                }
            }
            Self::Resources(_, with_repeats) => {
                says["envelope"] = json!("upsert");
                says["key"] = json!(["resourceId"]);
                says["repeats"] = json!(with_repeats);
            }
        }
        says
    }
}

/// What happens to a client that takes less than there is.
const SLOW_CLIENTS: &str = "One that is further behind than frames are kept gets what it missed in one frame, by row or key, \
                            which says `coalesced`, `from` and `to`; behind `retentionMs`, or where a frame would be \
                            longer than `frameBytesMax`, `reset` and a new snapshot; one that takes nothing for 15 s (1 s \
                            where too many do), or its snapshot not in two minutes, is cut and may come back with its \
                            last id.";

/// Where a client with this id begins; none where that is not known yet.
fn begin(
    app: &App,
    view: &ReadView,
    subject: &Subject,
    rendering: ViewId,
    id: Option<&str>,
    is_late: bool,
) -> Option<Begin> {
    let Some(id) = id else { return Some(Begin::Anew(None)) };
    let publisher = &app.service.publisher;
    let epoch = match subject.epoch_of(id) {
        Ok(epoch) => epoch,
        Err(reset) => return Some(Begin::Anew(Some(reset))),
    };
    if epoch > view.epoch() || subject.standing(&app.service, view) == Standing::Paused {
        return is_late.then_some(Begin::Anew(Some(Reset::Unknown)));
    }
    Some(if !subject.is_kept(publisher, rendering, epoch) {
        Begin::Anew(Some(Reset::Retention))
    } else if !publisher.was_sealed(epoch) {
        Begin::Anew(Some(Reset::Unknown))
    } else {
        Begin::After(epoch)
    })
}
