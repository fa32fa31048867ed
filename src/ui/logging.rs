//! The log of a process that runs for long: to stderr, as text or as JSON lines.

use clap::ValueEnum;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::prelude::*;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Begins to write the log. `EMAJ_LOG` chooses what (`info`, `debug`, `emaj=trace`); quiet: warnings only.
///
/// What libraries say is never written: they would tell URLs, logins and rows.
pub fn begin(format: LogFormat, is_quiet: bool) {
    let default = if is_quiet { "emaj=warn" } else { "emaj=info" };
    let filter = EnvFilter::try_from_env("EMAJ_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let ours = filter_fn(|metadata| metadata.target().split("::").next() == Some("emaj"));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    let log = tracing_subscriber::registry().with(filter);
    // A second call in one process leaves the first log as it is.
    let _ = match format {
        LogFormat::Text => log.with(layer.with_filter(ours)).try_init(),
        LogFormat::Json => log.with(layer.json().flatten_event(true).with_filter(ours)).try_init(),
    };
}
