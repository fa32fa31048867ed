//! Taking out of a text what differs from run to run, so that it can be a snapshot.

use std::sync::LazyLock;

use regex::Regex;

/// What is looked for, and what stands for it; the first that fits takes the text.
const RULES: &[(&str, &str)] = &[
    (
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        "[uuid]",
    ),
    (
        r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| ?[+-]\d\d(:?\d\d)?)?(\[[A-Za-z/_]+\])?",
        "[time]",
    ),
    (r"\b\d+(\.\d+)? ?(ns|µs|ms)\b", "[duration]"),
    (r"\b\d+\.\d+ ?s\b", "[duration]"),
    (r"\b\d+:\d+:(\d+(,\d+)*)?(\s|$|[^0-9:])", "[snapshot]$3"),
    (r"\b[0-9A-F]{1,8}/[0-9A-F]{5,8}\b", "[lsn]"),
    (r"/[^\s:'`\x22]*/emaj-(test-)?[A-Za-z0-9]{6}\b", "[dir]"),
    (r"\b(port[= ]|:)\d{5}\b", "$1[port]"),
    (r"\btest_\d+(_owner)?\b", "[db]$1"),
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    RULES
        .iter()
        .map(|(pattern, stand_in)| (Regex::new(pattern).expect("a pattern"), *stand_in))
        .collect()
});

/// Returns `text` with stand-ins for times, durations, snapshots, positions, identifiers, directories, ports and the
/// names of the tests' databases.
pub fn redact(text: &str) -> String {
    COMPILED.iter().fold(text.to_owned(), |text, (pattern, stand_in)| {
        pattern.replace_all(&text, *stand_in).into_owned()
    })
}
