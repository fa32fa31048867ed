//! `emaj init`: sends the rows that were there before to the sinks.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::act::{FORMATS, Record};
use super::run::{check_names, set_aside, stop_at_signals};
use super::{Context, ManifestArgs, parse_duration};
use crate::catalog;
use crate::deliver::{self, Begun, Done, Ground, Initial, LeftOut, Stop};
use crate::errors::{Error, Kind, Result};
use crate::journal;
use crate::manifest::{Binding, Manifest};
use crate::pg::{self, Session};
use crate::ui::Format;
use crate::ui::logging::{self, LogFormat};
use crate::words::{count, count_as, quoted};

/// Sends the rows that were there before to the sinks
///
/// They are those of the bound tables, beside the changes that go on; what is there already stays. Killed, it goes on where it was when it
/// is started again.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Only this binding; may be given several times
    #[arg(long, value_name = "BINDING")]
    binding: Vec<String>,
    /// Take away what has no row any more, afterwards; `max_deletes` of the binding is the limit
    #[arg(long)]
    prune: bool,
    /// Another manifest of the installation, for --prune: what its bindings make at the same place stays; may be given several times
    #[arg(long, value_name = "MANIFEST", requires = "prune")]
    beside: Vec<PathBuf>,
    /// Show what would be written (LDIF for a directory), and with --prune what would be taken away; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Begin with the first row, though an earlier run was not finished
    #[arg(long)]
    restart: bool,
    /// How long a sink may be out of reach, or taken over by another `init` or `replay`
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    wait: Duration,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(FORMATS)?;
    let manifest = context.load(&args.manifest.manifest)?;
    check_names(&manifest, &[])?;
    let beside = beside(&args, &manifest, context)?;
    logging::begin(LogFormat::Text, true);
    let mut session = context.connect(Some(&manifest))?;
    context.works_with(&session, &manifest.schema);
    if !args.dry_run {
        catalog::check_owner(&mut *session, &manifest.schema)?;
    }
    let initial = Initial {
        prune: args.prune,
        restart: args.restart,
        patience: args.wait,
    };
    let chosen = deliver::choose(&manifest, &args.binding)?;
    let mut ground = Ground {
        manifest: &manifest,
        beside: &beside,
        session: &mut session,
        environment: &context.environment,
    };
    if args.dry_run {
        let output = context.output.clone();
        // (A record of LDIF ends with a line break by itself: this one makes the blank line between two.)
        let mut show = |text: &str| output.text(&format!("{text}\n"));
        let (shown, left_out) = deliver::preview(&mut ground, &chosen, args.prune, &mut show)?;
        context.output.say(format!("{} would be sent", count(shown, "change")));
        return Ok(ending(tell(&left_out, context)));
    }
    let begun = deliver::begin(&mut ground, &initial, &chosen)?;
    if !args.prune {
        tell_may_keep(&begun, &args.manifest, context);
    }
    if !begun.missing.is_empty() {
        context.output.warn(format!(
            "what {} missed is lost: rows of a table without a primary key cannot be sent; what changes from now on is delivered",
            quoted("binding", &begun.missing)
        ));
    }
    tell_backlog(ground.session, &manifest, &chosen, context)?;
    let stop = Stop::default();
    let is_terminated = stop_at_signals(&stop)?;
    let bar = context.output.progress("send rows", begun.total);
    let mut done = Done::default();
    let sent = |rows| bar.advance(rows);
    let ended = deliver::initialise(&mut ground, &initial, &begun, &chosen, &stop, &sent, &mut done);
    drop(bar);
    let sinks = chosen.iter().filter_map(|binding| binding.to.as_ref());
    let sinks: Vec<String> = sinks.map(|to| to.value.clone()).collect();
    // (A signal may come when all is done.)
    let is_sent = ended.is_ok() && stop.is_set() && is_sent(&mut session, &manifest, &chosen, &sinks)?;
    if ended.is_err() || stop.is_set() && (args.prune || !is_sent) {
        // What was done before stays done.
        tell_done(&done, done.rows > 0, done.pruned > 0, false, context);
        ended?;
        let again = args.manifest.command("init");
        let stopped = pg::stopped(is_terminated.load(Ordering::Relaxed), "what was sent is sent");
        return Err(stopped.hint(match is_sent {
            true => format!("`{again} --prune` sends all rows once more, and takes away what has none"),
            false => format!("`{again}` goes on where it was"),
        }));
    }
    let set_aside = set_aside(&mut session, &manifest, &sinks)?;
    let is_whole = tell_done(&done, true, args.prune, set_aside == 0, context);
    if set_aside > 0 {
        context.output.warn(format!("{} set aside", count(set_aside, "change")));
        context.output.hint("`emaj failures list` shows them");
    }
    if context.output.format() != Format::Table {
        record(&done, set_aside, context)?;
    }
    Ok(ending(is_whole && set_aside == 0))
}

