//! Reads a connection URI: `postgresql://user:password@host1:5433,[::1]/dbname?sslmode=require`, by the rules of libpq.
//!
//! Pure. The rules are libpq's and not RFC 3986's: several hosts, a socket directory percent-encoded as the host, `+` is
//! just a plus sign, and the first `@` before any `/` ends the user and password.

use super::keywords::{Origin, UnknownKeyword, Words, word};
use crate::names::nearest;

/// What is wrong with a URI. No variant repeats more than a parameter's name: the rest may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadUri {
    #[error("the `[` of an IPv6 address is never closed in the connection URI")]
    OpenBracket,
    #[error("the IPv6 address is empty in the connection URI")]
    EmptyAddress,
    #[error("unexpected `{0}` after an IPv6 address in the connection URI (expected `:`, `/`, `?` or `,`)")]
    AfterBracket(char),
    #[error("parameter `{0}` of the connection URI has more than one `=`")]
    ExtraEquals(String),
    #[error("parameter `{0}` of the connection URI has no `=`")]
    NoEquals(String),
    #[error("`%` is not followed by two hexadecimal digits in the {0} of the connection URI")]
    BadPercent(String),
    #[error("the {0} of the connection URI holds a zero byte or is not UTF-8 once decoded")]
    NotText(String),
    #[error("a connection URI begins with `postgresql://` or `postgres://`")]
    Scheme,
    #[error("more than one `@` stands before the path of the connection URI; in a password write `@` as `%40`")]
    SecondAt,
    #[error(
        "the port of the connection URI is no number, and an `@` follows later; in a password write `/` as `%2F`, `?` as `%3F`"
    )]
    LateAt,
    #[error(transparent)]
    Unknown(#[from] UnknownKeyword),
}

/// Returns whether `text` was meant to be a URI with a login: libpq takes it for the name of a database, and says all of it.
pub(super) fn is_nearly(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let is_scheme = scheme
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_ours = || nearest(&scheme.to_ascii_lowercase(), ["postgresql", "postgres"]).is_some();
    without_scheme(text).is_none() && text.contains('@') && is_scheme && (rest.starts_with('/') || is_ours())
}

/// Returns what follows `postgresql://` or `postgres://`, if `text` is a URI.
pub(super) fn without_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
}

/// Reads what follows the scheme.
pub(super) fn read(rest: &str, origin: &Origin) -> Result<Words, BadUri> {
    let mut words = Words::default();
    let mut set = |name: &str, value: &str| -> Result<(), BadUri> {
        if !value.is_empty() {
            words.set(name, decode(value, name)?, origin)?;
        }
        Ok(())
    };

    let mut rest = rest;
    if let Some(at) = rest.find(['@', '/']).filter(|at| rest[*at..].starts_with('@')) {
        let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
        set("user", user)?;
        set("password", password)?;
        rest = &rest[at + 1..];
    }

    let (hosts, ports, after) = read_hosts(rest)?;
    // Not left to the look-up of the host or the check of the port: their errors repeat what they were given.
    if hosts.contains('@') {
        return Err(BadUri::SecondAt);
    }
    if after.contains('@') && !ports.chars().all(|c| c.is_ascii_digit() || c == ',') {
        return Err(BadUri::LateAt);
    }
    // The lists are stored whole: `,` means two hosts, both at their default.
    set("host", &hosts)?;
    set("port", &ports)?;

    let mut parameters = after.strip_prefix('?');
    if let Some(path) = after.strip_prefix('/') {
        let (dbname, query) = path
            .split_once('?')
            .map_or((path, None), |(dbname, query)| (dbname, Some(query)));
        set("dbname", dbname)?;
        parameters = query;
    }
    let parameters = parameters.unwrap_or_default();
    let parameters = parameters.strip_suffix('&').unwrap_or(parameters);
    for parameter in parameters.split('&').filter(|_| !parameters.is_empty()) {
        read_parameter(parameter, &mut words, origin)?;
    }
    Ok(words)
}

/// Reads `host[:port]{,host[:port]}` into two lists with commas; also returns what follows.
fn read_hosts(mut rest: &str) -> Result<(String, String, &str), BadUri> {
    let (mut hosts, mut ports) = (String::new(), String::new());
    loop {
        if let Some(inside) = rest.strip_prefix('[') {
            let (address, after) = inside.split_once(']').ok_or(BadUri::OpenBracket)?;
            if address.is_empty() {
                return Err(BadUri::EmptyAddress);
            }
            if let Some(c) = after.chars().next().filter(|c| !matches!(c, ':' | '/' | '?' | ',')) {
                return Err(BadUri::AfterBracket(c));
            }
            hosts.push_str(address);
            rest = after;
        } else {
            let (host, after) = rest.split_at(rest.find([':', '/', '?', ',']).unwrap_or(rest.len()));
            hosts.push_str(host);
            rest = after;
        }
        if let Some(after) = rest.strip_prefix(':') {
            let (port, after) = after.split_at(after.find(['/', '?', ',']).unwrap_or(after.len()));
            ports.push_str(port);
            rest = after;
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok((hosts, ports, rest)),
        }
        hosts.push(',');
        ports.push(',');
    }
}

