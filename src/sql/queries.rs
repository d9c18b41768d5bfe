//! A folder of queries, planned: each file a view, in an order in which each stands after those that it reads.
//!
//! In: names and texts, which [`read_queries`] reads of a folder. Out: the views, and of each query that cannot be one where
//! and why. A refused view stops no other but those that read it. The name of a file is the view's, its leading comment the
//! description. Not here: what becomes of one query (`planning`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as AnyStatement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{Query, Statement};

use super::lower::Known;
use super::refusal::{Objection, Place, Refusal, Source};
use super::tables::Tables;
use super::text_file;
use super::view_plan::ViewPlan;
use super::{planning, session, syntax};

/// How long the name of a view may be.
const NAME_BYTES_MAX: usize = 64;

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryFile {
    /// The view's name: the file's without `.sql`.
    pub name: String,
    /// The file as it is named in refusals.
    pub path: String,
    /// What it says.
    pub text: String,
    /// Why it cannot be read, if so.
    pub unreadable: Option<String>,
}

impl QueryFile {
    /// A query that stands in no file.
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), path: format!("{name}.sql"), text: text.to_owned(), unreadable: None }
    }

    fn source(&self) -> Source<'_> {
        Source { file: &self.path, text: &self.text }
    }
}

/// What became of some queries.
#[derive(Debug, Default)]
pub struct Planned {
    /// The views, each after those that it reads.
    pub views: Vec<Arc<ViewPlan>>,
    /// What is refused, by the name of its view, in order of name.
    pub refusals: Vec<(String, Refusal)>,
    /// Those of them with no fault of their own but that they read one that is refused.
    pub behind_others: BTreeSet<String>,
}

/// The queries of a folder, in order of name. One that cannot be read is refused later, and the others are not.
pub fn read_queries(folder: &Path) -> std::io::Result<Vec<QueryFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_suffix(".sql").filter(|name| !name.starts_with('.')) else { continue };
        let name = name.to_owned();
        let (text, unreadable) = match text_file::read(&path, syntax::TEXT_BYTES_MAX) {
            Ok(text) => (text, None),
            Err(error) => (String::new(), Some(error.to_string())),
        };
        files.push(QueryFile { name, path: path.display().to_string(), text, unreadable });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// A query that waits for the views that it reads.
struct Waiting<'a> {
    file: &'a QueryFile,
    query: Box<Query>,
    reads: BTreeSet<String>,
}

/// Plans queries over these tables and over one another.
pub fn plan_queries(files: &[QueryFile], tables: &Tables) -> Planned {
    let tables = tables.iter().map(|table| (table.kind.name().to_owned(), Known::Table(Arc::clone(table))));
    let mut planner = Planner::new(tables.collect());
    // A file that has the name of a table is refused, and the name goes on to mean the table.
    let names = files.iter().map(|file| file.name.as_str()).filter(|name| !planner.known.contains_key(*name));
    let names: BTreeSet<&str> = names.collect();
    let mut waiting: BTreeMap<&str, Waiting<'_>> = BTreeMap::new();
    for file in files {
        match planner.parse(file, &names) {
            Ok(parsed) => drop(waiting.insert(&file.name, parsed)),
            Err(objection) => planner.refuse(file, objection),
        }
    }
    let is_ready = |waiting: &BTreeMap<&str, Waiting<'_>>, one: &Waiting<'_>| {
        one.reads.iter().all(|name| !waiting.contains_key(name.as_str()))
    };
    while let Some(name) = waiting.iter().find(|(_, one)| is_ready(&waiting, one)).map(|(name, _)| *name) {
        let next = waiting.remove(name).expect("just found");
        planner.plan(next);
    }
    for (name, one) in &waiting {
        let message = if one.reads.contains(*name) {
            "it is the view itself; a query can read its own rows by WITH RECURSIVE"
        } else {
            "views read one another in a circle; leave one of them out of another"
        };
        let read = one.reads.iter().find(|read| waiting.contains_key(read.as_str())).expect("it waits for one");
        let read = if one.reads.contains(*name) { name } else { read.as_str() };
        planner.refuse(one.file, Objection::new(Place::Word(read.to_owned()), format!("view {read}"), message));
    }
    let Planner { views, refused, behind_others, .. } = planner;
    Planned { views, refusals: refused.into_iter().collect(), behind_others }
}

/// What is known while queries are planned one after another.
struct Planner {
    context: SessionContext,
    known: BTreeMap<String, Known>,
    views: Vec<Arc<ViewPlan>>,
    refused: BTreeMap<String, Refusal>,
    behind_others: BTreeSet<String>,
}

impl Planner {
    fn new(known: BTreeMap<String, Known>) -> Self {
        let context = session::maintained();
        for (name, known) in &known {
            register(&context, name, known);
        }
        let (views, refused, behind_others) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        Self { context, known, views, refused, behind_others }
    }

    fn refuse(&mut self, file: &QueryFile, objection: Objection) {
        self.refused.insert(file.name.clone(), file.source().refuse(objection));
    }

    /// The query of a file, and which of these views it names.
    fn parse<'a>(&self, file: &'a QueryFile, names: &BTreeSet<&str>) -> Result<Waiting<'a>, Objection> {
        let of_name = |message: &str| Objection::new(Place::Query, format!("file name {}", file.name), message);
        let letters = file.name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_');
        let begins = file.name.starts_with(|first: char| first.is_ascii_lowercase());
        if !letters || !begins || file.name.len() > NAME_BYTES_MAX {
            return Err(of_name("must be lower case letters, digits and _, 64 at most, and begin with a letter"));
        }
        if self.known.contains_key(&file.name) {
            return Err(of_name("is that of a table; give the file another one"));
        }
        if let Some(why) = &file.unreadable {
            return Err(Objection::new(Place::Query, "file", format!("it cannot be read: {why}")));
        }
        let query = syntax::parse(&file.text)?;
        let statement = AnyStatement::Statement(Box::new(Statement::Query(query.clone())));
        let (read, _) = resolve_table_references(&statement, true)?;
        let reads = read.iter().map(TableReference::table).filter(|name| names.contains(name)).map(str::to_owned);
        Ok(Waiting { file, query, reads: reads.collect() })
    }

    /// Plans a query all of whose views are planned or refused.
    fn plan(&mut self, Waiting { file, query, reads }: Waiting<'_>) {
        if let Some(read) = reads.iter().find(|read| self.refused.contains_key(*read)) {
            let message = "is refused, and with it whatever reads it";
            self.behind_others.insert(file.name.clone());
            return self.refuse(file, Objection::new(Place::Word(read.clone()), format!("view {read}"), message));
        }
        match planning::view(&file.name, file.source(), query, &self.context, &self.known, &reads) {
            Ok(view) => {
                let view = Arc::new(view);
                let known = Known::View(Arc::clone(&view));
                register(&self.context, &file.name, &known);
                self.known.insert(file.name.clone(), known);
                self.views.push(view);
            }
            Err(objection) => self.refuse(file, objection),
        }
    }
}

/// Makes a name known to a session, by its columns alone.
fn register(context: &SessionContext, name: &str, known: &Known) {
    let columns = match known {
        Known::Table(table) => nullable(&table.schema),
        Known::View(plan) => nullable(&plan.selected_schema()),
    };
    context.register_table(name, Arc::new(EmptyTable::new(columns))).expect("names differ");
}

/// The columns, each of which may be null: whatever is left out of a row is.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests;
