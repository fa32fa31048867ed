//! `emaj run`: the worker that delivers changes to the sinks.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Context, ManifestArgs, parse_duration};
use crate::catalog;
use crate::deliver::{self, Reload, Status, Stop, Unsent};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, FailureFilter};
use crate::manifest::{self, Manifest};
use crate::names::listed;
use crate::operating::{Addresses, Backlog, keep_house, listen, reloading, tell_systemd};
use crate::pg::{self, Session};
use crate::ui::logging::{self, LogFormat};
use crate::words::{count, quoted, shell};

/// Delivers changes to the sinks
///
/// It does so after they were committed, until it is told to stop (SIGTERM, Ctrl-C). Several workers may run: each sink is delivered to by
/// one of them at a time. SIGHUP has it read its manifest anew.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Only to this sink; may be given several times
    #[arg(long, value_name = "SINK")]
    sink: Vec<String>,
    /// End when everything is delivered; exits with 3 when changes are set aside, an `init` is not finished, or a bound table is not captured
    #[arg(long)]
    until_empty: bool,
    /// With --until-empty: how long a sink may be out of reach
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration, requires = "until_empty")]
    wait: Duration,
    /// Answer on /metrics, /health and /ready there; a port alone is of this machine. May be given several times
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<Addresses>,
    /// How often to take out of the logs what nothing needs any more; 0: never
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = parse_duration)]
    purge_every: Duration,
    /// How the log is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    logging::begin(args.log_format, context.output.is_quiet());
    match (work(&args, context), args.log_format) {
        // Whoever reads the log by a program gets its last line in the same form.
        (Err(error), LogFormat::Json) => {
            let error = context.output.complete(error);
            tracing::error!(hint = %error.hints().join("; "), "{error}");
            Ok(ExitCode::from(error.exit_code()))
        }
        (ended, _) => ended,
    }
}

fn work(args: &Args, context: &Context) -> Result<ExitCode> {
    let manifest = read(args)?;
    let mut session = context.connect(Some(&manifest))?;
    context.works_with(&session, &manifest.schema);
    catalog::check_owner(&mut *session, &manifest.schema)?;
    for unsent in deliver::unsent(&mut session, &manifest, &args.sink)? {
        tracing::warn!(sink = %unsent.sink, "{}; {}", unsent.told(), goes_on(args, &unsent));
    }
    let stop = Stop::default();
    let wants_reload = listen_to_signals(&stop)?;
    let status = Status::default();
    let (settings, schema) = (session.wanted().clone(), manifest.schema.clone());
    if !args.listen.is_empty() {
        let backlog = Backlog::begin(&settings, &schema, &stop);
        listen(&args.listen, &status, &backlog)?;
    }
    tell_systemd(&status, &stop);
    if !args.until_empty && !args.purge_every.is_zero() {
        keep_house(&settings, &schema, &manifest.name, args.purge_every, &stop);
    }
    let task = deliver::Task {
        sinks: args.sink.clone(),
        until_empty: args.until_empty,
        patience: args.wait,
        init: Vec::new(),
    };
    let load = || {
        reloading();
        read(args)
    };
    let reload = Reload {
        load: &load,
        asked: wants_reload,
    };
    deliver::work(
        &manifest,
        &mut session,
        &context.environment,
        &task,
        &status,
        &stop,
        Some(&reload).filter(|_| !args.until_empty),
    )?;
    if !args.until_empty {
        return Ok(ExitCode::SUCCESS);
    }
    let set_aside = set_aside(&mut session, &manifest, &args.sink)?;
    let written: u64 = status.all().values().map(|sink| sink.written).sum();
    context.output.say(format!("delivered {}", count(written, "change")));
    let unsent = deliver::unsent(&mut session, &manifest, &args.sink)?;
    let uncaptured = deliver::uncaptured(&mut session, &manifest, &args.sink)?;
    if set_aside == 0 && unsent.is_empty() && uncaptured.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if set_aside > 0 {
        context.output.warn(format!("{} set aside", count(set_aside, "change")));
        context
            .output
            .hint("`emaj failures list` shows them, `emaj failures retry --all` has them tried again");
    }
    for unsent in &unsent {
        context.output.warn(unsent.told());
        context.output.hint(goes_on(args, unsent));
    }
    for uncaptured in &uncaptured {
        context.output.warn(uncaptured.told());
    }
    for way_on in uncaptured.iter().map(|one| one.why.way_on()).collect::<BTreeSet<_>>() {
        context.output.hint(way_on);
    }
    Ok(ExitCode::from(Kind::PartlyDone.exit_code()))
}