fn read_parameter(parameter: &str, words: &mut Words, origin: &Origin) -> Result<(), BadUri> {
    let (name, value) = parameter
        .split_once('=')
        .ok_or_else(|| BadUri::NoEquals(word(parameter)))?;
    if value.contains('=') {
        return Err(BadUri::ExtraEquals(word(name)));
    }
    let name = decode(name, "parameter names")?;
    let value = decode(value, &format!("parameter `{}`", word(&name)))?;
    // What JDBC writes, understood by libpq too.
    if name == "ssl" && value == "true" {
        words.set("sslmode", "require", origin)?;
    } else {
        words.set(&name, value, origin)?;
    }
    Ok(())
}

fn decode(text: &str, what: &str) -> Result<String, BadUri> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.ok_or_else(|| BadUri::BadPercent(what.to_owned()))?);
        rest = &after[2..];
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| BadUri::NotText(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(uri: &str) -> Result<Vec<(&'static str, String)>, BadUri> {
        use secrecy::ExposeSecret;
        let words = read(without_scheme(uri).expect("a URI"), &Origin::CommandLine)?;
        Ok(words
            .iter()
            .map(|(name, value)| (name, value.expose_secret().to_owned()))
            .collect())
    }

    #[test]
    fn good_uris() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("postgres://", &[]),
            ("postgresql:///", &[]),
            ("postgresql://h", &[("host", "h")]),
            ("postgresql://h:1/d", &[("dbname", "d"), ("host", "h"), ("port", "1")]),
            ("postgresql://u@", &[("user", "u")]),
            (
                "postgresql://u:p@h/d",
                &[("dbname", "d"), ("host", "h"), ("password", "p"), ("user", "u")],
            ),
            (
                "postgresql://u:p%40%2F:x@h",
                &[("host", "h"), ("password", "p@/:x"), ("user", "u")],
            ),
            ("postgresql://:p@h", &[("host", "h"), ("password", "p")]),
            ("postgresql://u:@h", &[("host", "h"), ("user", "u")]),
            (
                "postgresql://h1:1,h2:2/d",
                &[("dbname", "d"), ("host", "h1,h2"), ("port", "1,2")],
            ),
            ("postgresql://h1,h2", &[("host", "h1,h2"), ("port", ",")]),
            ("postgresql://h1:1,h2", &[("host", "h1,h2"), ("port", "1,")]),
            (
                "postgresql://[::1]:5/d",
                &[("dbname", "d"), ("host", "::1"), ("port", "5")],
            ),
            (
                "postgresql://[::1],h?user=u",
                &[("host", "::1,h"), ("port", ","), ("user", "u")],
            ),
            ("postgresql://%2Frun%2Fpg/d", &[("dbname", "d"), ("host", "/run/pg")]),
            (
                "postgresql:///d?host=/run/pg&port=7",
                &[("dbname", "d"), ("host", "/run/pg"), ("port", "7")],
            ),
            ("postgresql://?service=s", &[("service", "s")]),
            (
                "postgresql://h?sslmode=require&",
                &[("host", "h"), ("sslmode", "require")],
            ),
            ("postgresql://h?ssl=true", &[("host", "h"), ("sslmode", "require")]),
            ("postgresql://h?user=", &[("host", "h"), ("user", "")]),
            ("postgresql://h/a+b%20c", &[("dbname", "a+b c"), ("host", "h")]),
            ("postgresql://h/d/e", &[("dbname", "d/e"), ("host", "h")]),
            ("postgresql://h/d@x", &[("dbname", "d@x"), ("host", "h")]),
            (
                "postgresql://h/d?application%5Fname=x",
                &[("application_name", "x"), ("dbname", "d"), ("host", "h")],
            ),
        ];
        for (uri, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
            assert_eq!(words(uri), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn bad_uris() {
        for (uri, expected) in [
            ("postgres://[::1", BadUri::OpenBracket),
            ("postgres://[]", BadUri::EmptyAddress),
            ("postgres://[::1]x", BadUri::AfterBracket('x')),
            ("postgres://h?user", BadUri::NoEquals("user".into())),
            ("postgres://h?user=a&&port=1", BadUri::NoEquals("".into())),
            ("postgres://h?user=a=b", BadUri::ExtraEquals("user".into())),
            ("postgres://u:p%4@h", BadUri::BadPercent("password".into())),
            ("postgres://h/%zz", BadUri::BadPercent("dbname".into())),
            ("postgres://h/%00", BadUri::NotText("dbname".into())),
            ("postgres://h/%ff", BadUri::NotText("dbname".into())),
            ("postgres://h/%+1", BadUri::BadPercent("dbname".into())),
            ("postgres://u:se@cret@h/d", BadUri::SecondAt),
            ("postgres://u:se/cret@h/d", BadUri::LateAt),
        ] {
            assert_eq!(words(uri), Err(expected), "{uri}");
        }
        assert_eq!(
            words("postgres://h?sslmod=x").unwrap_err().to_string(),
            "unknown connection keyword `sslmod` (did you mean `sslmode`?)"
        );
    }
}
