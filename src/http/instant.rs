//! The instant at which a read is answered, as its parameters ask for it.
//!
//! Nothing said: the newest. `consistency`, `token` and `after` say what it must include, and are waited for (`waiting`);
//! `asOf` names one of the past, `at` one that is leased (`read_points`). What contradicts is refused, with what is
//! allowed. Not here: the form of each parameter (`query`), and a view that cannot be read at the instant (`views`).

use std::sync::Arc;

use super::query::{Kind, Parameter, Query, moment_of};
use super::waiting::{Until, Wait};
use super::{ApiError, App};
use crate::model::{Epoch, EventId};
use crate::published::{ConsistencyToken, NotKept, ReadView};

const fn once(name: &'static str, kind: Kind, summary: &'static str) -> Parameter {
    Parameter { name, kind, many: false, summary }
}

/// Kessel's three words.
const CONSISTENCY: Parameter = once(
    "consistency",
    Kind::Consistency,
    "`minimizeLatency`: the newest instant there is, at once. `atLeastAsFresh`: one that includes all that the answer \
     with the `token` did. `atLeastAsAcknowledged`: one that includes all that the log holds now. The latter two wait \
     until it is folded into every view.",
);
const TOKEN: Parameter =
    once("token", Kind::Token, "The `consistencyToken` of an answer, for `consistency=atLeastAsFresh`.");
const AFTER: Parameter = once(
    "after",
    Kind::Event,
    "Waits for an instant that includes an event: TOPIC:PARTITION:OFFSET, or the header `id` of one of the last million. \
     410 where the id is of a time before these.",
);
const AS_OF: Parameter = once(
    "asOf",
    Kind::Moment,
    "The instant of a time, RFC 3339 or milliseconds since 1970: everything as it was at the last epoch until then. 410 \
     before `historySince`; one that is to come within `timeout` is waited for.",
);
const TIMEOUT: Parameter = once(
    "timeout",
    Kind::Timeout,
    "How long is waited, such as `500ms` or `2s`, which is the default; at most 30s. Then it is 504, with what was reached.",
);
const AT: Parameter = once(
    "at",
    Kind::ReadPoint,
    "Exactly the instant that was leased by POST /api/tarn/v1/read-points. 410 when it is over.",
);

/// What asks for an instant that includes something: what goes on from now on begins with one.
pub(super) const TO_BE_INCLUDED: [Parameter; 4] = [CONSISTENCY, TOKEN, AFTER, TIMEOUT];
/// What every read takes.
pub(super) const PARAMETERS: &[Parameter] = &[CONSISTENCY, TOKEN, AFTER, AS_OF, AT, TIMEOUT];
/// What asks for an instant that can be leased: not one that is.
pub(super) const TO_BE_LEASED: [Parameter; 5] = [CONSISTENCY, TOKEN, AFTER, AS_OF, TIMEOUT];

/// What a read takes that has parameters of its own; `N` is how many there are in all.
pub(super) const fn beside<const N: usize>(own: &[Parameter]) -> [Parameter; N] {
    both(own, PARAMETERS)
}