/// What to do about rows that are not sent.
fn goes_on(args: &Args, unsent: &Unsent) -> String {
    if unsent.is_under_way {
        return "it goes on by itself".to_owned();
    }
    let init = args.manifest.command("init");
    format!("`{init} --binding {}` sends the rest", shell(&unsent.binding))
}

/// Reads the manifest; its warnings go to the log.
fn read(args: &Args) -> Result<Manifest> {
    let loaded = manifest::load(&args.manifest.manifest)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning:#}");
    }
    check_names(&loaded.manifest, &args.sink)?;
    let mut bound = loaded
        .manifest
        .bindings
        .iter()
        .filter_map(|binding| binding.to.as_ref());
    if !bound.any(|to| args.sink.is_empty() || args.sink.contains(&to.value)) {
        let whose = if args.sink.is_empty() {
            "a sink".to_owned()
        } else {
            quoted("sink", &args.sink)
        };
        return Err(Error::message(
            Kind::Refused,
            format!("no binding of the manifest goes to {whose}: there is nothing to deliver"),
        )
        .hint("bind a table to it with `to`, and install that"));
    }
    Ok(loaded.manifest)
}

/// Refuses a sink that the manifest does not have.
pub(super) fn check_names(manifest: &Manifest, sinks: &[String]) -> Result<()> {
    for name in sinks {
        if manifest.sink(name).is_none() {
            let error = Error::message(Kind::Refused, format!("the manifest has no sink `{name}`"));
            return Err(match manifest.sinks.as_slice() {
                [] => error.hint("it has no sink at all"),
                sinks => error.hint(format!("it has {}", listed(sinks.iter().map(|sink| &sink.name.value)))),
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

/// Has `stop` set by SIGTERM and SIGINT; the second one ends the program at once. What it returns tells whether it was SIGTERM.
pub(super) fn stop_at_signals(stop: &Stop) -> Result<Arc<AtomicBool>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    pg::heeded(&[SIGTERM, SIGINT]);
    let stop = stop.clone();
    let terminated = Arc::new(AtomicBool::new(false));
    let is_terminated = Arc::clone(&terminated);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if stop.is_set() {
                std::process::exit(128 + signal);
            }
            terminated.store(signal == SIGTERM, Ordering::Relaxed);
            stop.set();
        }
    });
    Ok(is_terminated)
}

/// As [`stop_at_signals`]; what it returns is set by SIGHUP.
fn listen_to_signals(stop: &Stop) -> Result<Arc<AtomicBool>> {
    let wants_reload = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGHUP])?;
    pg::heeded(&[SIGHUP]);
    let asked = Arc::clone(&wants_reload);
    std::thread::spawn(move || {
        for _ in signals.forever() {
            asked.store(true, Ordering::Relaxed);
        }
    });
    stop_at_signals(stop)?;
    Ok(wants_reload)
}

/// How many changes are set aside, of the sinks that were delivered to.
pub(super) fn set_aside(session: &mut Session, manifest: &Manifest, only: &[String]) -> Result<u64> {
    let mut number = 0;
    for sink in &manifest.sinks {
        let name = sink.name.value.as_str();
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            let filter = FailureFilter {
                sink: Some(name),
                ..FailureFilter::default()
            };
            number += journal::count_failures(&mut **session, &manifest.schema, &filter)?;
        }
    }
    Ok(number)
}
