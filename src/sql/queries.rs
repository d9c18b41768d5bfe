//! A folder of queries, planned: each file a view, in an order in which each stands after those that it reads.
//!
//! A refused view stops no other but those that read it. The name of a file is the view's, its leading comment the
//! description. A view's stored row has the columns of the query's `ORDER BY` first, each in its order, then all other
//! columns as selected, ascending: so bytes sort as the view does, and a filter on what stands first is a seek.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::{LogicalPlan, SortExpr};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{ObjectName, Query, visit_relations};
use std::ops::ControlFlow;

use super::lower::{Known, Lowering, all_columns, physical_columns};
use super::program::Program;
use super::refusal::{Objection, Place, Refusal, Source};
use super::relation::Fingerprint;
use super::row::Codec;
use super::tables::Tables;
use super::view_plan::{ViewColumn, ViewPlan};
use super::{session, syntax};

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryFile {
    /// The view's name: the file's without `.sql`.
    pub name: String,
    /// The file as it is named in refusals.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl QueryFile {
    /// A query that stands in no file.
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), path: format!("{name}.sql"), text: text.to_owned() }
    }
}

/// What became of some queries.
#[derive(Debug, Default)]
pub struct Planned {
    /// The views, each after those that it reads.
    pub views: Vec<Arc<ViewPlan>>,
    /// What is refused, by the name of its view, in order of name.
    pub refusals: Vec<(String, Refusal)>,
}

/// The queries of a folder, in order of name.
pub fn read_queries(folder: &Path) -> std::io::Result<Vec<QueryFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_suffix(".sql").filter(|name| !name.starts_with('.')) else { continue };
        let name = name.to_owned();
        let text = std::fs::read_to_string(&path)?;
        files.push(QueryFile { name, path: path.display().to_string(), text });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Plans queries over these tables and over one another.
pub fn plan_queries(files: &[QueryFile], tables: &Tables) -> Planned {
    let mut planned = Planned::default();
    let mut waiting: BTreeMap<&str, (&QueryFile, Box<Query>, BTreeSet<String>)> = BTreeMap::new();
    let mut refused: BTreeMap<String, Refusal> = BTreeMap::new();
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    for file in files {
        match parsed(file, tables, &names) {
            Ok((query, reads)) => drop(waiting.insert(&file.name, (file, query, reads))),
            Err(objection) => drop(refused.insert(file.name.clone(), source(file).refuse(objection))),
        }
    }
    let tables = tables.iter().map(|table| (table.kind.name().to_owned(), Known::Table(Arc::clone(table))));
    let mut known: BTreeMap<String, Known> = tables.collect();
    loop {
        let is_ready = |reads: &BTreeSet<String>| reads.iter().all(|name| !waiting.contains_key(name.as_str()));
        let Some(name) = waiting.iter().find(|(_, (_, _, reads))| is_ready(reads)).map(|(name, _)| *name) else {
            break;
        };
        let Some((file, query, reads)) = waiting.remove(name) else { break };
        let made = match reads.iter().find(|read| refused.contains_key(*read)) {
            Some(read) => {
                let message = "it is refused itself, or reads one that is";
                Err(Objection::new(Place::Word(read.clone()), format!("view {read}"), message))
            }
            None => view(file, query, &known, reads),
        };
        match made {
            Ok(view) => {
                known.insert(name.to_owned(), Known::View(Arc::clone(&view)));
                planned.views.push(view);
            }
            Err(objection) => drop(refused.insert(name.to_owned(), source(file).refuse(objection))),
        }
    }
    for (name, (file, _, reads)) in &waiting {
        let read = reads.iter().find(|read| waiting.contains_key(read.as_str())).expect("it waits for one");
        let message = "views read one another in a circle; a query can read itself by WITH RECURSIVE";
        let objection = Objection::new(Place::Word(read.clone()), format!("view {read}"), message);
        refused.insert((*name).to_owned(), source(file).refuse(objection));
    }
    planned.refusals = refused.into_iter().collect();
    planned
}

fn source(file: &QueryFile) -> Source<'_> {
    Source { file: &file.path, text: &file.text }
}

/// The query of a file, and the views that it names.
fn parsed(
    file: &QueryFile,
    tables: &Tables,
    names: &BTreeSet<&str>,
) -> Result<(Box<Query>, BTreeSet<String>), Objection> {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
    };
    if !is_name(&file.name) || file.name.len() > 64 {
        let message = "a view is named by lower case letters, digits and _, 64 at most, beginning with a letter";
        return Err(Objection::new(Place::Query, format!("file name {}", file.name), message));
    }
    if tables.table(&file.name).is_some() {
        return Err(Objection::new(Place::Query, format!("file name {}", file.name), "there is a table of this name"));
    }
    let query = syntax::parse(&file.text)?;
    let mut reads = BTreeSet::new();
    let _ = visit_relations(&*query, |name: &ObjectName| {
        if let Some(last) = name.0.last().and_then(|part| part.as_ident()) {
            let name = last.value.to_ascii_lowercase();
            if names.contains(name.as_str()) {
                reads.insert(name);
            }
        }
        ControlFlow::<()>::Continue(())
    });
    Ok((query, reads))
}

