//! Times on the command line: a moment as the server reads it, or how long ago it was.

use jiff::Timestamp;

use super::parse_duration;
use crate::errors::{Error, Kind, Result};
use crate::pg::Session;

/// Reads a moment as the server does, or as a time ago.
pub(super) fn moment_of(session: &mut Session, text: &str) -> Result<Timestamp> {
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
