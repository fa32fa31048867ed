//! `emaj status`: how the groups and the sinks are doing.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::act::{FORMATS, warn_of_broken_rollbacks};
use super::{Context, ShownArgs};
use crate::errors::Result;
use crate::journal::{self, GroupStatus, Inconsistency, SinkLag};
use crate::ui::{Column, Format, List, Tabular};
use crate::words::{bytes, count, duration};

/// Shows how the groups and the sinks are doing
///
/// For every group of the installation: its state, its last mark and the changes since, and the size of its logs. For every sink: its state,
/// who delivers to it, the changes that it has not been delivered yet, the age of the oldest, and how many changes are set aside.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    shown: ShownArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(FORMATS)?;
    let (mut session, schema) = context.installation(&args.shown.installation(), |_| {})?;
    let known = journal::status(&mut *session, &schema)?;
    let lags = journal::lag(&mut *session, &schema)?;
    let (groups, sinks) = (groups(&known), sinks(&lags));
    let inconsistencies = journal::inconsistencies(&mut *session, &schema)?;
    if context.output.format() == Format::Json {
        let all = All {
            groups,
            sinks,
            inconsistencies,
        };
        return context.output.data(&all).map(|()| ExitCode::SUCCESS);
    }
    context.output.data(&groups)?;
    // (CSV has one heading: `emaj sink lag` has the sinks.)
    if !lags.is_empty() && context.output.format() != Format::Csv {
        context.output.text("\n")?;
        context.output.data(&sinks)?;
    }
    if !inconsistencies.is_empty() {
        context.output.warn(format!(
            "{} found; `emaj verify` names them, and how to mend them",
            count(inconsistencies.len(), "inconsistency")
        ));
    }
    warn_of_broken_rollbacks(&mut session, &schema, context)?;
    if known.is_empty() {
        context
            .output
            .say("there is no group; a manifest declares them, `emaj install` makes them");
    }
    Ok(ExitCode::SUCCESS)
}

/// All of it, for programs.
#[derive(Serialize)]
struct All<G, S> {
    groups: G,
    sinks: S,
    inconsistencies: Vec<Inconsistency>,
}

impl<G: Tabular, S: Serialize> Tabular for All<G, S> {
    fn columns(&self) -> Vec<Column> {
        self.groups.columns()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.groups.rows()
    }
}

fn sinks(all: &[SinkLag]) -> impl Tabular {
    let columns = [
        Column::left("sink"),
        Column::left("kind"),
        Column::left("state"),
        Column::left("worker"),
        Column::right("not delivered"),
        Column::right("since"),
        Column::right("set aside"),
        Column::left("reason"),
    ];
    let row = |sink: &SinkLag| {
        vec![
            sink.sink.clone(),
            sink.kind.clone(),
            sink.state.word().to_owned(),
            sink.worker.clone().unwrap_or_else(|| "none".to_owned()),
            sink.changes.to_string(),
            sink.age(Timestamp::now()).map(duration).unwrap_or_default(),
            sink.set_aside.to_string(),
            sink.reason.clone().unwrap_or_default(),
        ]
    };
    List::new(all, columns, row)
}

fn groups(all: &[GroupStatus]) -> impl Tabular {
    let columns = [
        Column::left("group"),
        Column::left("manifest"),
        Column::left("state"),
        Column::right("tables"),
        Column::right("sequences"),
        Column::right("marks"),
        Column::left("last mark"),
        Column::right("set"),
        Column::right("changes since"),
        Column::right("log"),
    ];
    List::new(all, columns, row_of_group)
}

fn row_of_group(group: &GroupStatus) -> Vec<String> {
    let mut state = if group.logging { "logging" } else { "idle" }.to_owned();
    if !group.rollback {
        state += ", audit only";
    }
    if group.protected {
        state += ", protected";
    }
    let age = group.last_mark_seconds_ago.map(age);
    let changes = group.changes_since.map(|changes| match changes {
        journal::MOST_COUNTED.. => format!("{changes} or more"),
        changes => changes.to_string(),
    });
    vec![
        group.group.clone(),
        group.manifest.clone(),
        state,
        group.tables.to_string(),
        group.sequences.to_string(),
        group.active_marks.to_string(),
        group.last_mark.clone().unwrap_or_default(),
        age.unwrap_or_default(),
        changes.unwrap_or_default(),
        bytes(group.log_bytes),
    ]
}

/// A clock that was put back makes an age of less than nothing.
fn age(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Err(_) | Ok(0) => "just now".to_owned(),
        Ok(seconds @ 1..60) => format!("{seconds} s ago"),
        Ok(seconds) => format!("{} ago", duration(Duration::from_secs(seconds))),
    }
}
