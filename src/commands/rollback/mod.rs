//! `emaj rollback`: puts the tables of a group, or of several as one act, back to what they were at a mark.

mod bar;
mod estimate;
mod list;
mod recover;
mod show;

use std::process::ExitCode;
use std::sync::Arc;

use super::act::{FORMATS, act, warn, with_right};
use super::{Context, InstallationArgs, LockArgs};
use crate::errors::{Kind, Result};
use crate::pg::Session;
use crate::rollback::{self, Lanes, Left, LostMark, Parallel, Preview, Report, Wanted};
use crate::ui::Output;
use crate::words::{count, quoted, shell};

use bar::Bar;

/// Puts the tables of a group back to what they were at a mark
///
/// Sequences too, and of several groups as one. The rollback is logged: it stands between two new marks and can itself be undone by rolling
/// back to the first of them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group
    #[arg(required_unless_present_any = ["recover", "list"])]
    group: Option<String>,
    /// The mark to go back to; EMAJ_LAST_MARK is the last one
    #[arg(required_unless_present_any = ["recover", "list"])]
    mark: Option<String>,
    /// Another group, back to the same mark as one act; may be given several times. The mark must have been set on all of them at once
    #[arg(long, value_name = "GROUP")]
    with: Vec<String>,
    /// Do not log it: later marks and log rows go, and it cannot be undone
    #[arg(long)]
    unlogged: bool,
    /// Stop the groups afterwards, in the same transaction
    #[arg(long)]
    stop: bool,
    /// Let go back what was captured all the time since the mark, and leave the rest as it is: what was added, removed or moved since, or has a
    /// log that is not complete. It is named
    #[arg(long)]
    partial: bool,
    /// Share the work over so many sessions; tables tied by foreign keys stay in one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Show what would be undone and every reason for a refusal; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Keep these words with it, for the history
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Say how long it would take, by what earlier ones took; change nothing
    #[arg(long, conflicts_with_all = ["dry_run", "yes"])]
    estimate: bool,
    /// Show the rollbacks under way, how far they are, and the last that are done; of one group, or all
    #[arg(long, conflicts_with_all = ["mark", "with", "unlogged", "stop", "partial", "jobs", "yes", "dry_run", "comment", "estimate"])]
    list: bool,
    /// Bring rollbacks with --jobs that broke off to their end: all of it done, or all taken back. With --yes also what is missing of one that has stopped
    /// its groups, and that somebody has torn by hand
    #[arg(long, conflicts_with_all = ["group", "mark", "with", "unlogged", "stop", "partial", "jobs", "dry_run", "comment", "estimate", "list"])]
    recover: bool,
    #[command(flatten)]
    installation: InstallationArgs,
    #[command(flatten)]
    lock: LockArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(FORMATS)?;
    if args.recover {
        return recover::run(args.yes, &args.lock, &args.installation, context);
    }
    if args.list {
        return list::run(args.group.as_deref(), &args.installation, context);
    }
    let mut groups: Vec<String> = args.group.into_iter().chain(args.with).collect();
    groups.sort();
    groups.dedup();
    let wanted = Wanted {
        groups,
        mark: args.mark.unwrap_or_default(),
        logged: !args.unlogged,
        stop: args.stop,
        partial: args.partial,
        jobs: usize::from(args.jobs),
        comment: args.comment,
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
    if args.estimate {
        return estimate::run(&mut session, &schema, &wanted, &preview, context);
    }
    if args.dry_run {
        context.output.data(&show::Undone(&preview))?;
        preview.check()?;
        for left in &preview.left {
            context.output.warn(show::left(left, "would be left"));
        }
        context.output.say(sentence(&preview, "would undo"));
        if let Some(lanes) = &preview.lanes {
            context.output.say(sessions(lanes));
        }
        return Ok(ExitCode::SUCCESS);
    }
    preview.check()?;
    if !args.yes {
        context.output.say(show::changes(&preview));
    }
    context.output.confirm(&question(&preview), args.yes)?;
    let done = carry_out(&mut session, &schema, &wanted, &preview, &args.lock, &context.output);
    bar.end();
    let report = done?;
    context.output.data(&show::Rolled(&report))?;
    context.output.say(summary(&report));
    if let Some(undo) = &report.undo {
        let (first, others) = report.groups.split_first().unwrap_or((undo, &[]));
        let with: String = others.iter().map(|group| format!(" --with {}", shell(group))).collect();
        context.output.hint(format!(
            "undo it with `emaj rollback {} {}{with}{}`",
            shell(first),
            shell(undo),
            args.installation.named()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Rolls back in several sessions where that is wanted and possible, else in one.
fn carry_out(
    session: &mut Session,
    schema: &str,
    wanted: &Wanted,
    preview: &Preview,
    lock: &LockArgs,
    output: &Output,
) -> Result<Report> {
    let named = Wanted {
        mark: preview.mark.clone(),
        ..wanted.clone()
    };
    let doing = named.doing();
    match &preview.lanes {
        Some(lanes) if lanes.several() => {
            let done = rollback::run_parallel(session, schema, &named, lanes, lock.locking());
            match done.map_err(|error| with_right(error.context(format!("failed to {doing}"))))? {
                Parallel::Done(report) => return Ok(report),
                Parallel::NotInSeveral(error) => {
                    output.warn(format!("several sessions cannot do it: {error}"));
                    output.say("it goes on in one session");
                }
            }
        }
        Some(lanes) => output.say(sessions(lanes)),
        None => {}
    }
    let done = act(session, lock, &doing, &mut |transaction| {
        rollback::run(transaction, schema, &named)
    });
    done.map_err(|error| match error.kind() {
        Kind::Unreachable => error.hint_instead(
            "the server was lost on the way: `emaj rollback --list` says whether it was done; if it is not there, nothing was changed",
        ),
        _ => error,
    })
}

/// Returns in how many sessions it is done, and why in one.
fn sessions(lanes: &Lanes) -> String {
    match &lanes.because {
        Some(because) => format!("in one session: {because}"),
        None => format!("in {}", count(lanes.lanes.len(), "session")),
    }
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
        "{begin} {} of {} since mark `{}` of {}",
        count(preview.changes(), "change"),
        count(preview.tables.len(), "table"),
        preview.mark,
        quoted("group", &preview.groups)
    );
    if !preview.marks_lost.is_empty() {
        let names: Vec<String> = preview.marks_lost.iter().map(|lost| name(lost, preview)).collect();
        text.push_str(&format!(
            "; {} can no longer be rolled back to: {}",
            count(names.len(), "mark"),
            names.join(", ")
        ));
    }
    text.push_str(&stays(&preview.left));
    if preview.stop {
        text.push_str(stopped(&preview.groups));
    }
    text
}

/// Returns a mark with its group, where there are several.
fn name(lost: &LostMark, preview: &Preview) -> String {
    if preview.groups.len() > 1 {
        format!("`{}` of `{}`", lost.mark, lost.group)
    } else {
        format!("`{}`", lost.mark)
    }
}

/// Returns how many relations stay as they are, as the end of a sentence.
fn stays(left: &[Left]) -> String {
    match left.len() {
        0 => String::new(),
        1 => "; 1 relation is left as it is".to_owned(),
        several => format!("; {} are left as they are", count(several, "relation")),
    }
}

fn stopped(groups: &[String]) -> &'static str {
    if groups.len() > 1 {
        "; the groups are stopped"
    } else {
        "; the group is stopped"
    }
}

fn summary(report: &Report) -> String {
    let stays = stays(&report.left);
    let rows: i64 = report
        .tables
        .iter()
        .map(|table| table.deleted + table.updated + table.inserted)
        .sum();
    format!(
        "rolled {}{} back to mark `{}`: {} changed in {}{}{}{}",
        if stays.is_empty() { "" } else { "a part of " },
        quoted("group", &report.groups),
        report.mark,
        count(rows, "row"),
        show::time(report.seconds),
        if report.sessions > 1 {
            format!(", by {} sessions", report.sessions)
        } else {
            String::new()
        },
        stays,
        if report.stopped { stopped(&report.groups) } else { "" }
    )
}
