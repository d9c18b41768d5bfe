//! What a change costs, for each shipped view and each kind of operator, in states of several sizes: it must not grow with
//! the state, but for a logarithm.
//!
//! `cargo bench --bench maintain`; `TARN_BENCH_CHANGES` changes how many, `TARN_BENCH_SIZES` (10000,100000,1000000) the
//! states. One thread, a change an epoch, from its record to its being visible; the first line is without any view.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use support::stepped::Stepped;
use support::{print_table, quantile, setting};
use tarn::dataflow::{NewView, ViewCommand, ViewId};
use tarn::model::Topics;
use tarn::published::{Catalog, CatalogView};
use tarn::sql::{QueryFile, Tables, plan_queries, read_queries};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A query for each kind of operator that the shipped views do not show alone.
const KINDS: [(&str, &str); 11] = [
    ("filter", "SELECT resource_id, workspace_id FROM resources WHERE resource_type = 'k8s_policy'"),
    (
        "join",
        "SELECT a.resource_id, b.resource_id AS other FROM k8s_cluster a JOIN k8s_policy b ON a.resource_id = b.resource_id",
    ),
    (
        "left_join",
        "SELECT h.resource_id, c.cluster_status FROM host h LEFT JOIN k8s_cluster c ON h.local_resource_id = c.local_resource_id",
    ),
    ("semijoin", "SELECT resource_id FROM host WHERE local_resource_id IN (SELECT local_resource_id FROM k8s_cluster)"),
    (
        "minimum",
        "SELECT resource_type, min(updated_at) AS first, max(updated_at) AS last FROM resources GROUP BY resource_type",
    ),
    (
        "count_distinct",
        "SELECT resource_type, count(DISTINCT workspace_id) AS workspaces FROM resources GROUP BY resource_type",
    ),
    (
        "float_sum",
        "SELECT resource_type, sum(CAST(length(data) AS DOUBLE) / 7) AS s FROM resources GROUP BY resource_type",
    ),
    ("distinct", "SELECT DISTINCT workspace_id, reporter_type FROM resources"),
    (
        "top_of_groups",
        "SELECT * FROM (SELECT resource_type, resource_id, updated_at, row_number() OVER (PARTITION BY resource_type ORDER BY updated_at DESC) AS n FROM resources) WHERE n <= 10",
    ),
    ("temporal", "SELECT resource_id FROM resources WHERE updated_at > now() - INTERVAL '1 hour'"),
    (
        "recursive",
        "WITH RECURSIVE r AS (SELECT resource_id, orphaned_by FROM orphaned_resources UNION SELECT r.resource_id, o.orphaned_by FROM r JOIN orphaned_resources o ON r.orphaned_by = o.resource_id) SELECT * FROM r",
    ),
];

fn main() {
    let changes = usize::try_from(setting("TARN_BENCH_CHANGES", 100_000)).unwrap();
    let sizes = std::env::var("TARN_BENCH_SIZES").unwrap_or_else(|_| "10000,100000,1000000".to_owned());
    let sizes: Vec<usize> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
    let tables = Tables::read(Some(Path::new("config/kessel-schema")), &Topics::default()).unwrap();
    let mut files = read_queries(Path::new("queries")).unwrap();
    files.extend(KINDS.map(|(name, text)| QueryFile::new(name, text)));
    let planned = plan_queries(&files, &tables);
    assert!(planned.refusals.is_empty(), "{:?}", planned.refusals);
    let mut rows: Vec<Vec<String>> = planned.views.iter().map(|plan| vec![plan.name.to_string()]).collect();
    rows.insert(0, vec!["(no view)".to_owned()]);
    for size in &sizes {
        let mut stepped = Stepped::new(*size);
        measured(&mut rows[0], &mut stepped, changes, None);
        for (place, plan) in planned.views.iter().enumerate() {
            let id = ViewId(place as u64 + 1);
            let reads = std::collections::BTreeMap::new();
            stepped.views.append(ViewCommand::Install(Arc::new(NewView { id, plan: Arc::clone(plan), reads })));
            let view = Arc::new(CatalogView { id, plan: Arc::clone(plan), since_ms: 0 });
            stepped.publisher.want(Arc::new(Catalog::new([view])));
            let hydrated = stepped.show();
            measured(&mut rows[place + 1], &mut stepped, changes, Some(hydrated));
            stepped.publisher.want(Arc::default());
            stepped.show();
            stepped.views.append(ViewCommand::Remove(id));
        }
    }
    let mut head = vec!["view".to_owned()];
    for size in &sizes {
        for what in ["mean µs", "p99 µs", "max µs", "hydrate s"] {
            head.push(format!("{size}: {what}"));
        }
    }
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    print_table(&format!("maintain: {changes} changes, one thread, an epoch each"), &head, &rows);
}

fn measured(row: &mut Vec<String>, stepped: &mut Stepped, changes: usize, hydrated: Option<Duration>) {
    let mut micros: Vec<f64> = (0..changes).map(|_| stepped.change().as_secs_f64() * 1e6).collect();
    micros.sort_by(f64::total_cmp);
    let mean = micros.iter().sum::<f64>() / micros.len() as f64;
    row.push(format!("{mean:.0}"));
    row.push(format!("{:.0}", quantile(&micros, 0.99)));
    row.push(format!("{:.0}", quantile(&micros, 1.0)));
    row.push(hydrated.map_or_else(String::new, |hydrated| format!("{:.2}", hydrated.as_secs_f64())));
}
