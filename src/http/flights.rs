//! Identical reads at the same time are computed once: who comes later takes what the first one is waiting for.
//!
//! A flight is known by its key for as long as anybody waits for its outcome or is being sent it, and by nobody after
//! that: nothing is cached. It belongs to all who have joined it, so that it goes on when one of them leaves and ends when
//! all have. What fails for the first one for a reason of its own (no turn came in its time) is tried again by the next.
//! Not here: what is computed, and by whom (`reading`).

use std::collections::HashMap;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::ApiError;

/// An answer that several may be sent.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Its share of the bytes of all answers, once for all who are sent it.
    pub(super) _reserved: OwnedSemaphorePermit,
}

type Outcome = Result<Arc<Rendered>, ApiError>;

/// One computation, and what it came to.
pub(super) struct Flight<K: Eq + Hash> {
    outcome: Shared<BoxFuture<'static, Outcome>>,
    number: u64,
    key: Arc<K>,
    flights: Arc<Flights<K>>,
}

impl<K: Eq + Hash> Drop for Flight<K> {
    fn drop(&mut self) {
        self.flights.forget(&self.key, self.number);
    }
}

/// All that are on their way.
#[derive(Debug)]
pub(crate) struct Flights<K: Eq + Hash>(Mutex<Known<K>>);

#[derive(Debug)]
struct Known<K: Eq + Hash> {
    flights: HashMap<Arc<K>, (u64, Weak<Flight<K>>)>,
    last_number: u64,
}

impl<K: Eq + Hash> Default for Flights<K> {
    fn default() -> Self {
        Self(Mutex::new(Known { flights: HashMap::new(), last_number: 0 }))
    }
}