/// The view of a query.
fn view(
    file: &QueryFile,
    query: Box<Query>,
    known: &BTreeMap<String, Known>,
    reads: BTreeSet<String>,
) -> Result<Arc<ViewPlan>, Objection> {
    let context = session::maintained();
    register(&context, known)?;
    syntax::check(&query, None)?;
    let plan = session::plan(&context, query)?;
    let plan = context.state().optimize(&plan)?;
    let text = plan.display_indent().to_string();
    let (order, plan) = ordered(&plan);
    let columns: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    check_names(&columns)?;
    let lowered = Lowering::new(known).lower(plan)?;
    let order = order_columns(order, plan)?;
    let schema = Arc::clone(&lowered.schema);
    let relation = lowered.relation();
    let mut places: Vec<(usize, SortOptions)> = Vec::new();
    for (place, options) in order {
        if places.iter().all(|(known, _)| *known != place) {
            places.push((place, options));
        }
    }
    for place in 0..schema.fields().len() {
        if places.iter().all(|(known, _)| *known != place) {
            places.push((place, SortOptions::default()));
        }
    }
    let field = |place: usize| {
        let field = relation.schema.field(place);
        Field::new(field.name(), field.data_type().clone(), true)
    };
    let stored: Vec<Field> = places.iter().map(|(place, _)| field(*place)).collect();
    let options: Vec<SortOptions> = places.iter().map(|(_, options)| *options).collect();
    let codec = Codec::sorted(Arc::new(Schema::new(stored)), &options);
    let choice: Vec<usize> = places.iter().map(|(place, _)| *place).collect();
    let outputs = physical_columns(&all_columns(&relation.schema), &choice);
    let program = Program::new(Codec::new(Arc::clone(&relation.schema)), Vec::new(), outputs, codec.clone());
    let columns: Vec<ViewColumn> = columns
        .into_iter()
        .enumerate()
        .map(|(selected, name)| ViewColumn {
            name,
            kind: relation.schema.field(selected).data_type().clone(),
            place: choice.iter().position(|place| *place == selected).expect("every column is stored"),
        })
        .collect();
    let reads: Vec<Arc<str>> = reads.into_iter().map(Arc::from).collect();
    let fingerprint = Fingerprint::of(&format!("{:?} stored {choice:?} {options:?} {columns:?}", relation.fingerprint));
    Ok(Arc::new(ViewPlan {
        name: file.name.as_str().into(),
        description: description(&file.text),
        sql: file.text.clone(),
        relation,
        stored: Arc::new(program),
        codec,
        columns,
        reads,
        fingerprint,
        plan: text,
    }))
}

/// What a query may read, without rows.
fn register(context: &SessionContext, known: &BTreeMap<String, Known>) -> Result<(), Objection> {
    for (name, known) in known {
        let schema = match known {
            Known::Table(table) => Arc::clone(&table.schema),
            Known::View(plan) => plan.selected_schema(),
        };
        context.register_table(name.as_str(), Arc::new(EmptyTable::new(schema)))?;
    }
    Ok(())
}

/// The order of the whole, and the plan beneath it. Projections above it that only choose columns keep it.
fn ordered(plan: &LogicalPlan) -> (&[SortExpr], &LogicalPlan) {
    match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => (&sort.expr, &sort.input),
        _ => (&[], plan),
    }
}

/// Where the columns of an order stand in a plan.
fn order_columns(order: &[SortExpr], plan: &LogicalPlan) -> Result<Vec<(usize, SortOptions)>, Objection> {
    let mut columns = Vec::new();
    for sort in order {
        let Some(column) = sort.expr.try_as_col() else {
            let message = "a view is sorted by columns that it selects; SELECT the expression under a name of its own";
            return Err(Objection::new(Place::of(&sort.expr), "ORDER BY", message));
        };
        let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        columns.push((plan.schema().index_of_column(column)?, options));
    }
    Ok(columns)
}

/// Every column has a name of its own, by which it can be asked for.
fn check_names(columns: &[String]) -> Result<(), Objection> {
    let mut seen = BTreeSet::new();
    for name in columns {
        if !seen.insert(name) {
            let message = "two columns have this name; give one another by AS";
            return Err(Objection::new(Place::Word(name.clone()), format!("column {name}"), message));
        }
    }
    Ok(())
}

/// The leading comment, a text.
fn description(text: &str) -> String {
    let lines = text.lines().map(str::trim_start).skip_while(|line| line.is_empty());
    let lines = lines.map_while(|line| line.strip_prefix("--")).map(str::trim);
    lines.collect::<Vec<_>>().join(" ").trim().to_owned()
}