/// Tells whether all rows of the bindings are sent.
fn is_sent(session: &mut Session, manifest: &Manifest, chosen: &[Binding], sinks: &[String]) -> Result<bool> {
    let unsent = deliver::unsent(session, manifest, sinks)?;
    let is_chosen = |name: &str| chosen.iter().any(|binding| binding.name.value == name);
    Ok(!unsent.iter().any(|one| is_chosen(&one.binding)))
}

/// Tells programs what was done.
fn record(done: &Done, set_aside: u64, context: &Context) -> Result<()> {
    let numbers = [
        ("done", "sent".into()),
        ("rows", done.rows.into()),
        ("written", done.written.into()),
        ("pruned", done.pruned.into()),
        ("left_out", done.left_out.number().into()),
        ("set_aside", set_aside.into()),
    ];
    context.output.data(&Record(&numbers))
}

/// Reads the manifests that are named beside the one whose rows are sent.
fn beside(args: &Args, manifest: &Manifest, context: &Context) -> Result<Vec<Manifest>> {
    let load = |path: &PathBuf| {
        let other = context.load(std::slice::from_ref(path))?;
        if other.schema == manifest.schema {
            return Ok(other);
        }
        Err(Error::message(
            Kind::Refused,
            format!(
                "the manifest `{}` is of the installation in schema `{}`, expected `{}`",
                other.name, other.schema, manifest.schema
            ),
        ))
    };
    args.beside.iter().map(load).collect()
}

/// Says what comes before the rows: whoever sees none of them sent for a while is to know why.
fn tell_backlog(session: &mut Session, manifest: &Manifest, chosen: &[Binding], context: &Context) -> Result<()> {
    /// So many changes are delivered in no time.
    const WORTH_SAYING: i64 = 10_000;
    for lag in journal::lag(&mut **session, &manifest.schema)? {
        let is_chosen = chosen
            .iter()
            .filter_map(|binding| binding.to.as_ref())
            .any(|to| to.value == lag.sink);
        if is_chosen && lag.changes >= WORTH_SAYING {
            context.output.say(format!(
                "sink `{}`: {} in the log go first, then the rows",
                lag.sink,
                count(lag.changes, "change")
            ));
        }
    }
    Ok(())
}

/// Says where rows stay that went while nothing was delivered: what is sent are those that are there.
fn tell_may_keep(begun: &Begun, manifest: &ManifestArgs, context: &Context) {
    if begun.may_keep.is_empty() {
        return;
    }
    context.output.warn(format!(
        "what was deleted since the sink was given up stays at the places of {}",
        quoted("binding", &begun.may_keep)
    ));
    context
        .output
        .hint(format!("`{} --prune` takes it away", manifest.command("init")));
}

/// Tells what was done, and what was left out; returns whether that is nothing. `arrived`: nothing waits, so what was not written was there.
fn tell_done(done: &Done, sent: bool, pruned: bool, arrived: bool, context: &Context) -> bool {
    if sent {
        let (rows, written) = (count(done.rows, "row"), done.written);
        context.output.say(match (written > done.rows, done.refused) {
            // Changes that waited before the rows are among it.
            (true, _) => format!("sent {rows}, and the changes that waited: {written} written"),
            (false, 0) if arrived => format!("sent {rows}: {written} written, the others were there"),
            (false, 0) => format!("sent {rows}: {written} written"),
            (false, refused) => format!("sent {rows}: {written} written, {refused} refused"),
        });
    }
    if pruned {
        let things = count_as(done.pruned, "thing that had no row", "things that had no row");
        context.output.say(format!("took away {things}"));
    }
    tell(&done.left_out, context)
}

/// Tells what was left out; returns whether that is nothing.
fn tell(left_out: &LeftOut, context: &Context) -> bool {
    for text in left_out.kept() {
        context.output.say(text);
    }
    for text in left_out.told() {
        context.output.warn(text);
    }
    let more = left_out.number() - left_out.told().len() as u64;
    if more > 0 {
        context.output.warn(format!("… and {more} more"));
    }
    left_out.number() == 0
}

fn ending(is_whole: bool) -> ExitCode {
    match is_whole {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Kind::PartlyDone.exit_code()),
    }
}
