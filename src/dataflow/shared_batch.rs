//! Batches that readers on other threads may hold: differential's own layout behind an `Arc`.
//!
//! Differential shares batches by `Rc` within a worker. The layout itself is plain vectors, so an `Arc` in its place
//! lets the dataflow and every reader share one copy. [`Batch`] also reads itself by binary search, which is all that a
//! reader needs: no cursor, no worker.

use std::mem;
use std::ops::Deref;
use std::sync::Arc;

use differential_dataflow::trace::implementations::ord_neu::{OrdValBatch, VecOrdValBuilder};
use differential_dataflow::trace::implementations::spine_fueled::{Merger, Spine, SpineBatch};
use differential_dataflow::trace::implementations::{BatchContainer, Vector};
use differential_dataflow::trace::{Cursor, Navigable};
use timely::progress::frontier::AntichainRef;

use super::discard;
use crate::model::Epoch;

/// The multiplicity of a row.
pub type Diff = isize;
/// One change of an arrangement.
pub(super) type Update<K, V> = ((K, V), Epoch, Diff);
/// Differential's layout, as this module uses it.
type Layout<K, V> = Vector<Update<K, V>>;
/// What builds a batch from sorted updates.
pub(super) type Builder<K, V> = VecOrdValBuilder<K, V, Epoch, Diff>;
/// The trace of an arrangement.
pub(super) type SharedSpine<K, V> = Spine<Batch<K, V>>;

/// What a key or a value of an arrangement must be.
pub trait Row: Ord + Clone + std::fmt::Debug + Send + Sync + 'static {}
impl<T: Ord + Clone + std::fmt::Debug + Send + Sync + 'static> Row for T {}

/// An immutable, sorted batch of updates `(key, value, epoch, diff)`.
pub struct Batch<K: Row, V: Row>(Arc<Stored<K, V>>);

/// A batch that is not dropped by whoever holds it last if it is large.
struct Stored<K: Row, V: Row>(OrdValBatch<Layout<K, V>>);

impl<K: Row, V: Row> Deref for Stored<K, V> {
    type Target = OrdValBatch<Layout<K, V>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K: Row, V: Row> Drop for Stored<K, V> {
    fn drop(&mut self) {
        if discard::is_large(self.0.updates) {
            let storage = &mut self.0.storage;
            discard::discard((mem::take(&mut storage.keys), mem::take(&mut storage.vals.vals)));
        }
    }
}

impl<K: Row, V: Row> Clone for Batch<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Row, V: Row> std::fmt::Debug for Batch<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} updates)", self.0.updates)
    }
}

impl<K: Row, V: Row> From<OrdValBatch<Layout<K, V>>> for Batch<K, V> {
    fn from(batch: OrdValBatch<Layout<K, V>>) -> Self {
        Self(Arc::new(Stored(batch)))
    }
}

impl<K: Row, V: Row> Batch<K, V> {
    /// The keys in order, each once.
    pub fn keys(&self) -> &[K] {
        &self.0.storage.keys
    }

    /// The values of the key at `key_index`, in order, each once.
    pub fn values(&self, key_index: usize) -> &[V] {
        let (lower, upper) = self.0.storage.vals.bounds(key_index);
        &self.0.storage.vals.vals[lower..upper]
    }

    /// The multiplicity at `epoch` of a value, by its place among all values of the batch.
    fn multiplicity_at(&self, value_index: usize, epoch: Epoch) -> Diff {
        let updates = &self.0.storage.upds;
        let (lower, upper) = updates.bounds(value_index);
        (lower..upper).filter(|index| updates.times[*index] <= epoch).map(|index| updates.diffs[index]).sum()
    }

    /// The values of the key at `key_index` with their multiplicities at `epoch`, zero included.
    pub fn counted(&self, key_index: usize, epoch: Epoch) -> impl Iterator<Item = (&V, Diff)> {
        let (lower, upper) = self.0.storage.vals.bounds(key_index);
        (lower..upper).map(move |index| (&self.0.storage.vals.vals[index], self.multiplicity_at(index, epoch)))
    }

