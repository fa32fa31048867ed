//! The kinds of text in a manifest: names, patterns, references, intervals, templates, and how each is checked.
//!
//! Everything here is a [`TextKind`] for `keys` to name. A check says what is wrong and where in the text; it knows
//! nothing of YAML. The regular expressions are for the JSON Schema and take at least what the check takes.

use super::engine_words;
use super::in_database::InDatabaseText;
use super::model::{ContextColumn, Limit, digits};
use super::query_text;
use super::shape::{Secrecy, TextKind, Wrong};
use super::text::Text;
use crate::names::{MAX_NAME_BYTES, NameError, Pattern, QualifiedName, nearest, parse_ident};

macro_rules! kinds {
    ($($name:ident: $what:literal, $check:expr, $regex:expr, $secrecy:ident;)*) => {
        $(pub(super) static $name: TextKind = TextKind { what: $what, check: $check, regex: $regex, secrecy: Secrecy::$secrecy };)*
    };
}

kinds! {
    COMMENT:    "a text", |_| Ok(()), None, Open;
    SETTING:    "a text", check_references, Some(r"\S"), Open;
    SECRET:     "a reference `${env:NAME}` or `${file:PATH}`", check_references, Some(r"\S"), Secret;
    HEADER:     "a text", check_references, Some(r"\S"), Masked;
    WORD:       "a text", check_filled, Some(r"\S"), Open;
    GROUP:      "a group's name of 1 to 63 bytes", check_name, Some(r"\S"), Open;
    NAME:       "a name of 1 to 63 bytes", check_name, Some(r"\S"), Open;
    TABLE:      "a table's name, `schema.table`", |text| name(text, QualifiedName::parse).map(drop), Some(r"\."), Open;
    FUNCTION:   "a function's name, `schema.function`", |text| name(text, QualifiedName::parse).map(drop), Some(r"\."), Open;
    PATTERN:    "a name or a pattern, `schema.table`, `schema.*`", |text| name(text, Pattern::parse).map(drop), Some(r"\."), Open;
    IDENT:      "a name as SQL spells it", |text| name(text, parse_ident).map(drop), Some(r"\S"), Open;
    ROLE:       "a role's name as SQL spells it", check_role, Some(r"\S"), Open;
    CONTEXT:    "`application_name`, `client_addr` or `setting:NAME`", |text| ContextColumn::parse(text).map(drop),
                Some(r"^(application_name|client_addr|setting:.+)$"), Open;
    INTERVAL:   "an interval, `30 days`", check_interval, Some(r"^\s*[0-9]+\s*[a-zA-Z]+(\s+[0-9]+\s*[a-zA-Z]+)*\s*$"), Open;
    SIZE:       "a size, `10 GB`", |text| bytes_of(text).map(drop), Some(r"^\s*[0-9]+\s*(kB|MB|GB|TB)\s*$"), Open;
    LIMIT:      "a number of rows or a share, `100` or `5%`", |text| Limit::parse(text).map(drop), Some(r"^[0-9]+%?$"), Open;
    TEMPLATE:   "a template", check_template, Some(r"\S"), Open;
    NAMING:     "a template", check_naming, Some(r"\S"), Open;
    QUERY:      "a query", check_query, Some(r"\S"), Open;
    EXPRESSION: "an expression", check_expression, Some(r"\S"), Open;
    IN_DATABASE: "a text with `{{ row.column }}`", |text| InDatabaseText::parse(text).map(drop), Some(r"\S"), Open;
    ATTRIBUTE:  "an attribute's name", check_attribute, Some(r"^[A-Za-z0-9][A-Za-z0-9.;_-]*$"), Open;
    LDAP_URL:   "`ldap://HOST`, `ldaps://HOST` or `ldapi://SOCKET`", |text| check_scheme(text, &["ldap", "ldaps", "ldapi"]), Some(r"\S"), Open;
    HTTP_URL:   "`https://HOST/PATH` or `http://HOST/PATH`", |text| check_scheme(text, &["https", "http"]), Some(r"\S"), Url;
    NATS_URL:   "`nats://HOST:PORT` or `tls://HOST:PORT`", |text| check_scheme(text, &["nats", "tls"]), Some(r"\S"), Url;
    POSTGRES_URI: "`postgresql://…`", |text| check_scheme(text, &["postgresql", "postgres"]), Some(r"\S"), Open;
    PORT:       "a port from 1 to 65535", |text| check_number(text, 1, 65535), Some(r"^([0-9]+|.*\$\{.*)$"), Open;
    SECONDS:    "a number of seconds", |text| check_number(text, 0, 86400), Some(r"^([0-9]+|.*\$\{.*)$"), Open;
    SSLMODE:    "a mode of TLS", |text| check_word(text, &SSL_MODES), Some(r"\S"), Open;
    SESSION_ATTRS: "a kind of server", |text| check_word(text, &SESSIONS), Some(r"\S"), Open;
    BROKER:     "`host:port`", check_broker, Some(r"\S"), Open;
}

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const SESSIONS: [&str; 6] = ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"];

