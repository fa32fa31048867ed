//! `emaj history`: what was done by emaj, when and by whom.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::act::connect;
use super::{Context, InstallationArgs, parse_duration};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, Event, Wanted};
use crate::pg::Session;
use crate::ui::words::moment;
use crate::ui::{Column, Tabular};

/// Shows what was done, the newest first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what was done to this group
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
    /// At most so many rows
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32))]
    limit: u32,
    /// Only what was done since: a time (`2026-11-21 10:00`, `yesterday`) or how long ago (`90min`, `24h`)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.installation)?;
    let since = args.since.map(|text| moment_of(&mut session, &text)).transpose()?;
    let wanted = Wanted {
        group: args.group.as_deref(),
        since,
        limit: args.limit.into(),
    };
    let events = journal::history(&mut *session, &schema, &wanted)?;
    context.output.data(&Events(events))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a moment as the server does, or as a time ago.
fn moment_of(session: &mut Session, text: &str) -> Result<Timestamp> {
    // A bare number is no time of day and no date: parse_duration would take it for milliseconds.
    let ago = (!text.ends_with(|c: char| c.is_ascii_digit()))
        .then(|| parse_duration(text).ok())
        .flatten();
    let asked = match ago {
        Some(ago) => session.query_one(
            "select now() - make_interval(secs => $1)",
            &[&ago.as_secs_f64()],
        ),
        // The session's time zone is the server's; the person means the own one.
        None => session
            .execute(
                "select set_config('timezone', coalesce((select name from pg_timezone_names where name = $1), current_setting('timezone')), false)",
                &[&jiff::tz::TimeZone::system().iana_name()],
            )
            .and_then(|_| session.query_one("select $1::text::timestamptz", &[&text])),
    };
    asked.and_then(|row| row.try_get(0)).map_err(|error| {
        Error::message(Kind::Usage, Error::from(error))
            .context(format!("`{text}` is no time"))
            .hint("write `2026-11-21 10:00`, `yesterday`, or how long ago: `90min`, `24h`")
    })
}

#[derive(Serialize)]
#[serde(transparent)]
struct Events(Vec<Event>);

impl Tabular for Events {
    fn columns(&self) -> Vec<Column> {
        ["time", "what", "object", "details", "user"]
            .into_iter()
            .map(Column::left)
            .collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |event: &Event| {
            let what = [event.function.as_str(), event.event.as_str()];
            vec![
                moment(event.time),
                what.join(" ").trim_end().to_owned(),
                event.object.clone(),
                event.wording.clone(),
                event.user.clone(),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}
