//! Programs called on updates as they come: many rows at a time, no state, at any kind of time.

use std::sync::Arc;
use std::time::Instant;

use differential_dataflow::consolidation::consolidate_updates;
use differential_dataflow::difference::Semigroup;
use differential_dataflow::{AsCollection, Data, VecCollection};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::CapabilitySet;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::Timestamp;
use timely::progress::operate::FrontierInterest;

use crate::dataflow::meter::Meter;
use crate::dataflow::shared_batch::Diff;
use crate::sql::{Failure, Row};

/// So many rows are evaluated at a time.
const BATCH_ROWS: usize = 4096;

/// What became of some rows, with their places.
pub(super) struct Made<X> {
    pub(super) rows: Vec<(usize, X)>,
    pub(super) failures: Vec<(usize, Failure)>,
}

/// What was made of rows, and the rows of which nothing could be made.
pub(super) type Outcome<'scope, T, D, R> = (VecCollection<'scope, T, D, R>, VecCollection<'scope, T, Failure, Diff>);

/// Whether what is made of different rows is often the same, so that it pays to add it up here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    /// It is: groups.
    Often,
    /// Only what is made of a row and of the one that takes its place.
    Seldom,
}

/// Makes updates of rows: `evaluate` says what is made of each, `weigh` what that means as often as the row is there.
pub(super) fn evaluate<'scope, T, X, D, R>(
    rows: VecCollection<'scope, T, Row, Diff>,
    name: &str,
    meter: Arc<Meter>,
    repeats: Repeats,
    mut evaluate: impl FnMut(&[&Row]) -> Made<X> + 'static,
    weigh: impl Fn(X, Diff) -> (D, R) + 'static,
) -> Outcome<'scope, T, D, R>
where
    T: Timestamp,
    D: Data,
    R: Semigroup + 'static,
{
    let mut builder = OperatorBuilder::new(name.to_owned(), rows.scope());
    let mut input = builder.new_input(rows.inner, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (made_output, made_stream) = builder.new_output::<Vec<(D, T, R)>>();
    let (failed_output, failed_stream) = builder.new_output::<Vec<(Failure, T, Diff)>>();
    let (mut made_output, mut failed_output) = (OutputBuilder::from(made_output), OutputBuilder::from(failed_output));
    builder.build(move |_capabilities| {
        let mut updates: Vec<(Row, T, Diff)> = Vec::new();
        move |_frontiers| {
            let began = Instant::now();
            let mut capabilities = [CapabilitySet::new(), CapabilitySet::new()];
            // What several messages bring is evaluated together.
            input.for_each(|stamp, container| {
                for (output, capabilities) in capabilities.iter_mut().enumerate() {
                    stamp.retain_stamp(output).iter().for_each(|held| capabilities.insert(held.clone()));
                }
                if updates.is_empty() {
                    std::mem::swap(&mut updates, container);
                } else {
                    updates.append(container);
                }
            });
            if updates.is_empty() {
                return;
            }
            meter.took(updates.len());
            let (mut made_now, mut failed_now) = (made_output.activate(), failed_output.activate());
            for some in updates.chunks(BATCH_ROWS) {
                // A join may have brought much before the dataflow was let go.
                if meter.is_ending() {
                    break;
                }
                let rows: Vec<&Row> = some.iter().map(|(row, ..)| row).collect();
                let Made { rows, failures } = evaluate(&rows);
                let mut made: Vec<(D, T, R)> = Vec::with_capacity(rows.len());
                made.extend(rows.into_iter().map(|(place, row)| {
                    let (_, time, count) = &some[place];
                    let (row, weight) = weigh(row, *count);
                    (row, time.clone(), weight)
                }));
                // Where nothing is taken away nothing cancels, and sorting would be for nothing.
                if repeats == Repeats::Often || some.iter().any(|(.., count)| *count < 0) {
                    consolidate_updates(&mut made);
                }
                meter.gave(made.len());
                if !made.is_empty() {
                    made_now.session(&capabilities[0]).give_container(&mut made);
                }
                if !failures.is_empty() {
                    let at = |(place, failure): (usize, Failure)| (failure, some[place].1.clone(), some[place].2);
                    failed_now.session(&capabilities[1]).give_iterator(failures.into_iter().map(at));
                }
            }
            // One that held a slice is larger than what an epoch brings.
            updates = Vec::new();
            meter.worked(began);
        }
    });
    (made_stream.as_collection(), failed_stream.as_collection())
}
