//! The log of a process that runs for long: to stderr, as text or as one JSON object a line.

use std::fmt;

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Begins to write the log. `EMAJ_LOG` chooses what (`info`, `debug`, `emaj=trace`); quiet: warnings only.
///
/// What libraries say is never written: they would tell URLs, logins and rows. Of a panic the place is written and not the text, for the
/// same reason.
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
        LogFormat::Json => log.with(layer.event_format(JsonLine).with_filter(ours)).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!("a thread broke down at {place}: a mistake in emaj");
    }));
}

/// `time`, `level`, `message`, and what else was said: `sink`, `binding`, `id`.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(Map::new());
        let time = format!("{:.6}", Timestamp::now());
        fields.0.insert("time".to_owned(), Value::String(time));
        let level = event.metadata().level().as_str().to_lowercase();
        fields.0.insert("level".to_owned(), Value::String(level));
        event.record(&mut fields);
        writeln!(out, "{}", Value::Object(fields.0))
    }
}

/// The fields of an event, as JSON has them.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0
            .insert(field.name().to_owned(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }
}