/// Two lists of parameters, one after the other; `N` is how many there are in both.
pub(super) const fn both<const N: usize>(first: &[Parameter], then: &[Parameter]) -> [Parameter; N] {
    assert!(N == first.len() + then.len(), "all of them");
    let (mut all, mut place) = ([TIMEOUT; N], 0);
    while place < N {
        all[place] = if place < first.len() { first[place] } else { then[place - first.len()] };
        place += 1;
    }
    all
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Newest,
    /// Leased.
    At(&'a str),
    /// The last until then.
    AsOf(Epoch),
    Including {
        token: Option<&'a str>,
        all_of_the_log: bool,
        after: Option<&'a str>,
    },
}

impl<'a> Asked<'a> {
    fn of(query: &'a Query) -> Result<Self, ApiError> {
        let [consistency, token, after] = ["consistency", "token", "after"].map(|name| query.one(name));
        let refused = |why: String| Err(ApiError::Invalid(why));
        let instants = [("at", query.one("at")), ("asOf", query.one("asOf"))];
        if let [("at", Some(_)), ("asOf", Some(_))] = instants {
            return refused("`at` and `asOf` each name an instant; one of them is allowed".to_owned());
        }
        if let Some((names, _)) = instants.iter().find(|(_, value)| value.is_some()) {
            let others = [("consistency", consistency), ("token", token), ("after", after)];
            if let Some((other, _)) = others.iter().find(|(_, value)| value.is_some()) {
                return refused(format!("`{names}` names the instant; `{other}` is not allowed beside it"));
            }
        }
        if let [(_, Some(at)), _] = instants {
            return Ok(Self::At(at));
        }
        if let [_, (_, Some(as_of))] = instants {
            return moment_of(as_of).map(Self::AsOf).ok_or(ApiError::Internal);
        }
        let allowed = "`token` goes with `consistency=atLeastAsFresh`, and that with a `token`";
        match (consistency, token) {
            (Some("atLeastAsFresh"), None) => refused(format!("there is no `token`; {allowed}")),
            (Some("atLeastAsFresh"), Some(_)) | (_, None) if consistency != Some("minimizeLatency") => {
                let all_of_the_log = consistency == Some("atLeastAsAcknowledged");
                Ok(match (token, all_of_the_log, after) {
                    (None, false, None) => Self::Newest,
                    _ => Self::Including { token, all_of_the_log, after },
                })
            }
            (_, Some(_)) => refused(format!("there is a `token`; {allowed}")),
            (_, None) if after.is_some() => refused(
                "`after` waits, which `consistency=minimizeLatency` does not; one of them is allowed".to_owned(),
            ),
            (_, None) => Ok(Self::Newest),
        }
    }
}

/// The instant that a request asks for, once it is there.
pub(super) async fn asked(app: &App, query: &Query) -> Result<Arc<ReadView>, ApiError> {
    match Asked::of(query)? {
        Asked::Newest => Ok(app.service.publisher.view()),
        Asked::At(id) => app.read_points.view(id),
        Asked::AsOf(as_of) => of_the_past(app, query, as_of).await,
        Asked::Including { token, all_of_the_log, after } => {
            let token = token.map(|token| ConsistencyToken::decode(token, &app.service.token_key)).transpose();
            let token = token.map_err(|error| ApiError::Invalid(format!("`token` is refused: {error}")))?;
            let after = after.map(|after| Until::event(app, after)).transpose()?;
            // The token last: its instant is the one that must not be of another life of the state.
            let until = all_of_the_log.then_some(Until::AllOfTheLog).into_iter().chain(after);
            let until = until.chain(token.map(Until::Token));
            let wait = Wait::begin(app, query);
            let mut view = app.service.publisher.view();
            for until in until {
                view = wait.until(until).await?;
            }
            Ok(view)
        }
    }
}

/// The instant of a time.
async fn of_the_past(app: &App, query: &Query, as_of: Epoch) -> Result<Arc<ReadView>, ApiError> {
    let publisher = &app.service.publisher;
    let view = publisher.view();
    if view.epoch() < as_of {
        let wait = Wait::begin(app, query);
        if as_of > wait.newest_in_time(&view) {
            let why = "`asOf` is in the future, further than `timeout` would wait";
            return Err(ApiError::Invalid(why.to_owned()));
        }
        wait.until(Until::Epoch(as_of)).await?;
    }
    publisher.at(as_of).map_err(|error| match error {
        NotKept::Before { since } => {
            let message = "`asOf` is before all that is kept; `historySince` says how far back that goes";
            ApiError::Gone { message: message.to_owned(), history_since: Some(since) }
        }
        // Read views only get newer.
        NotKept::After { .. } => ApiError::Internal,
    })
}

/// An event that a client names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// By where it stands.
    Place { topic: String, partition: i32, offset: i64 },
    /// By its id.
    Id(EventId),
}