    /// The multiplicities at `epoch` of all values, added up.
    pub fn total(&self, epoch: Epoch) -> Diff {
        (0..self.0.storage.vals.vals.len()).map(|index| self.multiplicity_at(index, epoch)).sum()
    }

    /// The multiplicity at `epoch` of the value at `place` among those of the key at `key_index`.
    pub fn count(&self, key_index: usize, place: usize, epoch: Epoch) -> Diff {
        let (lower, _) = self.0.storage.vals.bounds(key_index);
        self.multiplicity_at(lower + place, epoch)
    }

    /// The rows that came with an update later than `after`, and at or before `until`; one may have left since.
    pub fn came(&self, after: Epoch, until: Epoch) -> impl Iterator<Item = (&K, &V)> {
        let storage = &self.0.storage;
        let came = move |value_index: usize| {
            let (lower, upper) = storage.upds.bounds(value_index);
            (lower..upper).any(|index| {
                let time = storage.upds.times[index];
                storage.upds.diffs[index] > 0 && time <= until && (time > after || after == 0)
            })
        };
        (0..storage.keys.len()).flat_map(move |key_index| {
            let (lower, upper) = storage.vals.bounds(key_index);
            let values = (lower..upper).filter(move |index| came(*index));
            values.map(move |index| (&storage.keys[key_index], &storage.vals.vals[index]))
        })
    }

    /// The first and the last epoch of its updates.
    pub fn epochs(&self) -> Option<(Epoch, Epoch)> {
        let times = &self.0.storage.upds.times;
        let first = times.iter().min()?;
        Some((*first, *times.iter().max()?))
    }

    /// Whether it has an update later than `after`, and at or before `until`.
    pub fn changes_between(&self, after: Epoch, until: Epoch) -> bool {
        self.0.storage.upds.times.iter().any(|time| after < *time && *time <= until)
    }

    /// All updates, in order.
    pub fn each(&self, mut each: impl FnMut(&K, &V, Epoch, Diff)) {
        let storage = &self.0.storage;
        for (key_index, key) in storage.keys.iter().enumerate() {
            let (lower, upper) = storage.vals.bounds(key_index);
            for value_index in lower..upper {
                let (first, end) = storage.upds.bounds(value_index);
                for index in first..end {
                    each(key, &storage.vals.vals[value_index], storage.upds.times[index], storage.upds.diffs[index]);
                }
            }
        }
    }

    /// The updates of the key at `key_index`, by value.
    pub fn updates_of(&self, key_index: usize) -> impl Iterator<Item = (&V, Epoch, Diff)> {
        let storage = &self.0.storage;
        let (lower, upper) = storage.vals.bounds(key_index);
        (lower..upper).flat_map(move |value_index| {
            let (first, end) = storage.upds.bounds(value_index);
            let value = &storage.vals.vals[value_index];
            (first..end).map(move |index| (value, storage.upds.times[index], storage.upds.diffs[index]))
        })
    }

    /// How many updates it holds.
    pub fn updates(&self) -> usize {
        self.0.updates
    }
}

impl<K: Row, V: Row> SpineBatch for Batch<K, V> {
    type Time = Epoch;
    type Merger = SharedMerger<K, V>;

    fn len(&self) -> usize {
        self.0.updates
    }
}

/// A merge in progress of two shared batches.
pub struct SharedMerger<K: Row, V: Row>(<OrdValBatch<Layout<K, V>> as SpineBatch>::Merger);

impl<K: Row, V: Row> Merger<Batch<K, V>> for SharedMerger<K, V> {
    fn new(first: &Batch<K, V>, second: &Batch<K, V>, since: AntichainRef<'_, Epoch>) -> Self {
        Self(Merger::new(&**first.0, &**second.0, since))
    }

