//! `emaj rollback`: puts the tables of a group back to what they were at a mark.

mod bar;
mod show;

use std::process::ExitCode;
use std::sync::Arc;

use super::act::{FORMATS, act, warn};
use super::{Context, InstallationArgs, LockArgs};
use crate::errors::Result;
use crate::rollback::{self, Preview, Report, Wanted};
use crate::ui::words::count;

use bar::Bar;

/// Puts the tables and sequences of a group back to what they were at a mark. The rollback is logged: it stands between two new
/// marks and can itself be undone by rolling back to the first of them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group
    group: String,
    /// The mark to go back to; EMAJ_LAST_MARK is the last one
    mark: String,
    /// Do not log it: later marks and log rows go, and it cannot be undone
    #[arg(long)]
    unlogged: bool,
    /// Stop the group afterwards, in the same transaction
    #[arg(long)]
    stop: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Show what would be undone and every reason for a refusal; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    installation: InstallationArgs,
    #[command(flatten)]
    lock: LockArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(FORMATS)?;
    let wanted = Wanted {
        group: args.group,
        mark: args.mark,
        logged: !args.unlogged,
        stop: args.stop,
    };
    let bar = Arc::new(Bar::new(context.output.clone()));
    let (mut session, schema) = context.installation(&args.installation, {
        let (bar, output) = (Arc::clone(&bar), context.output.clone());
        move |notice| {
            if !bar.takes(&notice.message) {
                warn(&output, &notice);
            }
        }
    })?;
    let preview = rollback::preview(&mut session, &schema, &wanted)?;
    if args.dry_run {
        context.output.data(&show::Undone(&preview))?;
        preview.check()?;
        context.output.say(sentence(&preview, "would undo"));
        return Ok(ExitCode::SUCCESS);
    }
    preview.check()?;
    if !args.yes {
        context.output.say(show::changes(&preview));
    }
    context.output.confirm(&question(&preview), args.yes)?;
    let doing = format!("roll group `{}` back to mark `{}`", wanted.group, preview.mark);
    let done = act(&mut session, &args.lock, &doing, &mut |transaction| {
        rollback::run(transaction, &schema, &wanted)
    });
    bar.end();
    let report = done?;
    context.output.data(&show::Rolled(&report))?;
    context.output.say(summary(&report));
    if let Some(undo) = &report.undo {
        context
            .output
            .hint(format!("undo it with `emaj rollback {} {undo}`", report.group));
    }
    Ok(ExitCode::SUCCESS)
}

fn question(preview: &Preview) -> String {
    let mut text = format!("{}.", sentence(preview, "This undoes"));
    if !preview.logged {
        text.push_str(" It is not logged and cannot be undone.");
    }
    text + " Go on?"
}

/// Returns what is undone and what it costs, in one sentence.
fn sentence(preview: &Preview, begin: &str) -> String {
    let mut text = format!(
        "{begin} {} of {} since mark `{}` of group `{}`",
        count(preview.changes(), "change"),
        count(preview.tables.len(), "table"),
        preview.mark,
        preview.group
    );
    if !preview.marks_lost.is_empty() {
        let names: Vec<String> = preview.marks_lost.iter().map(|mark| format!("`{mark}`")).collect();
        text.push_str(&format!(
            "; {} can no longer be rolled back to: {}",
            count(names.len(), "mark"),
            names.join(", ")
        ));
    }
    if preview.stop {
        text.push_str("; the group is stopped");
    }
    text
}

fn summary(report: &Report) -> String {
    let rows: i64 = report
        .tables
        .iter()
        .map(|table| table.deleted + table.updated + table.inserted)
        .sum();
    format!(
        "rolled group `{}` back to mark `{}`: {} changed in {}{}",
        report.group,
        report.mark,
        count(rows, "row"),
        show::time(report.seconds),
        if report.stopped { "; the group is stopped" } else { "" }
    )
}
