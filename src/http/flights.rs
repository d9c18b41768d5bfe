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
pub(super) struct Flights<K: Eq + Hash>(Mutex<Known<K>>);

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