    fn work(&mut self, first: &Batch<K, V>, second: &Batch<K, V>, fuel: &mut isize) {
        self.0.work(&first.0, &second.0, fuel);
    }

    fn done(self) -> Option<Batch<K, V>> {
        self.0.done().map(Batch::from)
    }
}

impl<K: Row, V: Row> Navigable for Batch<K, V> {
    type Cursor = SharedCursor<<OrdValBatch<Layout<K, V>> as Navigable>::Cursor, K, V>;

    fn cursor(&self) -> Self::Cursor {
        SharedCursor { inner: self.0.cursor(), rows: std::marker::PhantomData }
    }
}

/// A cursor over a shared batch, for the operators of differential.
pub struct SharedCursor<C, K, V> {
    inner: C,
    rows: std::marker::PhantomData<(K, V)>,
}

impl<K: Row, V: Row, C> Cursor for SharedCursor<C, K, V>
where
    C: for<'a> Cursor<
            Storage = OrdValBatch<Layout<K, V>>,
            Key<'a> = &'a K,
            Val<'a> = &'a V,
            TimeGat<'a> = &'a Epoch,
            DiffGat<'a> = &'a Diff,
            ValOwn = V,
            Time = Epoch,
            Diff = Diff,
            KeyContainer = Vec<K>,
            ValContainer = Vec<V>,
            TimeContainer = Vec<Epoch>,
            DiffContainer = Vec<Diff>,
        >,
{
    type Storage = Batch<K, V>;
    type Key<'a> = &'a K;
    type ValOwn = V;
    type Val<'a> = &'a V;
    type Time = Epoch;
    type TimeGat<'a> = &'a Epoch;
    type Diff = Diff;
    type DiffGat<'a> = &'a Diff;
    type KeyContainer = Vec<K>;
    type ValContainer = Vec<V>;
    type TimeContainer = Vec<Epoch>;
    type DiffContainer = Vec<Diff>;

    fn key_valid(&self, storage: &Batch<K, V>) -> bool {
        self.inner.key_valid(&storage.0)
    }
    fn val_valid(&self, storage: &Batch<K, V>) -> bool {
        self.inner.val_valid(&storage.0)
    }
    fn key<'a>(&self, storage: &'a Batch<K, V>) -> &'a K {
        self.inner.key(&storage.0)
    }
    fn val<'a>(&self, storage: &'a Batch<K, V>) -> &'a V {
        self.inner.val(&storage.0)
    }
    fn get_key<'a>(&self, storage: &'a Batch<K, V>) -> Option<&'a K> {
        self.inner.get_key(&storage.0)
    }
    fn get_val<'a>(&self, storage: &'a Batch<K, V>) -> Option<&'a V> {
        self.inner.get_val(&storage.0)
    }
    fn map_times<L: FnMut(&Epoch, &Diff)>(&mut self, storage: &Batch<K, V>, logic: L) {
        self.inner.map_times(&storage.0, logic);
    }
    fn step_key(&mut self, storage: &Batch<K, V>) {
        self.inner.step_key(&storage.0);
    }
    fn seek_key(&mut self, storage: &Batch<K, V>, key: &K) {
        self.inner.seek_key(&storage.0, key);
    }
    fn step_val(&mut self, storage: &Batch<K, V>) {
        self.inner.step_val(&storage.0);
    }
    fn seek_val(&mut self, storage: &Batch<K, V>, val: &V) {
        self.inner.seek_val(&storage.0, val);
    }
    fn rewind_keys(&mut self, storage: &Batch<K, V>) {
        self.inner.rewind_keys(&storage.0);
    }
    fn rewind_vals(&mut self, storage: &Batch<K, V>) {
        self.inner.rewind_vals(&storage.0);
    }
}

/// Proof at compile time that a batch may be read from any thread.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Batch<u64, u64>>();
    // `BatchContainer` is what makes `Vec` the containers named above.
    fn container<C: BatchContainer>() {}
    container::<Vec<u64>>();
};