impl From<NameError> for Wrong {
    fn from(error: NameError) -> Self {
        use crate::names::Problem::{EmptyPart, NeedsQuotes, Nul, OpenQuote};
        let (hint, at) = (error.hint(), error.at);
        let wrong = Wrong::new(error.problem.to_string()).next(hint);
        match error.problem {
            NeedsQuotes { .. } | Nul | OpenQuote | EmptyPart => wrong.at(at, at + 1),
            _ => wrong,
        }
    }
}

/// Reads a name. It may not come from elsewhere: what a manifest is about stands in it.
fn name<T>(text: &str, parse: fn(&str) -> Result<T, NameError>) -> Result<T, Wrong> {
    parse(text).map_err(|error| match text.find("${") {
        Some(at) if !text.contains('"') => Wrong::new("a reference cannot stand here")
            .at(at, text[at..].find('}').map_or(text.len(), |end| at + end + 1))
            .next("write the name itself; `${env:…}` and `${file:…}` are for `database` and `sinks`"),
        _ => error.into(),
    })
}

fn check_filled(text: &str) -> Result<(), Wrong> {
    match text.trim() {
        "" => Err(Wrong::new("the text is empty")),
        _ => Ok(()),
    }
}

fn check_references(text: &str) -> Result<(), Wrong> {
    check_filled(text)?;
    Text::check(text)
}

/// Takes one of `words`, or a text with a reference, whose value is not known yet.
fn check_word(text: &str, words: &[&str]) -> Result<(), Wrong> {
    check_references(text)?;
    if text.contains("${") || words.contains(&text) {
        return Ok(());
    }
    Err(Wrong {
        nearest: nearest(text, words.iter().copied()).map(str::to_owned),
        ..Wrong::new(format!("`{text}` is not known here")).next(format!("write {}", super::shape::one_of(words)))
    })
}

/// Takes a whole number, or a text with a reference, whose value is not known yet.
fn check_number(text: &str, min: u64, max: u64) -> Result<(), Wrong> {
    check_references(text)?;
    match digits(text) {
        _ if text.contains("${") => Ok(()),
        Some(number) if (min..=max).contains(&number) => Ok(()),
        Some(_) => Err(Wrong::new("the number is out of range").next(format!("write a number from {min} to {max}"))),
        None => Err(Wrong::new("this is no whole number")),
    }
}

fn check_name(text: &str) -> Result<(), Wrong> {
    check_filled(text)?;
    match text.len() {
        len if len > MAX_NAME_BYTES => Err(Wrong::new(format!("the name is {len} bytes long"))),
        _ if text.contains(char::is_control) => Err(Wrong::new("the name holds a control character")),
        _ if text.trim() != text => Err(Wrong::new("the name begins or ends with a blank")),
        _ => Ok(()),
    }
}

/// Refuses the names that PostgreSQL gives to no role.
fn check_role(text: &str) -> Result<(), Wrong> {
    let role = name(text, parse_ident)?;
    if ["public", "none"].contains(&role.as_str()) || role.starts_with("pg_") {
        return Err(Wrong::new("PostgreSQL keeps this name for itself"));
    }
    Ok(())
}

/// Reads a size as PostgreSQL's settings write it: a whole number and `kB`, `MB`, `GB` or `TB`, each 1024 of the one before.
pub(super) fn bytes_of(text: &str) -> Result<u64, Wrong> {
    check_filled(text)?;
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let power = match text[unit_at..].trim() {
        "kB" => 1,
        "MB" => 2,
        "GB" => 3,
        "TB" => 4,
        "" => return Err(Wrong::new("the unit is missing").next("write `kB`, `MB`, `GB` or `TB` behind the number")),
        unit => {
            return Err(Wrong::new(format!("`{unit}` is no unit of a size")).next("write `kB`, `MB`, `GB` or `TB`"));
        }
    };
    let number = text[..unit_at].parse::<u64>().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << (10 * power)));
    match bytes {
        Some(bytes) if bytes >= SMALLEST_SIZE && i64::try_from(bytes).is_ok() => Ok(bytes),
        Some(bytes) if bytes < SMALLEST_SIZE => Err(Wrong::new("the size is too small")
            .next("write `8 MB` or more: a log gives room back in parts of a megabyte")),
        _ if unit_at == 0 => Err(Wrong::new("a whole number is missing")),
        _ => Err(Wrong::new("the number is too large")),
    }
}

