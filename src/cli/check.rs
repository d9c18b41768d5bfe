//! `tarn check`: the configuration, the folder of queries and the unit tests beside them, without a server.
//!
//! Everything that is to be mended is a line on standard output that begins with `file:line`, as compilers write it; the
//! error says how much of it there is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use tarn::config::Config;
use tarn::service::view_tests::{self, Checked};

use super::{Refused, load, say};

/// Arguments of `tarn check`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The configuration; defaults and environment without one.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The folder of queries [default: that of the configuration].
    #[arg(long)]
    queries: Option<PathBuf>,
    /// Prints how this view is computed, and runs no tests.
    #[arg(long, value_name = "VIEW")]
    explain: Option<String>,
}

/// Checks what the arguments say.
pub fn run(arguments: &Arguments) -> Result<()> {
    let config = load(arguments.config.as_deref())?;
    let folder = match &arguments.queries {
        Some(folder) => Some(folder.clone()),
        // A service without the folder that it would have by default has no views, so nothing is wrong with that.
        None => {
            let (folder, usual) = (&config.views.directory, Config::default().views.directory);
            Some(PathBuf::from(folder)).filter(|path| !folder.is_empty() && (*folder != usual || path.is_dir()))
        }
    };
    if let Some(name) = &arguments.explain {
        return explain(&config, folder.as_deref(), name);
    }
    let mut text =
        format!("the configuration is valid: source {:?}, {} workers\n", config.source.kind, config.workers());
    let schemas = &config.views.schema_directory;
    if !schemas.is_empty() && !Path::new(schemas).is_dir() {
        text += &format!("there is no folder of resource schemas {schemas}: types have no tables of their own\n");
    }
    let Some(folder) = folder else {
        text += "there is no folder of queries: there are no views\n";
        return say(&text);
    };
    let checked = view_tests::check(&config, &folder).context("the queries could not be checked")?;
    text += &report(&checked);
    say(&text)?;
    if checked.is_good() { Ok(()) } else { Err(Refused(summary(&checked)).into()) }
}

fn report(checked: &Checked) -> String {
    let mut text = String::new();
    for wrong in checked.refusals.iter().chain(&checked.failures) {
        text += wrong.trim_end();
        text.push('\n');
    }
    if checked.is_good() {
        text += &format!("{} views can be maintained; {} tests passed\n", checked.plans.len(), checked.tests);
    }
    text
}

fn summary(checked: &Checked) -> String {
    let Checked { refusals, failures, .. } = checked;
    let told = [(refusals.len(), "queries are refused"), (failures.len(), "tests fail or cannot be read")];
    let told = told.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    told.collect::<Vec<_>>().join(", ")
}

fn explain(config: &Config, folder: Option<&Path>, name: &str) -> Result<()> {
    let folder = folder.ok_or_else(|| Refused("there is no folder of queries: name it with --queries".to_owned()))?;
    let checked = view_tests::plan(config, folder).context("the queries could not be planned")?;
    if let Some(plan) = checked.plans.iter().find(|plan| &*plan.name == name) {
        return say(&plan.explain(&|_| String::new()));
    }
    let names: Vec<&str> = checked.plans.iter().map(|plan| &*plan.name).collect();
    say(&checked.refusals.iter().map(|refusal| format!("{refusal}\n")).collect::<String>())?;
    Err(Refused(format!("there is no view `{name}`; there are {}", names.join(", "))).into())
}