impl Named {
    /// Whatever is no place is an id: those of Kessel are UUIDs, and others are texts.
    pub(super) fn parse(text: &str) -> Self {
        let place = || {
            let (rest, offset) = text.rsplit_once(':')?;
            let (topic, partition) = rest.rsplit_once(':')?;
            let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let all_there = !topic.is_empty() && is_number(partition) && is_number(offset);
            let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
            all_there.then(|| Self::Place { topic: topic.to_owned(), partition, offset })
        };
        place().unwrap_or_else(|| Self::Id(EventId::of_text(text).0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Query, ApiError> {
        Query::parse(Some(text), PARAMETERS, 10)
    }

    #[test]
    fn what_contradicts_is_refused_with_what_is_allowed() {
        let cases = [
            ("at=x&asOf=1", "one of them"),
            ("at=x&token=y", "`token` is not allowed"),
            ("asOf=1&consistency=minimizeLatency", "`consistency` is not allowed"),
            ("asOf=1&after=t:0:1", "`after` is not allowed"),
            ("token=x", "goes with"),
            ("token=x&consistency=minimizeLatency", "goes with"),
            ("token=x&consistency=atLeastAsAcknowledged", "goes with"),
            ("consistency=atLeastAsFresh", "no `token`"),
            ("consistency=atLeastAsFresh&after=t:0:1", "no `token`"),
            ("consistency=minimizeLatency&after=t:0:1", "`after` waits"),
        ];
        for (text, words) in cases {
            let query = parsed(text).expect("each is well formed");
            match Asked::of(&query) {
                Err(ApiError::Invalid(why)) => assert!(why.contains(words), "{text}: {why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_goes_together_is_understood() {
        let including = |token, all_of_the_log, after| Asked::Including { token, all_of_the_log, after };
        let cases = [
            ("", Asked::Newest),
            ("timeout=1s", Asked::Newest),
            ("consistency=minimizeLatency", Asked::Newest),
            ("at=x&timeout=1s", Asked::At("x")),
            ("asOf=1795416443785&timeout=1s", Asked::AsOf(1_795_416_443_785)),
            ("asOf=2026-11-23T06:47:23.785268Z", Asked::AsOf(1_795_416_443_785)),
            ("asOf=2026-11-23T08:47:23.785%2B02:00", Asked::AsOf(1_795_416_443_785)),
            ("asOf=2026-11-23T08:47:23.785+02:00", Asked::AsOf(1_795_416_443_785)),
            ("consistency=atLeastAsFresh&token=x", including(Some("x"), false, None)),
            ("consistency=atLeastAsFresh&token=x&after=y", including(Some("x"), false, Some("y"))),
            ("consistency=atLeastAsAcknowledged", including(None, true, None)),
            ("after=t:0:1", including(None, false, Some("t:0:1"))),
        ];
        for (text, expected) in cases {
            assert_eq!(Asked::of(&parsed(text).expect("well formed")), Ok(expected), "{text}");
        }
        for text in [
            "timeout=31s",
            "timeout=2",
            "timeout=0s",
            "timeout=-1s",
            "asOf=yesterday",
            "asOf=0001-01-01T00:00:00Z",
            "consistency=fast",
            "at=a%20b",
            "after=",
            "token=",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_event_is_named_by_its_place_or_its_id() {
        let place = |topic: &str, offset| Named::Place { topic: topic.to_owned(), partition: 3, offset };
        assert_eq!(Named::parse("outbox.event:3:17"), place("outbox.event", 17));
        assert_eq!(Named::parse("a:b:3:0"), place("a:b", 0));
        for id in [
            "01a20728-cb89-7978-b430-a1ace1ebe8c8",
            "order-17",
            "a:b",
            ":0:1",
            "t:-1:1",
            "t:0:x",
            "t:0:99999999999999999999",
        ] {
            assert_eq!(Named::parse(id), Named::Id(EventId::of_text(id).0), "{id}");
        }
    }
}
