//! Keeps secrets from being shown: finds where in a file they are spelt out.
//!
//! [`secrets`] knows from the shape which values are secret. Of a file that is no YAML it is not known what is a value: [`unreadable`] leaves little where
//! secrets may stand. [`suspicious`] guesses from the text alone. `Source` masks what each finds.

use std::ops::Range;

use super::shape::{Secrecy, Shape};
use super::text::literal_secret;
use super::yaml::{Node, Value};
use crate::names::nearest;

/// Collects the places of literal secrets in a file, so that nothing shows them; a misspelt key of a secret counts too, and an unknown
/// one beside one.
pub(super) fn secrets(node: &Node, shape: &Shape, file: &str, out: &mut Vec<Range<usize>>) {
    match (shape, &node.value) {
        (Shape::List { of, .. }, Value::List(items)) => items.iter().for_each(|item| secrets(item, of, file, out)),
        (Shape::Map { of, .. }, Value::Map(entries)) => {
            entries.iter().for_each(|(_, value)| secrets(value, of, file, out));
        }
        (Shape::Record(record), Value::Map(entries)) => {
            for (key, value) in entries {
                let Value::Text(name) = &key.value else { continue };
                let known = nearest(name, record.keys.iter().map(|key| key.name));
                match record.keys.iter().find(|key| Some(key.name) == known) {
                    Some(key) => secrets(value, &key.shape, file, out),
                    // Nobody knows what it is meant to be.
                    None if shape.may_hold_secrets() => mask_values(value, out),
                    None => {}
                }
            }
        }
        (Shape::Either(shapes), _) => shapes.iter().for_each(|shape| secrets(node, shape, file, out)),
        (Shape::Text(kind), Value::Text(_)) if kind.secrecy == Secrecy::Url => {
            let raw = file.get(node.span.clone()).unwrap_or_default();
            let hidden = beside_host(raw)
                .into_iter()
                .flat_map(|part| without_references(raw, part));
            out.extend(hidden.map(|part| node.span.start + part.start..node.span.start + part.end));
        }
        (Shape::Text(_), _) if shape.is_secret() => mask_all(node, out),
        _ => {}
    }
}

/// Whatever stands in the place of a secret is taken for one, lists and maps included.
fn mask_all(node: &Node, out: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Text(text) => out.extend(literal_secret(text).then(|| node.span.clone())),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => out.push(node.span.clone()),
        Value::List(items) => items.iter().for_each(|item| mask_all(item, out)),
        Value::Map(entries) => entries.iter().for_each(|(key, value)| {
            mask_all(key, out);
            mask_all(value, out);
        }),
        Value::Null => {}
    }
}

/// What stands under a key that nobody knows: its names tell what was meant, its values may be secrets.
fn mask_values(node: &Node, out: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| mask_values(item, out)),
        Value::Map(entries) => entries.iter().for_each(|(key, value)| {
            // What has no value is no name either.
            let is_name = matches!(key.value, Value::Text(_)) && !matches!(value.value, Value::Null);
            if !is_name {
                mask_all(key, out);
            }
            mask_values(value, out);
        }),
        // (Either of two words is no secret.)
        Value::Bool(_) => {}
        _ => mask_all(node, out),
    }
}

/// Returns what stands before and behind the host (and the port) of a URL. Where the two cannot be told apart, that is all.
fn beside_host(url: &str) -> [Range<usize>; 2] {
    let quotes = ['"', '\''];
    let end = url.trim_end_matches(quotes).len();
    let begin = url
        .find("://")
        .map_or(end.min(url.len() - url.trim_start_matches(quotes).len()), |at| at + 3);
    let all = &url[begin..end];
    let path = path_of(all);
    match end_of_login(&url[..begin], all) {
        Some(at) if at > path => [begin..end, end..end],
        login => [begin..begin + login.map_or(0, |at| at + 1), begin + path..end],
    }
}

/// Returns where the login ends (at an `@`) in what follows the scheme of a URL. Of several `@` the last counts, behind slashes too, which somebody
/// forgot to escape; but on the web, where nothing but the name of a server stands before `/@`, that is a path.
fn end_of_login(scheme: &str, rest: &str) -> Option<usize> {
    let (authority, path) = rest.split_at(path_of(rest));
    let is_web = ["http:", "https:"]
        .iter()
        .any(|web| scheme.trim_end_matches('/').ends_with(web));
    match is_web && path.starts_with("/@") && is_server(authority) {
        true => None,
        false => rest.rfind('@'),
    }
}

/// Returns where in what follows the scheme of a URL its path begins.
fn path_of(rest: &str) -> usize {
    rest.find(['/', '?', '#']).unwrap_or(rest.len())
}

/// Tells whether a text can only be the name of a server, with or without a port, and no beginning of a login.
fn is_server(text: &str) -> bool {
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    let is_name = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    (name == "localhost" || name.contains('.')) && name.chars().all(is_name) && port.bytes().all(|b| b.is_ascii_digit())
}

