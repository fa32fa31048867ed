//! The YAML text of what was translated: a tree, in the order it is to be written, and texts that stay texts.

use std::fmt::Write as _;

use crate::manifest::scalar;
use crate::names::one_line;

/// A tree of YAML, in the order it is to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Yaml {
    Text(String),
    /// A number, `true` or `false`.
    Bare(String),
    Map(Vec<(String, Yaml)>),
    List(Vec<Yaml>),
}

impl Yaml {
    pub(super) fn text(text: impl Into<String>) -> Yaml {
        Yaml::Text(text.into())
    }

    pub(super) fn map<const N: usize>(entries: [(&str, Yaml); N]) -> Yaml {
        Yaml::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }
}

/// Writes a manifest: what it comes from, what is to be said of it (a comment each), and its parts.
pub(super) fn write(from: &str, notes: impl Iterator<Item = String>, parts: &[(&str, &[(String, Yaml)])]) -> String {
    let mut out = format!("# Translated by `emaj import` from {}.\n", one_line(from));
    for note in notes {
        let _ = writeln!(out, "# {}", one_line(&note));
    }
    out += "version: 1\n";
    for (key, entries) in parts {
        if !entries.is_empty() {
            let _ = writeln!(out, "\n{key}:");
            entries.iter().for_each(|(key, value)| entry(&mut out, 1, key, value));
        }
    }
    out
}

fn entry(out: &mut String, depth: usize, key: &str, value: &Yaml) {
    let _ = write!(out, "{}{}:", "  ".repeat(depth), scalar(key));
    below(out, depth, value);
}

fn below(out: &mut String, depth: usize, value: &Yaml) {
    match value {
        Yaml::Text(text) if is_block(text) => {
            *out += " |-\n";
            for line in text.lines() {
                let _ = writeln!(
                    out,
                    "{}{line}",
                    if line.is_empty() {
                        String::new()
                    } else {
                        "  ".repeat(depth + 1)
                    }
                );
            }
        }
        Yaml::Text(text) => {
            let _ = writeln!(out, " {}", scalar(text));
        }
        Yaml::Bare(text) => {
            let _ = writeln!(out, " {text}");
        }
        Yaml::Map(entries) if entries.is_empty() => *out += " {}\n",
        Yaml::Map(entries) => {
            out.push('\n');
            entries
                .iter()
                .for_each(|(key, value)| entry(out, depth + 1, key, value));
        }
        Yaml::List(all) => {
            out.push('\n');
            for one in all {
                let _ = write!(out, "{}-", "  ".repeat(depth + 1));
                below(out, depth + 1, one);
            }
        }
    }
}

/// Several lines that a block shows as they are.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && !text.ends_with(['\n', ' '])
        && !text
            .chars()
            .any(|c| c.is_control() && c != '\n' || c == '\u{feff}' || c == '\u{2028}' || c == '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines_where_a_block_shows_them() {
        assert!(is_block("a\n  b") && !is_block(" a\nb") && !is_block("a\n\tb"));
    }
}
