//! Times on the command line: a moment in the time zone of the person, as the server reads it, or how long ago it was.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use postgres::GenericClient;
use postgres::types::ToSql;

use super::parse_duration;
use crate::errors::{Error, Kind, Result};
use crate::pg::Session;

/// Reads a moment: one that names no time zone is of the person's own, in which times are shown too.
pub(super) fn moment_of(session: &mut Session, text: &str) -> Result<Timestamp> {
    let read = match parse_duration(text).ok().filter(|ago| !ago.is_zero()) {
        Some(ago) => time_ago(session, ago.as_secs_f64()),
        None => local(session, text, &TimeZone::system()),
    };
    read.map_err(|error| match error.kind() {
        Kind::Usage => error
            .context(format!("`{text}` is no time"))
            .hint("write `2026-11-21 10:00`, `yesterday`, or how long ago: `90min`, `24h`"),
        _ => error.context(format!("failed to read the time `{text}`")),
    })
}

/// Returns the moment that a query gives. That the text is no time is all that a person may have done wrong: a data exception of the server, or a
/// time that is not in the calendar of this program.
fn moment(client: &mut impl GenericClient, sql: &str, value: &(dyn ToSql + Sync)) -> Result<Timestamp> {
    let row = client.query_one(sql, &[value]).map_err(|error| {
        let wrong_value = error.code().is_some_and(|state| state.code().starts_with("22"));
        match wrong_value {
            true => Error::message(Kind::Usage, Error::from(error)),
            false => Error::from(error),
        }
    })?;
    row.try_get(0)
        .map_err(|error| Error::message(Kind::Usage, Error::from(error)))
}

fn time_ago(session: &mut Session, seconds: f64) -> Result<Timestamp> {
    moment(&mut **session, "select now() - make_interval(secs => $1)", &seconds)
}

/// Has the server read the text, which knows many spellings, and gives the clock time that it found its place in `zone`. The server may not
/// know that zone: it is told the offset of today, by which `yesterday` is the right day.
fn local(session: &mut Session, text: &str, zone: &TimeZone) -> Result<Timestamp> {
    let own = zone.to_offset(Timestamp::now());
    let other = own.saturating_sub(SignedDuration::from_hours(1));
    let mut transaction = session.transaction()?;
    let mut read = |offset: Offset| -> Result<Timestamp> {
        transaction.execute("select set_config('timezone', $1, true)", &[&posix(offset)])?;
        moment(&mut transaction, "select $1::text::timestamptz", &text)
    };
    let (here, there) = (read(own)?, read(other)?);
    transaction.rollback()?;
    // What is the same moment everywhere has said its zone itself.
    if here == there {
        return Ok(here);
    }
    zone.to_timestamp(own.to_datetime(here))
        .map_err(|error| Error::new(Kind::Usage, error))
}

/// Returns the offset as a time zone that every server knows; POSIX counts to the west.
fn posix(offset: Offset) -> String {
    let seconds = offset.seconds();
    let (sign, seconds) = if seconds < 0 { ('+', -seconds) } else { ('-', seconds) };
    format!(
        "<own>{sign}{:02}:{:02}:{:02}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_a_time_zone_of_posix() {
        let cases = [
            (0, "<own>-00:00:00"),
            (9 * 3_600 + 1_800, "<own>-09:30:00"),
            (-3_600 - 1_815, "<own>+01:30:15"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(posix(Offset::from_seconds(seconds).unwrap()), expected);
        }
    }
}
