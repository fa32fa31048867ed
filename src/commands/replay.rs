//! `emaj replay`: delivers again what a sink was delivered since a mark.

use std::process::ExitCode;
use std::time::Duration;

use super::act::{connect_as_owner, tell_record};
use super::sink::unknown_sink;
use super::{AskArgs, Context, InstallationArgs, parse_duration};
use crate::deliver::{Stop, source_group, take_over};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, MarkState, SinkState};
use crate::pg::{Locking, transact};
use crate::words::shell;

/// Delivers again what a sink was delivered since a mark
///
/// It sets the cursor of the sink back to the mark: the worker delivers everything since once more, with the same ids.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sink
    sink: String,
    /// The mark; EMAJ_LAST_MARK is the last one
    #[arg(long, value_name = "MARK")]
    from: String,
    /// The group that the mark belongs to; need not be said when the sink's tables are all in one
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// How long to wait for another `replay` or `init` of the sink
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    wait: Duration,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect_as_owner(context, &args.installation)?;
    let Some(sink) = journal::sink_named(&mut *session, &schema, &args.sink)? else {
        return Err(unknown_sink(&mut session, &schema, &args.sink));
    };
    let group = match args.group {
        Some(group) => {
            journal::group_named(&journal::groups(&mut *session, &schema)?, &group)?;
            group
        }
        None => source_group(&mut session, &schema, &args.sink)?,
    };
    let marks = journal::marks(&mut *session, &schema, &group)?;
    let mark = MarkState::called(&marks, &args.from).map_or(args.from, |mark| mark.mark.clone());
    context.output.confirm(
        &format!(
            "deliver everything since mark `{mark}` of group `{group}` to sink `{}` again?",
            args.sink
        ),
        args.ask.yes,
    )?;
    take_over(&mut session, &schema, &sink, args.wait, &Stop::default())?;
    let locking = Locking {
        timeout: Duration::from_secs(1),
        wait: args.wait,
    };
    let is_set = transact(&mut session, locking, &mut |transaction| {
        journal::rewind(transaction, &schema, &sink, &group, &mark)
    })?;
    if !is_set {
        return Err(
            Error::message(Kind::Refused, format!("group `{group}` has no mark `{mark}`"))
                .hint(format!("`emaj mark list {}` shows its marks", shell(&group))),
        );
    }
    let sentence = format!("sink `{}` is delivered to again from mark `{mark}` on", args.sink);
    let record = [
        ("sink", args.sink.as_str().into()),
        ("done", "replayed".into()),
        ("group", group.as_str().into()),
        ("mark", mark.as_str().into()),
    ];
    tell_record(&context.output, &record, &sentence)?;
    if sink.state == SinkState::Paused {
        context
            .output
            .hint(format!("it is paused: {}", sink.state.way_on(&sink.name, &sink.kind)));
    }
    Ok(ExitCode::SUCCESS)
}
