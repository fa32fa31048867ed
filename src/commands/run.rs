//! `emaj run`: the worker that delivers changes to the sinks.

use std::process::ExitCode;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Context, ManifestArgs, parse_duration};
use crate::deliver::{self, Status, Stop};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, FailureFilter};
use crate::manifest::Manifest;
use crate::pg::Session;
use crate::ui::logging::{self, LogFormat};
use crate::ui::words::count;

/// Delivers changes to the sinks, after they were committed, until it is told to stop (SIGTERM, Ctrl-C). Several workers may run: each
/// sink is delivered to by one of them at a time
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Only to this sink; may be given several times
    #[arg(long, value_name = "SINK")]
    sink: Vec<String>,
    /// End when everything is delivered; exits with 3 when changes are set aside
    #[arg(long)]
    until_empty: bool,
    /// With --until-empty: how long a sink may be out of reach
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration, requires = "until_empty")]
    wait: Duration,
    /// How the log is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let manifest = context.load(&args.manifest.manifest)?;
    check_names(&manifest, &args.sink)?;
    logging::begin(args.log_format, context.output.is_quiet());
    let mut session = context.connect(Some(&manifest))?;
    session.only_builtins()?;
    let stop = Stop::default();
    stop_at_signals(&stop)?;
    let status = Status::default();
    let wanted = deliver::Wanted {
        sinks: args.sink.clone(),
        until_empty: args.until_empty,
        patience: args.wait,
        init: Vec::new(),
    };
    deliver::work(&manifest, &mut session, &context.environment, &wanted, &status, &stop)?;
    if !args.until_empty {
        return Ok(ExitCode::SUCCESS);
    }
    let set_aside = set_aside(&mut session, &manifest, &args.sink)?;
    let written: u64 = status.all().values().map(|sink| sink.written).sum();
    context.output.say(format!("delivered {}", count(written, "change")));
    if set_aside == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    context
        .output
        .warn(format!("{} set aside", count(set_aside as u64, "change")));
    context
        .output
        .hint("`emaj failures list` shows them, `emaj failures retry` has them tried again");
    Ok(ExitCode::from(Kind::PartlyDone.exit_code()))
}

/// Refuses a sink that the manifest does not have.
pub(super) fn check_names(manifest: &Manifest, sinks: &[String]) -> Result<()> {
    for name in sinks {
        if manifest.sink(name).is_none() {
            let known: Vec<String> = manifest
                .sinks
                .iter()
                .map(|sink| format!("`{}`", sink.name.value))
                .collect();
            let error = Error::message(Kind::Refused, format!("the manifest has no sink `{name}`"));
            return Err(match known.as_slice() {
                [] => error.hint("it has no sink at all"),
                known => error.hint(format!("it has {}", known.join(", "))),
            });
        }
    }
    if manifest.sinks.is_empty() {
        return Err(Error::message(
            Kind::Refused,
            "the manifest has no sink: there is nothing to deliver to",
        )
        .hint("declare one under `sinks`, and a binding that goes to it"));
    }
    Ok(())
}

/// Has `stop` set by SIGTERM and SIGINT; the second one ends the program at once.
pub(super) fn stop_at_signals(stop: &Stop) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let stop = stop.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if stop.is_set() {
                std::process::exit(128 + signal);
            }
            stop.set();
        }
    });
    Ok(())
}

/// How many changes are set aside, of the sinks that were delivered to.
pub(super) fn set_aside(session: &mut Session, manifest: &Manifest, only: &[String]) -> Result<usize> {
    let mut number = 0;
    for sink in &manifest.sinks {
        let name = sink.name.value.as_str();
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            let filter = FailureFilter {
                sink: Some(name),
                ..FailureFilter::default()
            };
            number += journal::failures(&mut **session, &manifest.schema, &filter)?.len();
        }
    }
    Ok(number)
}