/// A log gives room back in whole parts, from a megabyte on.
const SMALLEST_SIZE: u64 = 8 << 20;

const UNITS: [&str; 18] = [
    "second", "seconds", "sec", "secs", "minute", "minutes", "min", "mins", "hour", "hours", "day", "days", "week",
    "weeks", "month", "months", "year", "years",
];

/// Longer ago there is no moment that PostgreSQL knows.
const MOST_YEARS: f64 = 1000.0;

/// Takes whole numbers with units, each unit once: all of that PostgreSQL's `interval` takes too.
fn check_interval(text: &str) -> Result<(), Wrong> {
    check_filled(text)?;
    let mut at = 0;
    let mut years = 0.0;
    let mut units = Vec::new();
    let skip = |at: usize, take: fn(char) -> bool| at + text[at..].find(|c| !take(c)).unwrap_or(text.len() - at);
    while at < text.len() {
        let number = skip(at, char::is_whitespace);
        if number == text.len() {
            break;
        }
        let number_end = skip(number, |c| c.is_ascii_digit());
        let unit = skip(number_end, char::is_whitespace);
        let unit_end = skip(unit, char::is_alphabetic);
        if number == number_end {
            return Err(Wrong::new("a whole number is missing").at(number, text.len()));
        }
        let Ok(amount) = text[number..number_end].parse::<u32>() else {
            return Err(Wrong::new("the number is too large").at(number, number_end));
        };
        let word = text[unit..unit_end].to_ascii_lowercase();
        if !UNITS.contains(&word.as_str()) {
            let message = if word.is_empty() {
                "the unit is missing".to_owned()
            } else {
                format!("`{word}` is no unit of time")
            };
            let mut wrong = Wrong::new(message).at(unit.min(text.len()), unit_end.max(unit));
            wrong.nearest = nearest(&word, UNITS).map(str::to_owned);
            return Err(wrong.next("units are seconds, minutes, hours, days, weeks, months, years"));
        }
        if units.contains(&in_a_year(&word)) {
            return Err(Wrong::new(format!("`{word}` stands there twice"))
                .at(number, unit_end)
                .next("write their sum"));
        }
        units.push(in_a_year(&word));
        years += f64::from(amount) / in_a_year(&word);
        if years > MOST_YEARS {
            return Err(Wrong::new("that is more than 1000 years")
                .at(0, text.len())
                .next("leave it out: for ever"));
        }
        at = unit_end;
    }
    Ok(())
}

/// How many of a unit there are in a year, about.
fn in_a_year(unit: &str) -> f64 {
    match unit.as_bytes() {
        [b's', ..] => 31_557_600.0,
        [b'm', b'i', ..] => 525_960.0,
        [b'h', ..] => 8766.0,
        [b'd', ..] => 365.25,
        [b'w', ..] => 52.18,
        [b'm', ..] => 12.0,
        _ => 1.0,
    }
}

/// What a template or an expression may speak of.
const VARIABLES: [&str; 8] = ["row", "old", "event", "table", "schema", "binding", "id", "time"];
/// Functions that minijinja brings.
const FUNCTIONS: [&str; 4] = ["range", "dict", "namespace", "debug"];

fn check_template(text: &str) -> Result<(), Wrong> {
    check_filled(text)?;
    let mut env = minijinja::Environment::empty();
    env.set_debug(true);
    let template = env
        .template_from_str(text)
        .map_err(|error| template_error(&error, text))?;
    check_variables(template.undeclared_variables(false), text)?;
    engine_words::check_template(text)
}

/// A template in which values are escaped: of a DN, a filter, a subject.
fn check_naming(text: &str) -> Result<(), Wrong> {
    check_template(text)?;
    engine_words::check_escaped(text)
}

fn check_query(text: &str) -> Result<(), Wrong> {
    check_naming(text)?;
    query_text::check(text)
}

fn check_expression(text: &str) -> Result<(), Wrong> {
    check_filled(text)?;
    if text.trim_start().starts_with("{{") {
        return Err(Wrong::new("an expression stands without braces").next("write it without `{{` and `}}`"));
    }
    let mut env = minijinja::Environment::empty();
    env.set_debug(true);
    let expression = env
        .compile_expression(text)
        .map_err(|error| template_error(&error, text))?;
    check_variables(expression.undeclared_variables(false), text)?;
    engine_words::check_expression(text)
}

