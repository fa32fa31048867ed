//! `emaj rollback --list`: the rollbacks under way, and the last that are over.

use std::process::ExitCode;

use serde::Serialize;

use super::super::act::{connect, warn_of_broken_rollbacks};
use super::super::{Context, InstallationArgs};
use super::show::time;
use crate::errors::Result;
use crate::journal::{self, PastRollback, RollbackSession};
use crate::ui::{Column, Tabular};
use crate::words::moment;

/// So many that are over are shown.
const LIMIT: i64 = 50;

pub(super) fn run(group: Option<&str>, installation: &InstallationArgs, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, installation)?;
    let mut running = journal::rollback_activity(&mut *session, &schema)?;
    running.retain(|one| group.is_none_or(|group| one.groups.iter().flatten().any(|of| of == group)));
    let past = journal::past_rollbacks(&mut *session, &schema, group, LIMIT)?;
    if let (Some(group), true, true) = (group, running.is_empty(), past.is_empty()) {
        journal::group_named(&journal::groups(&mut *session, &schema)?, group)?;
    }
    context.output.data(&All { running, past })?;
    warn_of_broken_rollbacks(&mut session, &schema, context)?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct All {
    running: Vec<RollbackSession>,
    past: Vec<PastRollback>,
}

impl Tabular for All {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::right("rollback"),
            Column::left("group"),
            Column::left("mark"),
            Column::left("state"),
            Column::left("began"),
            Column::right("time"),
            Column::right("rows"),
            Column::left("by"),
            Column::left("comment"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.running
            .iter()
            .map(running)
            .chain(self.past.iter().map(past))
            .collect()
    }
}

fn running(one: &RollbackSession) -> Vec<String> {
    let left = match one.seconds_left {
        Some(left) => format!(", {} left", time(left)),
        None => String::new(),
    };
    vec![
        format!("{}.{}", one.id, one.lane),
        one.groups.clone().unwrap_or_default().join(", "),
        one.mark.clone().unwrap_or_default(),
        format!("{}: {} of {} tables{left}", one.phase, one.tables_done, one.tables),
        String::new(),
        time(one.seconds),
        format!("{} of {}", one.changes_done, one.changes),
        format!("{} (process {})", one.user.clone().unwrap_or_default(), one.pid),
        String::new(),
    ]
}

fn past(one: &PastRollback) -> Vec<String> {
    let mut state = match (one.state.as_str(), one.logged) {
        ("DONE", true) => "done, logged".to_owned(),
        ("DONE", false) => "done, unlogged".to_owned(),
        ("BROKEN", _) => "torn".to_owned(),
        _ => "broke off, taken back".to_owned(),
    };
    if one.partial {
        state += ", partial";
    }
    if one.sessions > 1 {
        state += &format!(", {} sessions", one.sessions);
    }
    vec![
        one.id.to_string(),
        one.groups.join(", "),
        one.mark.clone(),
        state,
        moment(one.started),
        one.seconds.map(time).unwrap_or_default(),
        one.rows.to_string(),
        one.user.clone(),
        one.comment.clone().unwrap_or_default(),
    ]
}
