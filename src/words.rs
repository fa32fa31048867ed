//! Numbers in words that people read: counts with their noun, durations, sizes.

use std::time::Duration;

use crate::names::listed;

/// Returns "1 table", "2 tables": `noun` gets an `s` (and `y` becomes `ies`) unless there is one.
pub fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let plural = match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if noun.ends_with(['s', 'x']) || noun.ends_with("ch") || noun.ends_with("sh") => format!("{noun}es"),
        _ => format!("{noun}s"),
    };
    count_as(number, noun, &plural)
}

/// Returns the count with a noun whose plural is not regular: "1 child", "2 children".
pub fn count_as(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    // What is no u64 is negative or too many: plural in any case.
    match number.try_into() {
        Ok(1) => format!("1 {one}"),
        Ok(number) => format!("{number} {many}"),
        Err(_) => format!("? {many}"),
    }
}

/// Returns the count with the verb: "1 relation is", "2 relations are".
pub fn count_are(number: impl TryInto<u64> + Copy, noun: &str) -> String {
    let verb = if matches!(number.try_into(), Ok(1)) {
        "is"
    } else {
        "are"
    };
    format!("{} {verb}", count(number, noun))
}

/// Returns names with what they are: "mark `a`", "marks `a`, `b`".
pub fn quoted(noun: &str, names: &[String]) -> String {
    format!("{noun}{} {}", if names.len() == 1 { "" } else { "s" }, listed(names))
}

/// Returns a name as a shell takes it in a command that is shown: as it is, or in quotes.
pub fn shell(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:/@%+=,-".contains(c);
    if !name.is_empty() && name.chars().all(plain) && !name.starts_with('-') {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', r"'\''"))
}

/// Returns the duration in the one or two units that matter: "12 ms", "1.2 s", "2 min 5 s", "3 d 4 h".
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.as_millis() == 0 => format!("{} µs", time.as_micros()),
        0 => format!("{} ms", time.as_millis()),
        // Cut, not rounded: 59.97 s is not yet a minute.
        1..60 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        60..3_600 => two(seconds, 60, "min", 1, "s"),
        3_600..86_400 => two(seconds, 3_600, "h", 60, "min"),
        _ => two(seconds, 86_400, "d", 3_600, "h"),
    }
}

fn two(seconds: u64, large: u64, large_name: &str, small: u64, small_name: &str) -> String {
    match seconds % large / small {
        0 => format!("{} {large_name}", seconds / large),
        rest => format!("{} {large_name} {rest} {small_name}", seconds / large),
    }
}

/// Returns a moment in the time zone of the person, to the second: "2026-11-21 10:11:12+01:00".
pub fn moment(time: jiff::Timestamp) -> String {
    time.to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S%:z")
        .to_string()
}

/// Returns the size with PostgreSQL's units, of 1024 each: "512 bytes", "1.5 kB", "20 MB".
pub fn bytes(size: impl TryInto<u64>) -> String {
    let size: u64 = size.try_into().unwrap_or(0);
    if size < 1024 {
        return count(size, "byte");
    }
    let (mut unit, mut name) = (1024_u64, "kB");
    for larger in ["MB", "GB", "TB", "PB", "EB"] {
        if size / unit >= 1024 {
            (unit, name) = (unit * 1024, larger);
        }
    }
    let tenths = u128::from(size) * 10 / u128::from(unit);
    if tenths < 100 && !tenths.is_multiple_of(10) {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", tenths / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_the_name_back_as_it_is() {
        let names = [
            "shop",
            "billing-2026",
            "a b",
            "o'hara",
            "$(rm -rf /) `x` \\ \"",
            "--yes",
            "",
            "é",
        ];
        for name in names {
            let said = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", shell(name))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), name);
        }
        assert_eq!(shell("2026.11.21-09:30"), "2026.11.21-09:30");
    }

    #[test]
    fn counts_have_the_right_plural() {
        let cases = [
            (count(0, "table"), "0 tables"),
            (count(1, "table"), "1 table"),
            (count(2_u64, "table"), "2 tables"),
            (count(2, "entry"), "2 entries"),
            (count(2, "day"), "2 days"),
            (count(2, "index"), "2 indexes"),
            (count(2, "alias"), "2 aliases"),
            (count(3_usize, "batch"), "3 batches"),
            (count_are(1, "relation"), "1 relation is"),
            (count_are(0, "relation"), "0 relations are"),
            (count_as(1, "child", "children"), "1 child"),
            (count_as(2, "child", "children"), "2 children"),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn durations_have_the_units_that_matter() {
        let cases = [
            (0, "0 µs"),
            (999, "999 µs"),
            (12_300, "12 ms"),
            (1_250_000, "1.2 s"),
            (59_999_999, "59.9 s"),
            (60_000_000, "1 min"),
            (125_000_000, "2 min 5 s"),
            (3_600_000_000, "1 h"),
            (3_780_000_000, "1 h 3 min"),
            (86_400_000_000 * 3 + 3_600_000_000 * 4, "3 d 4 h"),
        ];
        for (micros, expected) in cases {
            assert_eq!(duration(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn sizes_have_postgresqls_units() {
        let cases = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1 kB"),
            (1536, "1.5 kB"),
            (10 * 1024 + 600, "10 kB"),
            (1024 * 1024 - 1, "1023 kB"),
            (20 * 1024 * 1024, "20 MB"),
            (u64::MAX, "15 EB"),
        ];
        assert_eq!(bytes(-1), "0 bytes");
        for (size, expected) in cases {
            assert_eq!(bytes(size), expected);
        }
    }
}
