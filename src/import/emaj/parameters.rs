//! E-Maj's parameters: what a manifest has a key for, and what is said of the others. Their values are not shown; one of them is a password.

use super::{Note, shown};
use crate::import::yaml::Yaml;
use crate::words::count;

/// How long E-Maj keeps its history when nothing is said.
const DEFAULT_RETENTION: &str = "1 year";

/// What becomes of the parameters.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub history: Vec<(String, Yaml)>,
    /// For every group.
    pub context: Vec<Yaml>,
    /// All groups are audit only (E-Maj 0.8).
    pub audit_only: bool,
}

pub(super) fn translate(parameters: &[(String, Option<String>)], notes: &mut Vec<Note>) -> Made {
    let mut made = Made::default();
    let mut retention = DEFAULT_RETENTION.to_owned();
    for (key, value) in parameters {
        let about = format!("parameter `{}`", shown(key));
        let Some(value) = value else { continue };
        match key.as_str() {
            "version" | "emaj_version" => {}
            "history_retention" => match interval(value) {
                Some(text) => retention = text,
                None => notes.push(Note::missing(about, "its value is no interval in PostgreSQL's style")),
            },
            "alter_log_table" => match context(value) {
                Some(columns) => made.context = columns.into_iter().map(Yaml::Text).collect(),
                None => notes.push(Note::missing(
                    about,
                    "only columns that default to a setting or to the client's address have their like: `context` of a group",
                )),
            },
            "log_only" => made.audit_only = matches!(value.as_str(), "true" | "t"),
            "dblink_user_password" => notes.push(Note::look_at(
                about,
                "not needed: a rollback is watched and run in several sessions without dblink; the value is not taken over",
            )),
            "avg_fkey_check_duration"
            | "avg_row_delete_log_duration"
            | "avg_row_rollback_duration"
            | "fixed_dblink_rollback_duration"
            | "fixed_step_rollback_duration"
            | "fixed_table_rollback_duration"
            | "fixed_table_with_rollback_duration" => {
                notes.push(Note::look_at(about, "not needed: an estimate is made from earlier rollbacks"));
            }
            _ => notes.push(Note::missing(about, "it is not known here")),
        }
    }
    // A century and more is for ever, there and here.
    if !retention.is_empty() {
        made.history.push(("retention".to_owned(), Yaml::text(retention)));
    }
    made
}

/// Writes an interval as PostgreSQL prints it (`1 year 6 mons 2 days 04:05:06`) in whole numbers with units; nothing for 100 years and more.
fn interval(text: &str) -> Option<String> {
    let mut words = text.split_whitespace().peekable();
    let mut parts: Vec<String> = Vec::new();
    let mut years = 0_u64;
    while let Some(word) = words.next() {
        if word.contains(':') {
            let clock: Vec<&str> = word.split(':').collect();
            let [hours, minutes, seconds] = clock.as_slice() else {
                return None;
            };
            for (number, unit) in [(hours, "hour"), (minutes, "minute"), (seconds, "second")] {
                // Parts of a second are not worth keeping.
                let number: u64 = number.split('.').next()?.parse().ok()?;
                push(&mut parts, number, unit);
            }
            if words.peek().is_some() {
                return None;
            }
            continue;
        }
        let number: u64 = word.parse().ok()?;
        let unit = match words.next()?.to_ascii_lowercase().trim_end_matches('s') {
            "year" => {
                years = number;
                "year"
            }
            "mon" | "month" => "month",
            "week" => "week",
            "day" => "day",
            "hour" => "hour",
            "min" | "minute" => "minute",
            "sec" | "second" => "second",
            _ => return None,
        };
        push(&mut parts, number, unit);
    }
    if years >= 100 {
        return Some(String::new());
    }
    match parts.is_empty() {
        true => None,
        false => Some(parts.join(" ")),
    }
}

fn push(parts: &mut Vec<String>, number: u64, unit: &str) {
    if number > 0 {
        parts.push(count(number, unit));
    }
}

/// The columns of an `alter table` of the log, as far as each defaults to a setting or to the client's address.
fn context(directive: &str) -> Option<Vec<String>> {
    let (mut parts, mut depth, mut quoted) = (vec![String::new()], 0_i32, false);
    for c in directive.trim().trim_end_matches(';').chars() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut()?.push(c);
    }
    let columns: Option<Vec<String>> = parts.iter().map(|part| column(part)).collect();
    columns.filter(|all| !all.is_empty())
}

fn column(part: &str) -> Option<String> {
    let lower = part.trim().to_ascii_lowercase();
    if !lower.starts_with("add ") {
        return None;
    }
    let default = lower.split_once(" default ")?.1.trim().to_owned();
    let call: String = default.chars().filter(|c| !c.is_whitespace()).collect();
    let call = call.strip_prefix("pg_catalog.").unwrap_or(&call);
    if call == "inet_client_addr()" {
        return Some("client_addr".to_owned());
    }
    let setting = call.strip_prefix("current_setting('")?;
    let setting = setting
        .strip_suffix("')")
        .or_else(|| setting.strip_suffix("',true)"))
        .or_else(|| setting.strip_suffix("',false)"))?;
    let is_plain = setting.split('.').all(|word| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    match setting {
        "application_name" => Some("application_name".to_owned()),
        _ if is_plain => Some(format!("setting:{setting}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_become_whole_numbers_with_units() {
        for (printed, expected) in [
            ("1 year", Some("1 year")),
            (
                "1 year 6 mons 2 days 04:05:06.7",
                Some("1 year 6 months 2 days 4 hours 5 minutes 6 seconds"),
            ),
            ("00:00:30", Some("30 seconds")),
            ("100 years", Some("")),
            ("00:00:00", None),
            ("-1 days", None),
            ("P1Y", None),
            ("soon", None),
        ] {
            assert_eq!(interval(printed).as_deref(), expected, "{printed}");
        }
    }

    #[test]
    fn log_columns_that_default_to_a_setting_are_context() {
        let directive = "ADD COLUMN app TEXT DEFAULT current_setting('application_name'), \
                         add column who text default current_setting('app.user', true), ADD ip INET DEFAULT inet_client_addr()";
        assert_eq!(
            context(directive).unwrap(),
            ["application_name", "setting:app.user", "client_addr"]
        );
        for other in [
            "ADD COLUMN n INT DEFAULT 1",
            "ALTER COLUMN emaj_user TYPE text",
            "",
            "ADD x text",
        ] {
            assert_eq!(context(other), None, "{other}");
        }
    }
}
