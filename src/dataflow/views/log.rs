//! Which views the workers are to have: one ordered log of commands, and whoever joins later begins with what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::dataflow::cut::ViewId;
use crate::sql::ViewPlan;

/// A view to be computed.
#[derive(Debug, Clone)]
pub struct NewView {
    /// This rendering of it: greater than that of any view that it reads, and of any before.
    pub id: ViewId,
    /// What it is.
    pub plan: Arc<ViewPlan>,
    /// Which renderings it reads, by the names in its plan.
    pub reads: BTreeMap<Arc<str>, ViewId>,
}

/// What the workers are told.
#[derive(Debug, Clone)]
pub enum ViewCommand {
    /// Compute this one.
    Install(Arc<NewView>),
    /// Nobody reads it any more.
    Remove(ViewId),
}

/// The log.
#[derive(Debug, Clone, Default)]
pub struct ViewLog(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    installed: BTreeMap<ViewId, Arc<NewView>>,
    followers: Vec<Sender<ViewCommand>>,
}

impl ViewLog {
    /// Appends a command.
    pub fn append(&self, command: ViewCommand) {
        let mut state = self.0.lock().expect("no holder of the log panics");
        match &command {
            ViewCommand::Install(view) => drop(state.installed.insert(view.id, Arc::clone(view))),
            ViewCommand::Remove(id) => drop(state.installed.remove(id)),
        }
        state.followers.retain(|follower| follower.send(command.clone()).is_ok());
    }

    /// These renderings with all installed ones that read one of them.
    pub fn with_readers(&self, mut views: BTreeSet<ViewId>) -> BTreeSet<ViewId> {
        // What reads one stands after it.
        for view in self.0.lock().expect("no holder of the log panics").installed.values() {
            if view.reads.values().any(|read| views.contains(read)) {
                views.insert(view.id);
            }
        }
        views
    }

    /// Everything that is installed, as commands, and then what is appended.
    pub fn follow(&self) -> Receiver<ViewCommand> {
        let (follower, commands) = unbounded();
        let mut state = self.0.lock().expect("no holder of the log panics");
        for view in state.installed.values() {
            drop(follower.send(ViewCommand::Install(Arc::clone(view))));
        }
        state.followers.push(follower);
        commands
    }
}
