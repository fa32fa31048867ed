//! The log of a process that runs for long: to stderr, as text or as JSON lines.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Begins to write the log. `EMAJ_LOG` chooses what (`info`, `debug`, `emaj=trace`); quiet: warnings only.
pub fn begin(format: LogFormat, is_quiet: bool) {
    let default = if is_quiet { "emaj=warn" } else { "emaj=info" };
    let filter = EnvFilter::try_from_env("EMAJ_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // A second call in one process leaves the first log as it is.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
