//! An interval as PostgreSQL has it: its text, and how long PostgreSQL takes it to be when it compares it with another.

use std::error::Error;

use postgres::Row;
use postgres::types::{FromSql, Type};

/// A time of `30 days` equals one of `1 mon` or `720:00:00`, as in PostgreSQL.
#[derive(Debug, Clone, Default)]
pub struct Span {
    text: String,
    length: Length,
}

impl Span {
    /// Returns the two columns, of the expression `value`, that [`Span::get`] reads.
    pub fn columns(value: &str) -> String {
        format!("{value}::text, {value}")
    }

    /// Returns the interval whose columns begin at `at`; none where it is null.
    pub fn get(row: &Row, at: usize) -> Option<Span> {
        let text = row.get::<_, Option<String>>(at)?;
        let length = row.get(at + 1);
        Some(Span { text, length })
    }

    /// Returns a day.
    pub fn day() -> Span {
        let length = Length(DAY);
        Span {
            text: "1 day".to_owned(),
            length,
        }
    }

    /// Returns it as PostgreSQL writes it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Span {
    fn eq(&self, other: &Span) -> bool {
        self.length == other.length
    }
}

impl Eq for Span {}

const DAY: i128 = 86_400_000_000;

/// In microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Length(i128);

impl FromSql<'_> for Length {
    /// What is sent: the microseconds, the days and the months, 8, 4 and 4 bytes.
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let (microseconds, rest) = raw.split_first_chunk().ok_or("an interval is cut short")?;
        let (days, months) = rest.split_first_chunk().ok_or("an interval is cut short")?;
        let days = i128::from(i32::from_be_bytes(*days));
        let months = i128::from(i32::from_be_bytes(months.try_into()?));
        Ok(Length(
            i128::from(i64::from_be_bytes(*microseconds)) + DAY * (days + 30 * months),
        ))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(microseconds: i64, days: i32, months: i32) -> Length {
        let raw = [
            &microseconds.to_be_bytes()[..],
            &days.to_be_bytes(),
            &months.to_be_bytes(),
        ]
        .concat();
        Length::from_sql(&Type::INTERVAL, &raw).unwrap()
    }

    #[test]
    fn a_month_is_thirty_days_and_a_day_twenty_four_hours() {
        let hour = 3_600_000_000;
        assert_eq!(length(720 * hour, 0, 0), length(0, 30, 0));
        assert_eq!(length(0, 30, 0), length(0, 0, 1));
        assert_eq!(length(24 * hour, -1, 0), length(0, 0, 0));
        assert_eq!(length(0, -30, 1), Length(0));
        assert_eq!(length(0, 1, 0), Span::day().length);
        assert_ne!(length(0, 365, 0), length(0, 0, 12));
    }
}