fn check_variables(used: std::collections::HashSet<String>, text: &str) -> Result<(), Wrong> {
    let mut unknown: Vec<String> = used
        .into_iter()
        .filter(|name| !VARIABLES.contains(&name.as_str()) && !FUNCTIONS.contains(&name.as_str()))
        .collect();
    unknown.sort_by_key(|name| text.find(name.as_str()));
    let Some(name) = unknown.into_iter().next() else {
        return Ok(());
    };
    let mut wrong = Wrong::new(format!("`{name}` is not known here"));
    wrong.at = text.find(&name).map(|at| at..at + name.len());
    wrong.nearest = nearest(&name, VARIABLES).map(str::to_owned);
    Err(wrong.next(format!(
        "a column is `row.{name}`; there are {}",
        super::shape::one_of(&VARIABLES)
    )))
}

fn template_error(error: &minijinja::Error, text: &str) -> Wrong {
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let mut wrong = Wrong::new(message);
    wrong.at = error
        .range()
        .filter(|range| range.start <= range.end && range.end <= text.len());
    wrong
}

fn check_attribute(text: &str) -> Result<(), Wrong> {
    let mut bytes = text.bytes();
    let fine = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b".;_-".contains(&b));
    if fine {
        Ok(())
    } else {
        Err(Wrong::new(
            "an attribute's name holds letters, digits, `-`, `.` and `;` only",
        ))
    }
}

/// Checks the scheme of a URL, unless a reference stands where the scheme would be.
fn check_scheme(text: &str, schemes: &[&str]) -> Result<(), Wrong> {
    check_references(text)?;
    match text.split_once("://") {
        _ if text.starts_with("${") => Ok(()),
        Some((scheme, rest)) if schemes.contains(&scheme.to_ascii_lowercase().as_str()) => match rest {
            "" => Err(Wrong::new("nothing follows `://`")),
            _ => Ok(()),
        },
        Some((scheme, _)) => Err(Wrong {
            nearest: nearest(scheme, schemes.iter().copied()).map(str::to_owned),
            ..Wrong::new(format!("`{scheme}` is no scheme for this")).at(0, scheme.len())
        }),
        None => Err(Wrong::new("this is no URL")),
    }
}

fn check_broker(text: &str) -> Result<(), Wrong> {
    check_references(text)?;
    let port = text
        .rsplit_once(':')
        .map(|(host, port)| (host.is_empty(), port.contains("${") || port.parse::<u16>().is_ok()));
    match port {
        Some((false, true)) => Ok(()),
        _ if text.starts_with("${") => Ok(()),
        _ => Err(Wrong::new("the broker's address has no port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_role_can_have() {
        for (name, good) in [
            ("adm", true),
            ("\"Public\"", true),
            ("public", false),
            ("NONE", false),
            ("pg_monitor", false),
        ] {
            assert_eq!(check_role(name).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn intervals_are_numbers_with_units() {
        for good in [
            "1 year",
            "30 days",
            "2 hours 30 minutes",
            "1 year 2 months 1 week 3 days",
            "1week",
            " 5  Min ",
        ] {
            assert_eq!(check_interval(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            " ",
            "days",
            "30",
            "1 fortnight",
            "-1 day",
            "1.5 days",
            "1 day,2 hours",
            "99999999999 days",
            "10000 years",
            "900 years 1300 months",
            "366000 days",
            "1 day 1 day",
            "1 min 2 hours 30 minutes",
        ] {
            assert!(check_interval(bad).is_err(), "{bad}");
        }
        assert_eq!(check_interval("3 dyas").unwrap_err().nearest.as_deref(), Some("days"));
    }

    #[test]
    fn templates_know_their_variables() {
        assert_eq!(
            check_template("{{ row.a }}{% for x in row.list %}{{ x }}{{ loop.index }}{% endfor %}"),
            Ok(())
        );
        assert_eq!(check_expression("row.active and not old.active"), Ok(()));
        let wrong = check_template("uid={{ rwo.login }}").unwrap_err();
        assert_eq!((wrong.at, wrong.nearest.as_deref()), (Some(7..10), Some("row")));
        assert!(check_template("{{ row.a ").is_err());
        assert!(check_expression("row.a and").is_err());
        assert!(check_expression("{{ row.a }}").is_err());
    }

    #[test]
    fn urls_have_a_scheme() {
        assert_eq!(check_scheme("ldap://h", &["ldap"]), Ok(()));
        assert_eq!(check_scheme("${env:URL}", &["ldap"]), Ok(()));
        assert!(check_scheme("http://h", &["ldap"]).is_err());
        assert!(check_scheme("h:389", &["ldap"]).is_err());
        assert!(check_broker("h").is_err() && check_broker("h:9092").is_ok() && check_broker("${env:B}").is_ok());
    }
}
