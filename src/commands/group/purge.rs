//! `emaj group purge`.

use std::process::ExitCode;

use crate::commands::act::connect;
use crate::commands::{Context, InstallationArgs};
use crate::errors::Result;
use crate::journal;
use crate::retention::{self, Purged};
use crate::ui::{Column, Format, List};
use crate::words::count;

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
    let told = tell(&done, ended.is_ok(), context);
    ended.and(told).map(|()| ExitCode::SUCCESS)
}

/// Says what was done.
fn tell(done: &[Purged], is_all: bool, context: &Context) -> Result<()> {
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
    }
    Ok(())
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
