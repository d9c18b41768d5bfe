//! Which views there are: the folder of queries, planned, given to the workers, shown, and taken away again.
//!
//! A view that changes, and every one that reads it, is computed anew beside the old one; all new ones are shown in one
//! step when all are complete, or those that are when that takes too long ([`crate::published::catalog`]), and an old one
//! is removed only when it is shown no more. A text that is refused leaves what was there: the last text of that file that
//! could be planned goes on. What a view means is told by its plan's fingerprint, so a comment changes nothing.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::config::ViewsSection;
use crate::dataflow::{NewView, ViewCommand, ViewId, ViewLog};
use crate::model::Topics;
use crate::published::{Catalog, CatalogView, Publisher};
use crate::sql::{Planned, QueryFile, SchemaFolderError, Tables, ViewPlan, plan_queries, read_queries};

/// How often it is looked whether views are shown and others can go.
const TICK: Duration = Duration::from_millis(50);

/// How a view is, beside what can be seen of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewHealth {
    /// It is computed, or about to be.
    Wanted,
    /// Its text is refused, and why.
    Refused(String),
}

/// A file of the folder.
#[derive(Debug, Clone)]
pub struct ViewStatus {
    /// The view's name.
    pub name: Arc<str>,
    /// How it is.
    pub health: ViewHealth,
}

/// What became of a look at the folder.
#[derive(Debug, Clone, Default)]
pub struct Reloaded {
    /// Views that are computed anew: new ones, changed ones, and those that read changed ones.
    pub made: Vec<Arc<str>>,
    /// Views that go.
    pub removed: Vec<Arc<str>>,
    /// Views whose text is refused, and why.
    pub refused: Vec<(Arc<str>, String)>,
}

/// The views of a service.
#[derive(Debug, Clone)]
pub struct Views(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: Option<PathBuf>,
    tables: Arc<Tables>,
    log: ViewLog,
    publisher: Arc<Publisher>,
    statuses: ArcSwap<Vec<ViewStatus>>,
    state: Mutex<State>,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// What was read last.
    files: Vec<QueryFile>,
    /// The last text of each file that could be planned.
    good: BTreeMap<String, QueryFile>,
    /// Everything that the workers have.
    installed: BTreeMap<ViewId, Arc<CatalogView>>,
    /// What is to be shown.
    wanted: Arc<Catalog>,
    last_id: u64,
}

impl Views {
    /// The views that a configuration asks for, planned and told to whoever follows the log.
    pub fn open(section: &ViewsSection, topics: &Topics, publisher: Arc<Publisher>) -> Result<Self, SchemaFolderError> {
        let folder = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let schemas = folder(&section.schema_directory).filter(|path| path.exists() || {
            tracing::warn!(path = %path.display(), "there is no such folder of resource schemas: types have no tables of their own");
            false
        });
        let tables = Tables::read(schemas.as_deref(), topics)?;
        let views = Self::new(folder(&section.directory), Arc::new(tables), publisher);
        if let Err(error) = views.reload() {
            tracing::warn!(folder = section.directory, %error, "the folder of queries cannot be read: there are no views");
        }
        Ok(views)
    }

    /// The views of a folder; none without one. Nothing is computed before [`Views::reload`].
    pub fn new(folder: Option<PathBuf>, tables: Arc<Tables>, publisher: Arc<Publisher>) -> Self {
        Self(Arc::new(Inner {
            folder,
            tables,
            log: ViewLog::default(),
            publisher,
            statuses: ArcSwap::default(),
            state: Mutex::default(),
            stop: AtomicBool::new(false),
        }))
    }

    /// What the workers are told.
    pub fn log(&self) -> ViewLog {
        self.0.log.clone()
    }