/// Returns the parts of a range of `text` between references (`${…}`).
fn without_references(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut begin = range.start;
    while let Some(at) = text[begin..range.end].find("${").map(|at| begin + at) {
        let Some(length) = text[at..range.end].find('}') else {
            break;
        };
        parts.push(begin..at);
        begin = at + length + 1;
    }
    parts.push(begin..range.end);
    parts
}

/// Finds, in a file that is no YAML, all that may be a secret: what stands where `shape` has one, but for its keys, references and punctuation.
pub(super) fn unreadable(text: &str, shape: &Shape) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let (mut start, mut is_open) = (0, false);
    for line in text.split_inclusive('\n') {
        let words = |part: Range<usize>| words(line, part);
        // (What stands before the first key may be anything, and so may be the whole of a file in braces.)
        if let Some(name) = key_of_file(line) {
            is_open = section(shape, name) == Some(false);
        }
        // It may be indented by mistake.
        is_open &= !words(0..line.len())
            .iter()
            .any(|word| section(shape, &line[word.clone()]) == Some(true));
        if !is_open {
            let words = without_references(line, 0..line.len()).into_iter().flat_map(words);
            let unknown = words.filter(|word| !shape.has_key(&line[word.clone()]));
            hidden.extend(unknown.map(|word| start + word.start..start + word.end));
        }
        start += line.len();
    }
    hidden
}

/// Returns the key that a line begins with which is not indented.
fn key_of_file(line: &str) -> Option<&str> {
    let name = line.split_once(':')?.0;
    (!name.starts_with(char::is_whitespace)).then(|| name.trim_end())
}

/// Tells whether a secret may stand under a key of a manifest; `None`: it is no key of one.
fn section(shape: &Shape, name: &str) -> Option<bool> {
    let Shape::Record(record) = shape else { return None };
    let key = record.keys.iter().find(|key| key.name == name)?;
    Some(key.shape.may_hold_secrets())
}

/// Returns what stands between blanks and the punctuation of YAML in a range of `text`.
fn words(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let is_between = |c: char| c.is_whitespace() || "{}[]:,\"'#|>&*-".contains(c);
    let mut words = Vec::new();
    let mut begin = range.start;
    for (at, c) in text[range.clone()].char_indices().filter(|(_, c)| is_between(*c)) {
        let at = range.start + at;
        words.push(begin..at);
        begin = at + c.len_utf8();
    }
    words.push(begin..range.end);
    words.retain(|word| !word.is_empty());
    words
}

/// Finds what looks like a secret by its key alone (`password: x`, `token = …`, `://user:password@`).
///
/// For what stands where nobody expects it. References (`${…}`) are no secrets.
pub(super) fn suspicious(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        for word in ["password", "secret", "token", "passwd", "authorization"] {
            for (at, _) in lower.match_indices(word) {
                found.extend(value_after(line, at + word.len()).map(|r| start + r.start..start + r.end));
            }
        }
        for (at, _) in line.match_indices(":/") {
            found.extend(password_behind(line, at).map(|r| start + r.start..start + r.end));
        }
        start += line.len();
    }
    found
}

/// Returns where in `text` a URL spells its password out (`://user:password@`; one slash may be missing).
pub(super) fn literal_password(text: &str) -> Option<Range<usize>> {
    password_behind(text, text.find(":/")?)
}

/// As [`literal_password`], of the URL whose scheme ends at `at`.
fn password_behind(text: &str, at: usize) -> Option<Range<usize>> {
    let (scheme, rest) = text.split_at(at + 1);
    let rest = rest.trim_start_matches('/');
    let start = text.len() - rest.len();
    let rest = &rest[..rest.find(['?', ' ', '"', '\'', '#']).unwrap_or(rest.len())];
    let end = end_of_login(scheme, rest)?;
    let colon = rest[..end].find(':')? + 1;
    (colon < end && !rest[colon..end].starts_with("${")).then(|| start + colon..start + end)
}

