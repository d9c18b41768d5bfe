//! Texts that functions make for an ad-hoc query: they count towards its memory for as long as they are there.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::buffer::Buffer;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

/// The texts of a query.
#[derive(Debug)]
pub(in crate::sql) struct Counted(Mutex<Held>);

#[derive(Debug)]
struct Held {
    reservation: MemoryReservation,
    texts: Vec<Buffer>,
}

impl Counted {
    /// What is counted takes part of this.
    pub(in crate::sql) fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        let reservation = MemoryConsumer::new("texts made by functions").register(pool);
        Self(Mutex::new(Held { reservation, texts: Vec::new() }))
    }

    /// Counts texts; an error if there is no room for them beside all else.
    pub(super) fn add(&self, texts: &ArrayRef) -> Result<()> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else has what is only here.
        held.texts.retain(|text| text.strong_count() > 1);
        held.texts.extend(texts.to_data().buffers().iter().cloned());
        let bytes = held.texts.iter().map(Buffer::capacity).sum();
        held.reservation.try_resize(bytes)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringArray;
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn texts_count_while_they_are_there() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(10_000));
        let counted = Counted::new(&pool);
        let texts = || Arc::new(StringArray::from(vec!["x".repeat(4_000)])) as ArrayRef;
        let (one, other) = (texts(), texts());
        counted.add(&one).expect("room for one");
        counted.add(&other).expect("room for two");
        assert!((8_000..10_000).contains(&pool.reserved()), "{}", pool.reserved());
        let part = one.slice(0, 1);
        drop(one);
        assert!(counted.add(&texts()).is_err(), "a part holds on to the whole");
        drop((part, other));
        counted.add(&texts()).expect("room again");
        assert!((4_000..8_000).contains(&pool.reserved()), "{}", pool.reserved());
        drop(counted);
        assert_eq!(pool.reserved(), 0);
    }
}