impl<K: Eq + Hash + Send + Sync + 'static> Flights<K> {
    /// What `compute` comes to, or what somebody has begun to compute under the same key; with the flight, to be held for
    /// as long as its outcome is needed. Who joins one that does not get its turn tries again until `until`.
    pub(super) async fn share(
        self: &Arc<Self>,
        key: K,
        until: Instant,
        compute: impl Future<Output = Result<Rendered, ApiError>> + Send + 'static,
    ) -> Result<(Arc<Rendered>, Arc<Flight<K>>), ApiError> {
        let key = Arc::new(key);
        let mut compute = Some(compute);
        loop {
            let (flight, is_first) = self.join(&key, || compute.take().expect("who is the first does not try again"));
            match flight.outcome.clone().await {
                Ok(rendered) => {
                    if !is_first {
                        metrics::counter!("tarn_http_shared_answers_total").increment(1);
                    }
                    return Ok((rendered, flight));
                }
                Err(error) => {
                    let is_its_own = matches!(error, ApiError::Overloaded | ApiError::Unavailable(_));
                    if is_first || !is_its_own || Instant::now() >= until {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The flight of a key; a new one, and true, where there is none.
    fn join<F>(self: &Arc<Self>, key: &Arc<K>, compute: impl FnOnce() -> F) -> (Arc<Flight<K>>, bool)
    where
        F: Future<Output = Result<Rendered, ApiError>> + Send + 'static,
    {
        let mut known = self.known();
        // It may be the last one who holds it, so it goes out of here: when it ends, it takes the lock.
        if let Some(flight) = known.flights.get(key).and_then(|(_, flight)| flight.upgrade()) {
            return (flight, false);
        }
        known.last_number += 1;
        let number = known.last_number;
        let (flights, failing) = (Arc::clone(self), Arc::clone(key));
        let compute = compute();
        let outcome = async move {
            let outcome = AssertUnwindSafe(compute).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_panic| {
                metrics::counter!("tarn_http_panics_total").increment(1);
                Err(ApiError::Internal)
            });
            // Nobody joins what has failed.
            outcome.map(Arc::new).inspect_err(|_| flights.forget(&failing, number))
        };
        let (flights, outcome) = (Arc::clone(self), outcome.boxed().shared());
        let flight = Arc::new(Flight { outcome, number, key: Arc::clone(key), flights });
        known.flights.insert(Arc::clone(key), (number, Arc::downgrade(&flight)));
        (flight, true)
    }
}

impl<K: Eq + Hash> Flights<K> {
    fn known(&self) -> MutexGuard<'_, Known<K>> {
        self.0.lock().expect("nobody panics with the flights")
    }

    fn forget(&self, key: &K, number: u64) {
        let mut known = self.known();
        if known.flights.get(key).is_some_and(|(known, _)| *known == number) {
            known.flights.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::{Notify, Semaphore};

    use super::*;

    /// What the tests count and wait for.
    #[derive(Default)]
    struct Computing {
        begun: AtomicUsize,
        may_end: Notify,
    }

    impl Computing {
        /// Comes to `body` once it may end.
        async fn compute(self: Arc<Self>, outcome: Result<&'static str, ApiError>) -> Result<Rendered, ApiError> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.may_end.notified().await;
            let reserved = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("it is free");
            let (status, headers) = (StatusCode::OK, HeaderMap::new());
            outcome.map(|body| Rendered { status, headers, body: body.into(), _reserved: reserved })
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    type Joined = (Arc<Rendered>, Arc<Flight<u8>>);

    fn reader(
        flights: &Arc<Flights<u8>>,
        key: u8,
        computing: &Arc<Computing>,
        outcome: Result<&'static str, ApiError>,
    ) -> tokio::task::JoinHandle<Result<Joined, ApiError>> {
        let (flights, computing) = (Arc::clone(flights), Arc::clone(computing));
        tokio::spawn(async move { flights.share(key, soon(), computing.compute(outcome)).await })
    }

    async fn settle() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    #[tokio::test]
    async fn who_asks_for_the_same_is_given_the_same_until_nobody_holds_it() {
        let (flights, computing) = (Arc::new(Flights::default()), Arc::new(Computing::default()));
        let readers: Vec<_> = (0..50).map(|_| reader(&flights, 1, &computing, Ok("one"))).collect();
        let other = reader(&flights, 2, &computing, Ok("two"));
        settle().await;
        assert_eq!(computing.begun.load(Ordering::SeqCst), 2, "one for each key");
        computing.may_end.notify_waiters();
        let mut held = Vec::new();
        for reader in readers {
            held.push(reader.await.unwrap().unwrap());
        }
        assert!(held.iter().all(|(rendered, _)| Arc::ptr_eq(rendered, &held[0].0)));
        assert_eq!(other.await.unwrap().unwrap().0.body, "two");
        // While the last one is being sent it, it is there for others; after that nothing is.
        held.truncate(1);
        let late = reader(&flights, 1, &computing, Ok("late")).await.unwrap().unwrap();
        assert_eq!(late.0.body, "one");
        drop((held, late));
        assert!(flights.known().flights.is_empty());
    }

    #[tokio::test]
    async fn a_flight_goes_on_without_its_first_one_and_ends_with_its_last() {
        let (flights, computing) = (Arc::new(Flights::default()), Arc::new(Computing::default()));
        let first = reader(&flights, 1, &computing, Ok("first"));
        settle().await;
        let second = reader(&flights, 1, &computing, Ok("second"));
        settle().await;
        first.abort();
        assert!(first.await.is_err());
        settle().await;
        computing.may_end.notify_waiters();
        assert_eq!(second.await.unwrap().unwrap().0.body, "first", "what the first one began");
        assert_eq!(computing.begun.load(Ordering::SeqCst), 1);
        let alone = reader(&flights, 1, &computing, Ok("alone"));
        settle().await;
        alone.abort();
        assert!(alone.await.is_err());
        assert!(flights.known().flights.is_empty(), "nobody waits for it");
    }

    #[tokio::test]
    async fn who_has_joined_does_not_fail_for_want_of_the_first_ones_turn() {
        let (flights, computing) = (Arc::new(Flights::default()), Arc::new(Computing::default()));
        let first = reader(&flights, 1, &computing, Err(ApiError::Overloaded));
        settle().await;
        let others: Vec<_> = (0..5).map(|_| reader(&flights, 1, &computing, Ok("another"))).collect();
        settle().await;
        assert_eq!(computing.begun.load(Ordering::SeqCst), 1);
        computing.may_end.notify_waiters();
        assert_eq!(first.await.unwrap().map(|_| ()), Err(ApiError::Overloaded));
        settle().await;
        assert_eq!(computing.begun.load(Ordering::SeqCst), 2, "one of them has begun anew for all");
        computing.may_end.notify_waiters();
        for other in others {
            assert_eq!(other.await.unwrap().unwrap().0.body, "another");
        }
    }

    #[tokio::test]
    async fn what_fails_for_all_fails_once_and_a_panic_ends_nobody_else() {
        let (flights, computing) = (Arc::new(Flights::default()), Arc::new(Computing::default()));
        let missing = || Err(ApiError::NotFound("no".to_owned()));
        let readers: Vec<_> = (0..5).map(|_| reader(&flights, 1, &computing, missing())).collect();
        settle().await;
        computing.may_end.notify_waiters();
        for reader in readers {
            assert_eq!(reader.await.unwrap().map(|_| ()), Err(ApiError::NotFound("no".to_owned())));
        }
        assert_eq!(computing.begun.load(Ordering::SeqCst), 1);
        let panicking = flights.share(1, soon(), async { panic!("as tests do") }).await;
        assert_eq!(panicking.map(|_| ()), Err(ApiError::Internal));
        assert!(flights.known().flights.is_empty());
    }
}
