//! `emaj group purge`.

use std::process::ExitCode;

use crate::commands::act::{connect, with_right};
use crate::commands::{Context, InstallationArgs};
use crate::errors::Result;
use crate::journal::{self, GroupState};
use crate::retention::{self, Purged};
use crate::ui::{Column, Format, List};
use crate::words::{count, shell};

/// Removes log rows that no mark, no retention and no sink needs; log by log, each in a transaction of its own. First it deletes the marks
/// that the group's `keep_marks` and `max_size` let go
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Groups [default: all]
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.installation)?;
    let known = journal::groups(&mut *session, &schema)?;
    for name in &args.groups {
        journal::group_named(&known, name)?;
    }
    let mut done = Vec::new();
    let ended = retention::round(&mut session, &schema, &args.groups, &mut done);
    // A round that was cut off has done something too, and ends as it did, whoever reads that.
    let told = tell(&done, &known, ended.is_ok(), context);
    ended.map_err(with_right).and(told).map(|()| ExitCode::SUCCESS)
}

/// Says what was done.
fn tell(done: &[Purged], known: &[GroupState], is_all: bool, context: &Context) -> Result<()> {
    if context.output.format() != Format::Table {
        let columns = [
            Column::left("group"),
            Column::right("marks"),
            Column::right("rows"),
            Column::right("rotated"),
            Column::right("later"),
        ];
        let report = List::new(done, columns, row);
        return match is_all {
            true => context.output.data(&report),
            false => context.output.data_ahead(&report),
        };
    }
    for purged in done {
        context.output.say(sentence(purged));
        if let Some(problem) = &purged.problem {
            context.output.warn(problem);
        }
        let group = known.iter().find(|group| group.group == purged.group);
        if let Some(hint) = group.filter(|_| purged.logs > 0).and_then(keeps_all) {
            context.output.hint(hint);
        }
    }
    Ok(())
}

/// Says why no log row of a group ever goes, when that is so, and what to do about it.
fn keeps_all(group: &GroupState) -> Option<String> {
    let name = &group.group;
    if group.retention.is_some() {
        None
    } else if group.state == "IDLE" {
        Some(format!(
            "group `{name}` is stopped, and keeps all log rows: `emaj group reset {}` empties its logs",
            shell(name)
        ))
    } else if !group.rollback {
        Some(format!(
            "group `{name}` is for audit only, and keeps all log rows: a `retention` in the manifest lets them go"
        ))
    } else {
        None
    }
}

fn sentence(purged: &Purged) -> String {
    let mut text = format!(
        "purged group `{}`: {} removed",
        purged.group,
        count(purged.rows, "log row")
    );
    if purged.marks > 0 {
        text += &format!("; {} deleted", count(purged.marks, "mark"));
    }
    if purged.rotated > 0 {
        text += &format!("; {} rotated", count(purged.rotated, "log"));
    }
    if purged.later > 0 {
        text += &format!("; {} in use, left for the next time", count(purged.later, "log"));
    }
    text
}

fn row(purged: &Purged) -> Vec<String> {
    vec![
        purged.group.clone(),
        purged.marks.to_string(),
        purged.rows.to_string(),
        purged.rotated.to_string(),
        purged.later.to_string(),
    ]
}