/// Returns what follows `:` or `=` behind a key that ends at `at`, to the end of the line or of a quoted text.
fn value_after(line: &str, at: usize) -> Option<Range<usize>> {
    let rest = &line[at..];
    let trimmed = rest.trim_start_matches(['"', '\'', ' ']);
    let value = trimmed.strip_prefix([':', '='])?.trim_start();
    let begin = line.len() - value.len();
    let (begin, end) = match value.chars().next()? {
        quote @ ('"' | '\'') => {
            let close = value[1..].find(quote).map_or(value.trim_end().len(), |end| end + 1);
            (begin + 1, begin + close)
        }
        _ => (begin, begin + value.find([',', '}', '&']).unwrap_or(value.len())),
    };
    let secret = line[begin..end].trim_end();
    (!secret.is_empty() && !secret.starts_with("${") && !secret.starts_with(['{', '|', '>', '#', '*']))
        .then(|| begin..begin + secret.len())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::keys::MANIFEST;
    use super::super::source::Source;
    use super::super::yaml;
    use super::*;

    fn shown(text: &str) -> String {
        Source::new(Path::new("x"), text, &[]).shown().to_owned()
    }

    #[test]
    fn secrets_are_masked_byte_for_byte() {
        let cases = [
            ("password: abc # c\n", "password: *******\n"),
            ("x: {password: \"ab é\", y: 1}", "x: {password: \"*****\", y: 1}"),
            ("password: \"${env:X}\"", "password: \"${env:X}\""),
            ("uri: postgres://u:pw@h/db", "uri: postgres://u:**@h/db"),
            ("uri: postgres://u:${env:X}@h/db", "uri: postgres://u:${env:X}@h/db"),
            ("uri: host=h password=abc", "uri: host=h password=***"),
            ("token: \"abc", "token: \"***"),
            ("uri: postgres:/u:pw@h/db", "uri: postgres:/u:**@h/db"),
            ("[a://u:p1@h, b://h, c://u:p2@h]", "[a://u:**@h, b://h, c://u:**@h]"),
            ("url: https://h.org:8443/@team", "url: https://h.org:8443/@team"),
            ("url: https://u.v:1/w@h.org", "url: https://u.v:***@h.org"),
            ("url: https://u:p@ss.word/w@h.org", "url: https://u:***********@h.org"),
            ("url: https://u:p/w@h.org:8443", "url: https://u:***@h.org:8443"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected);
            assert_eq!(shown(text).len(), text.len());
        }
    }

    #[test]
    fn of_a_url_the_host_is_shown() {
        let cases = [
            (
                "https://hooks.example.org/services/T00",
                "https://hooks.example.org*************",
            ),
            ("\"https://h:8443?key=x\"", "\"https://h:8443******\""),
            ("nats://token@h:4222", "nats://******h:4222"),
            ("nats://u:p/w@h:4222", "nats://************"),
            (
                "https://h.example.org:8443/@team/x",
                "https://h.example.org:8443********",
            ),
            ("http://localhost/@a", "http://localhost***"),
            ("https://u:p@h.org/a", "https://****h.org**"),
            ("https://u:p@h.org/@b", "https://************"),
            ("https://u:p@ss.word/w@h.org", "https://*******************"),
            ("https://u.v:1/w@h.org", "https://*************"),
            ("http://localhost/a@b", "http://*************"),
            ("https://u:p.q/w@h.org", "https://*************"),
            ("https://u.v:p/w@h.org", "https://*************"),
            ("https://token/w@h.org", "https://*************"),
            ("nats://to.ken/w@h", "nats://**********"),
            ("https:/h/secret", "https:*********"),
            ("'https://h/${env:KEY}/x'", "'https://h*${env:KEY}**'"),
            ("${env:URL}", "${env:URL}"),
            ("h", "h"),
            ("", ""),
        ];
        for (url, expected) in cases {
            let hidden = beside_host(url)
                .into_iter()
                .flat_map(|part| without_references(url, part));
            let mut shown = url.to_owned();
            hidden.for_each(|part| shown.replace_range(part.clone(), &"*".repeat(part.len())));
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn under_a_key_that_nobody_knows_names_are_shown() {
        let cases = [
            (
                "shop: { tables: [shop.order], rollback: false, key: s3 }\n",
                "shop: { tables: [**********], rollback: false, key: ** }\n",
            ),
            ("shop: [{ a: s3 }, { s3 }]\n", "shop: [{ a: ** }, { ** }]\n"),
            ("shop: \"${env:X}\"\n", "shop: \"${env:X}\"\n"),
            (
                "database: { password: { s3: s4 } }\n",
                "database: { password: { **: ** } }\n",
            ),
        ];
        for (text, expected) in cases {
            let mut hidden = Vec::new();
            secrets(&yaml::parse(text).unwrap(), &MANIFEST, text, &mut hidden);
            assert_eq!(Source::new(Path::new("x"), text, &hidden).shown(), expected);
        }
    }

    #[test]
    fn of_a_file_that_is_no_yaml_little_is_shown() {
        let cases = [
            ("groups: { a: { tables: [a.b } }\n", "groups: { a: { tables: [a.b } }\n"),
            (
                "sinks: { w: { webhook: { headers: { X-Api-Key: s3, Accept: @json } } } }\n",
                "sinks: { *: { webhook: { headers: { *-***-***: **, ******: ***** } } } }\n",
            ),
            (
                "database:\n  password: |\n    s3\ngroups:\n  é: [\n",
                "database:\n  password: |\n    **\ngroups:\n  é: [\n",
            ),
            ("{ database: { password: é3 } ]", "{ database: { password: *** } ]"),
            ("  password: \"${env:X}é\"\n", "  password: \"${env:X}**\"\n"),
            ("databse:\n  password: s3\n", "*******:\n  password: **\n"),
            ("version: 1\n  sinks: { w: s3\n", "version: 1\n  sinks: { *: **\n"),
        ];
        for (text, expected) in cases {
            let source = Source::new(Path::new("x"), text, &unreadable(text, &MANIFEST));
            assert_eq!(source.shown(), expected);
        }
    }
}
