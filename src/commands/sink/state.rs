//! `emaj sink pause` and `emaj sink resume`.

use std::process::ExitCode;

use crate::commands::act::{connect_as_owner, tell_record};
use crate::commands::{Context, InstallationArgs};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, SinkState};
use crate::names::listed;
use crate::pg::Session;

/// Which sink
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The sink
    sink: String,
    #[command(flatten)]
    installation: InstallationArgs,
}

/// Which sink, and why
#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    which: Args,
    /// Why, for those who will wonder
    #[arg(long, value_name = "TEXT")]
    because: Option<String>,
}

pub(super) fn pause(args: &PauseArgs, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect_as_owner(context, &args.which.installation)?;
    let reason = args.because.as_deref().unwrap_or("paused by hand");
    if !journal::pause(&mut *session, &schema, &args.which.sink, reason)? {
        // (Paused and then resumed, one that was given up would go on behind what it never got.)
        return Err(lost_or_unknown(&mut session, &schema, &args.which.sink)?);
    }
    let sentence = format!("sink `{}` is paused; its changes wait in the log", args.which.sink);
    let record = [
        ("sink", args.which.sink.as_str().into()),
        ("done", "paused".into()),
        ("reason", reason.into()),
    ];
    tell_record(&context.output, &record, &sentence)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn resume(args: &Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect_as_owner(context, &args.installation)?;
    let is_resumed = match journal::sink_named(&mut *session, &schema, &args.sink)? {
        Some(sink) => journal::resume(&mut *session, &schema, &sink)?,
        None => false,
    };
    if !is_resumed {
        return Err(lost_or_unknown(&mut session, &schema, &args.sink)?);
    }
    let record = [("sink", args.sink.as_str().into()), ("done", "resumed".into())];
    tell_record(&context.output, &record, &format!("sink `{}` goes on", args.sink))?;
    Ok(ExitCode::SUCCESS)
}

/// The error of a sink that can be neither paused nor resumed.
fn lost_or_unknown(session: &mut Session, schema: &str, name: &str) -> Result<Error> {
    let Some(sink) = journal::sink_named(&mut **session, schema, name)? else {
        return Ok(unknown_sink(session, schema, name));
    };
    let lost = format!("sink `{name}` was given up: what comes after its cursor may be gone");
    Ok(Error::message(Kind::Refused, lost).hint(SinkState::Lost.way_on(name, &sink.kind)))
}

/// The error of a sink that is not installed; it names those that are.
pub(in crate::commands) fn unknown_sink(session: &mut Session, schema: &str, sink: &str) -> Error {
    let known = journal::sinks(&mut **session, schema).unwrap_or_default();
    let error = Error::message(Kind::Refused, format!("unknown sink `{sink}`"));
    match known.as_slice() {
        [] => error.hint("no sink is installed: a manifest declares them, `emaj install` makes them known"),
        known => error.hint(format!("known sinks: {}", listed(known.iter().map(|sink| &sink.name)))),
    }
}