    /// The tables that queries read.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.0.tables
    }

    /// How each view of the folder is, in order of name.
    pub fn statuses(&self) -> Arc<Vec<ViewStatus>> {
        self.0.statuses.load_full()
    }

    /// Whether every view that is wanted is shown.
    pub fn are_shown(&self) -> bool {
        self.0.publisher.shows_what_is_wanted()
    }

    /// Reads the folder and does what it says. An error is about the folder as a whole.
    pub fn reload(&self) -> std::io::Result<Reloaded> {
        let Some(folder) = &self.0.folder else { return Ok(Reloaded::default()) };
        let files = read_queries(folder)?;
        Ok(self.apply(files))
    }

    /// Makes the views be those of these files.
    pub fn apply(&self, files: Vec<QueryFile>) -> Reloaded {
        let inner = &self.0;
        let mut state = inner.state.lock().expect("no holder of the views panics");
        let (views, refused) = planned(&files, &state.good, &inner.tables);
        for file in files.iter().filter(|file| !refused.contains_key(&file.name)) {
            state.good.insert(file.name.clone(), file.clone());
        }
        let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
        state.good.retain(|name, _| names.contains(name.as_str()));
        let reloaded = state.want(inner, views, &refused);
        let statuses = files.iter().map(|file| ViewStatus {
            name: file.name.as_str().into(),
            health: refused.get(&file.name).cloned().map_or(ViewHealth::Wanted, ViewHealth::Refused),
        });
        inner.statuses.store(Arc::new(statuses.collect()));
        state.files = files;
        drop(state);
        self.tick();
        reloaded
    }

    /// Removes what is neither shown nor wanted, and what is suspended.
    fn tick(&self) {
        let inner = &self.0;
        let mut state = inner.state.lock().expect("no holder of the views panics");
        let mut needed = inner.publisher.renderings_shown();
        needed.extend(state.wanted.views().map(|view| view.id));
        for id in inner.log.with_readers(inner.publisher.renderings_suspended()) {
            needed.remove(&id);
        }
        let gone: Vec<ViewId> = state.installed.keys().rev().filter(|id| !needed.contains(id)).copied().collect();
        for id in gone {
            state.installed.remove(&id);
            inner.log.append(ViewCommand::Remove(id));
        }
    }

    /// Looks after the folder until it is told to stop, and does what else is to be done now and then.
    pub fn watch(
        &self,
        interval: Duration,
        now_and_then: impl Fn() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let views = self.clone();
        std::thread::Builder::new().name("tarn-views".to_owned()).spawn(move || {
            let mut looked = Instant::now();
            while !views.0.stop.load(Ordering::Acquire) {
                std::thread::sleep(TICK);
                views.tick();
                views.0.publisher.look_again();
                now_and_then();
                if !interval.is_zero() && looked.elapsed() >= interval {
                    looked = Instant::now();
                    views.look();
                }
            }
        })
    }

    /// Reloads if a file has changed.
    fn look(&self) {
        let Some(folder) = &self.0.folder else { return };
        match read_queries(folder) {
            Ok(files) => {
                let is_new = self.0.state.lock().expect("no holder of the views panics").files != files;
                if is_new {
                    let Reloaded { made, removed, refused } = self.apply(files);
                    tracing::info!(?made, ?removed, refused = refused.len(), "the queries have changed");
                }
            }
            // An editor may be at work; what is there goes on.
            Err(error) => tracing::debug!(%error, "the folder of queries could not be read"),
        }
    }

    /// Has what comes be shown without any views, and waits for none.
    pub fn let_go(&self) {
        self.0.publisher.want(Arc::default());
    }

    /// Ends the watch.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
    }
}

/// The views of these files, and why some files are refused. What is refused goes on as it was before, if that still has a
/// meaning beside what has changed; and so does whatever reads it.
fn planned(
    files: &[QueryFile],
    good: &BTreeMap<String, QueryFile>,
    tables: &Tables,
) -> (Vec<Arc<ViewPlan>>, BTreeMap<String, String>) {
    let mut texts = files.to_vec();
    let mut refused = BTreeMap::new();
    loop {
        let Planned { views, refusals, behind_others } = plan_queries(&texts, tables);
        let mut goes_back = false;
        for (name, refusal) in refusals.iter().filter(|(name, _)| !behind_others.contains(name)) {
            refused.entry(name.clone()).or_insert_with(|| refusal.to_string());
            let text = texts.iter_mut().find(|text| text.name == *name).expect("it was planned");
            if let Some(before) = good.get(name).filter(|before| *before != text) {
                text.clone_from(before);
                goes_back = true;
            }
        }
        if !goes_back {
            for (name, refusal) in refusals {
                refused.entry(name).or_insert_with(|| refusal.to_string());
            }
            return (views, refused);
        }
    }
}

impl State {
    /// Installs what is new and asks for all of it to be shown.
    fn want(&mut self, inner: &Inner, plans: Vec<Arc<ViewPlan>>, refused: &BTreeMap<String, String>) -> Reloaded {
        let mut reloaded = Reloaded::default();
        // Made anew, with all that read them.
        let suspended = inner.log.with_readers(inner.publisher.renderings_suspended());
        let mut views: BTreeMap<Arc<str>, Arc<CatalogView>> = BTreeMap::new();
        for plan in plans {
            let name = Arc::clone(&plan.name);
            let is_the_same = |known: &&Arc<CatalogView>| {
                let is_computed = self.installed.contains_key(&known.id) && !suspended.contains(&known.id);
                known.plan.fingerprint == plan.fingerprint && is_computed
            };
            let known = self.wanted.view(&name).filter(is_the_same);
            let view = match known {
                // The text may have another comment.
                Some(known) => Arc::new(CatalogView { id: known.id, plan, since_ms: known.since_ms }),
                None => {
                    self.last_id += 1;
                    let id = ViewId(self.last_id);
                    let read = |name: &Arc<str>| (Arc::clone(name), views[name].id);
                    let reads = plan.reads.iter().map(read).collect();
                    inner.log.append(ViewCommand::Install(Arc::new(NewView { id, plan: Arc::clone(&plan), reads })));
                    reloaded.made.push(Arc::clone(&name));
                    Arc::new(CatalogView { id, plan, since_ms: crate::clock::now_ms() })
                }
            };
            self.installed.insert(view.id, Arc::clone(&view));
            views.insert(name, view);
        }
        let is_gone = |view: &&Arc<CatalogView>| !views.contains_key(&view.plan.name);
        reloaded.removed = self.wanted.views().filter(is_gone).map(|view| Arc::clone(&view.plan.name)).collect();
        reloaded.refused = refused.iter().map(|(name, why)| (name.as_str().into(), why.clone())).collect();
        for (name, why) in &reloaded.refused {
            tracing::warn!(view = %name, "the view is refused: {why}");
        }
        self.wanted = Arc::new(Catalog::new(views.into_values()));
        inner.publisher.want(Arc::clone(&self.wanted));
        reloaded
    }
}
