//! Turns the text of a keyword into what it means: numbers, and words out of a list.
//!
//! Pure. Called by `settings`, which adds where the text came from.

use std::fmt;
use std::time::Duration;

use crate::names::nearest;

/// How far TLS is wanted, and how far the server's certificate is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    /// Returns whether a certificate that cannot be checked is an error.
    pub(super) fn verifies(self) -> bool {
        matches!(self, SslMode::VerifyCa | SslMode::VerifyFull)
    }

    pub(super) fn is_weak(self) -> bool {
        matches!(self, SslMode::Disable | SslMode::Allow | SslMode::Prefer)
    }
}

/// Which kind of server will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// A value that means nothing; says what would. It repeats the value, which none of its keywords has as a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadValue {
    pub(super) found: String,
    pub(super) expected: String,
    pub(super) nearest: Option<&'static str>,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, expected {}", self.found, self.expected)?;
        self.nearest
            .map_or(Ok(()), |nearest| write!(f, " (did you mean `{nearest}`?)"))
    }
}

/// Returns the meaning of `text` out of a list of `(word, meaning)`.
pub(super) fn choice<T: Copy>(text: &str, list: &[(&'static str, T)]) -> Result<T, BadValue> {
    list.iter()
        .find(|(word, _)| *word == text)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| BadValue {
            found: text.to_owned(),
            expected: format!(
                "one of {}",
                list.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
            ),
            nearest: nearest(text, list.iter().map(|(word, _)| *word)),
        })
}

pub(super) fn ssl_mode(text: &str) -> Result<SslMode, BadValue> {
    let list = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    choice(text, &list)
}

pub(super) fn session_attrs(text: &str) -> Result<SessionAttrs, BadValue> {
    let list = [
        ("any", SessionAttrs::Any),
        ("read-write", SessionAttrs::ReadWrite),
        ("read-only", SessionAttrs::ReadOnly),
        ("primary", SessionAttrs::Primary),
        ("standby", SessionAttrs::Standby),
        ("prefer-standby", SessionAttrs::PreferStandby),
    ];
    choice(text, &list)
}

/// Returns a whole number; like libpq, it may have blanks around it.
pub(super) fn integer(text: &str) -> Result<i32, BadValue> {
    let expected = || BadValue {
        found: text.to_owned(),
        expected: "a whole number".to_owned(),
        nearest: None,
    };
    text.trim_ascii().parse().map_err(|_| expected())
}

/// Returns a port; empty is the default.
pub(super) fn port(text: &str) -> Result<u16, BadValue> {
    let expected = || BadValue {
        found: text.to_owned(),
        expected: "a port from 1 to 65535".to_owned(),
        nearest: None,
    };
    if text.is_empty() {
        return Ok(5432);
    }
    integer(text)
        .ok()
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .ok_or_else(expected)
}

/// Returns the time a connection may take; 0 and less is for ever, and 1 second means 2, as libpq has it.
pub(super) fn timeout(text: &str) -> Result<Option<Duration>, BadValue> {
    Ok(positive(text)?.map(|seconds| Duration::from_secs(u64::from(seconds.max(2)))))
}

/// Returns a number above 0; 0 and less leaves it to the system.
pub(super) fn positive(text: &str) -> Result<Option<u32>, BadValue> {
    Ok(u32::try_from(integer(text)?).ok().filter(|number| *number > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, expected) in [("1", Some(1)), (" 7 ", Some(7)), ("0", None), ("-3", None)] {
            assert_eq!(positive(text), Ok(expected), "{text:?}");
        }
        for text in ["", "x", "1x", "1.5", "99999999999"] {
            assert!(integer(text).is_err(), "{text:?}");
        }
        for (text, expected) in [
            ("", Some(5432)),
            ("1", Some(1)),
            (" 5433", Some(5433)),
            ("0", None),
            ("65536", None),
            ("a", None),
        ] {
            assert_eq!(port(text).ok(), expected, "{text:?}");
        }
        assert_eq!(timeout("1"), Ok(Some(Duration::from_secs(2))));
        assert_eq!(timeout("0"), Ok(None));
    }

    #[test]
    fn a_word_out_of_the_list_names_the_nearest() {
        assert_eq!(ssl_mode("verify-full"), Ok(SslMode::VerifyFull));
        let expected = "`required`, expected one of disable, allow, prefer, require, verify-ca, verify-full \
                        (did you mean `require`?)";
        assert_eq!(ssl_mode("required").unwrap_err().to_string(), expected);
        assert_eq!(session_attrs("primry").unwrap_err().nearest, Some("primary"));
    }
}
