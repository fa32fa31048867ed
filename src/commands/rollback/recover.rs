//! `emaj rollback --recover`: brings rollbacks in several sessions that broke off to their end.

use std::process::ExitCode;

use serde::Serialize;

use super::super::act::{act, connect, with_right};
use super::super::{Context, InstallationArgs, LockArgs};
use crate::errors::{Error, Kind, Result};
use crate::rollback::{self, Recovered};
use crate::ui::{Column, Format, Tabular};
use crate::words::{count, quoted};

pub(super) fn run(yes: bool, lock: &LockArgs, installation: &InstallationArgs, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, installation)?;
    let (mut recovered, running) = rollback::recover(&mut session, &schema).map_err(with_right)?;
    let mut refused = None;
    for one in recovered.iter_mut().filter(|one| yes && can_be_mended(one)) {
        let doing = format!("do the rest of rollback {}", one.id);
        match act(&mut session, lock, &doing, &mut |transaction| {
            rollback::mend(transaction, &schema, one.id)
        }) {
            Ok(tables) => (one.mended, one.done, one.torn) = (Some(tables), true, None),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    if context.output.format() != Format::Table {
        context.output.data(&All(&recovered))?;
    }
    for one in recovered.iter().filter(|one| one.torn.is_none()) {
        context.output.say(sentence(one));
    }
    for one in &running {
        let (id, groups) = (one.id, quoted("group", &one.groups));
        let pid = one.pid.unwrap_or_default();
        context.output.say(format!(
            "rollback {id} of {groups} is being carried out by process {pid}: left alone"
        ));
    }
    if recovered.is_empty() && running.is_empty() {
        context.output.say("no rollback has broken off: there is nothing to do");
    }
    // What has been done is told first.
    if let Some(refused) = refused {
        return Err(refused);
    }
    let mut torn = recovered
        .iter()
        .filter_map(|one| Some((one, one.torn.as_ref()?)))
        .peekable();
    if torn.peek().is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let (said, repairs): (Vec<String>, Vec<String>) = torn
        .map(|(one, torn)| {
            let (id, groups, mark) = (one.id, quoted("group", &one.groups), &one.mark);
            let said = format!("rollback {id} of {groups} to mark `{mark}` is torn: {}", torn.problem);
            (said, torn.repair.clone())
        })
        .unzip();
    Err(repairs
        .into_iter()
        .fold(Error::message(Kind::Failed, said.join("; ")), Error::hint))
}

fn can_be_mended(one: &Recovered) -> bool {
    one.torn.as_ref().is_some_and(|torn| !torn.left.is_empty())
}

fn sentence(one: &Recovered) -> String {
    let (id, groups, mark) = (one.id, quoted("group", &one.groups), &one.mark);
    let sessions = count(one.prepared, "prepared session");
    if let Some(tables) = one.mended {
        let tables = count(usize::try_from(tables).unwrap_or_default(), "table");
        format!(
            "rollback {id} of {groups} to mark `{mark}` was torn: the rest of it is done, {tables} of a stopped group"
        )
    } else if one.done {
        format!("rollback {id} of {groups} to mark `{mark}` was decided: done, {sessions} committed")
    } else {
        format!("rollback {id} of {groups} to mark `{mark}` was not decided: taken back, {sessions} undone")
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct All<'a>(&'a [Recovered]);

impl Tabular for All<'_> {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::right("rollback"),
            Column::left("group"),
            Column::left("mark"),
            Column::left("done"),
            Column::right("prepared"),
            Column::left("torn"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |one: &Recovered| {
            vec![
                one.id.to_string(),
                one.groups.join(", "),
                one.mark.clone(),
                one.done.to_string(),
                one.prepared.to_string(),
                one.torn.as_ref().map(|torn| torn.problem.clone()).unwrap_or_default(),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}
