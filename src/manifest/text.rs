//! Texts with references: `${env:NAME}` and `${file:PATH}`, looked up only when the value is needed.
//!
//! [`Text`] is for plain settings, [`SecretText`] for passwords: the same, but it never shows a literal. The manifest
//! keeps the reference, so that reading, planning and printing a manifest need no secret.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::mask::literal_password;
use super::shape::Wrong;
use super::source::Place;
use crate::names::nearest;

/// Looks a variable of the environment up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A setting that may hold references.
#[derive(Clone, PartialEq)]
pub struct Text {
    parts: Vec<Part>,
    place: Place,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Env(String),
    File(String),
}

impl Text {
    /// Reads the references out of `text`. Errors on an open `${` and on unknown words; `$${` stands for `${`.
    pub(super) fn parse(text: &str, place: Place) -> Result<Self, Wrong> {
        Ok(Text {
            parts: parts(text)?,
            place,
        })
    }

    /// Tells whether [`Text::parse`] would take `text`.
    pub(super) fn check(text: &str) -> Result<(), Wrong> {
        parts(text).map(drop)
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the text when it holds no reference.
    pub fn literal(&self) -> Option<String> {
        self.parts
            .iter()
            .map(|part| {
                if let Part::Literal(text) = part {
                    Some(text.as_str())
                } else {
                    None
                }
            })
            .collect()
    }

    /// Puts the values of the references in.
    ///
    /// A file's path counts from the folder of the manifest, and one line break at its end is cut. Errors with the
    /// place when a variable is not set or a file cannot be read.
    pub fn resolve(&self, env: Env<'_>) -> Result<String, Diagnostics> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Env(name) => out.push_str(&env(name).ok_or_else(|| {
                    Diagnostic::error(&self.place, format!("the environment variable `{name}` is not set"))
                        .next(format!("set `{name}` where emaj runs"))
                })?),
                Part::File(path) => out.push_str(&self.read(path)?),
            }
        }
        Ok(out)
    }

    fn read(&self, path: &str) -> Result<String, Diagnostics> {
        let folder = self.place.file().parent().map(PathBuf::from).unwrap_or_default();
        let path = folder.join(path);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Diagnostic::error(&self.place, format!("failed to read `{}`: {error}", path.display()))
                .next("a path counts from the folder of the manifest")
        })?;
        Ok(text
            .strip_suffix("\r\n")
            .or(text.strip_suffix('\n'))
            .unwrap_or(&text)
            .to_owned())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.parts.iter().map(|part| match part {
            // A URL may hold a password all the same.
            Part::Literal(text) => match literal_password(text) {
                Some(range) => format!("{}***{}", &text[..range.start], &text[range.end..]),
                None => text.clone(),
            },
            Part::Env(name) => format!("${{env:{name}}}"),
            Part::File(path) => format!("${{file:{path}}}"),
        });
        write!(f, "{:?}", shown.collect::<String>())
    }
}

/// A secret, or rather where it is to be found.
#[derive(Clone, PartialEq)]
pub struct SecretText(Text);

impl SecretText {
    pub(super) fn parse(text: &str, place: Place) -> Result<Self, Wrong> {
        Text::parse(text, place).map(SecretText)
    }

    pub fn place(&self) -> &Place {
        self.0.place()
    }

    /// Puts the values of the references in; see [`Text::resolve`].
    pub fn resolve(&self, env: Env<'_>) -> Result<SecretString, Diagnostics> {
        self.0.resolve(env).map(SecretString::from)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.parts.iter().map(|part| match part {
            Part::Literal(_) => "***".to_owned(),
            Part::Env(name) => format!("${{env:{name}}}"),
            Part::File(path) => format!("${{file:{path}}}"),
        });
        f.write_str(&shown.collect::<String>())
    }
}

/// Tells whether `text` is a secret spelt out rather than a reference to one.
pub(super) fn literal_secret(text: &str) -> bool {
    match parts(text) {
        Ok(parts) => !parts.is_empty() && parts.iter().all(|part| matches!(part, Part::Literal(_))),
        Err(_) => true,
    }
}

fn parts(text: &str) -> Result<Vec<Part>, Wrong> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(dollar) = text[at..].find("${").map(|found| at + found) {
        if text[at..dollar].ends_with('$') {
            literal.push_str(&text[at..dollar]);
            literal.push('{');
            at = dollar + 2;
            continue;
        }
        literal.push_str(&text[at..dollar]);
        let close = text[dollar..].find('}').map(|found| dollar + found).ok_or_else(|| {
            Wrong::new("the reference `${` is never closed")
                .at(dollar, text.len())
                .next("close it with `}`, or write `$${` for the characters themselves")
        })?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(reference(&text[dollar + 2..close]).map_err(|wrong| wrong.at(dollar, close + 1))?);
        at = close + 1;
    }
    literal.push_str(&text[at..]);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

fn reference(body: &str) -> Result<Part, Wrong> {
    let (word, name) = body.split_once(':').unwrap_or((body, ""));
    match (word, name) {
        ("env" | "file", "") => Err(Wrong::new(format!("`${{{word}:…}}` names nothing"))),
        ("env", name) => Ok(Part::Env(name.to_owned())),
        ("file", path) => Ok(Part::File(path.to_owned())),
        _ => Err(Wrong {
            nearest: nearest(word, ["env", "file"]).map(str::to_owned),
            ..Wrong::new("the reference is of no known kind")
                .next("write `${env:NAME}` or `${file:PATH}`, or `$${` for the characters themselves")
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::ExposeSecret;

    use super::super::source::Source;
    use super::*;

    fn text(text: &str) -> Result<Text, Wrong> {
        let source = Source::new(Path::new("/tmp/m.yaml"), text, &[]);
        Text::parse(text, Place::new(&source, 0..text.len()))
    }

    #[test]
    fn references_are_resolved_late() {
        let env = |name: &str| (name == "X").then(|| "1".to_owned());
        let resolved = |input: &str| text(input).unwrap().resolve(&env);
        assert_eq!(resolved("a${env:X}b${env:X}").unwrap(), "a1b1");
        assert_eq!(resolved("$${env:X} $5 {}").unwrap(), "${env:X} $5 {}");
        assert_eq!(resolved("").unwrap(), "");
        let error = resolved("${env:Y}").unwrap_err();
        assert_eq!(error.0[0].message, "the environment variable `Y` is not set");
        let error = resolved("${file:/no/such/file}").unwrap_err();
        assert!(
            error.0[0].message.starts_with("failed to read `/no/such/file`"),
            "{}",
            error.0[0].message
        );
    }

    #[test]
    fn a_file_loses_its_last_line_break() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "a b \n").unwrap();
        let source = Source::new(&folder.path().join("m.yaml"), "x", &[]);
        let secret = SecretText::parse("${file:pw}", Place::new(&source, 0..1)).unwrap();
        assert_eq!(secret.resolve(&|_| None).unwrap().expose_secret(), "a b ");
        assert_eq!(format!("{secret:?}"), "${file:pw}");
    }

    #[test]
    fn unknown_references_are_refused() {
        assert_eq!(text("a${ENV:X}").unwrap_err().at, Some(1..9));
        assert_eq!(text("${enc:X}").unwrap_err().nearest.as_deref(), Some("env"));
        assert!(text("${env:X").unwrap_err().message.contains("never closed"));
        assert!(text("${env:}").unwrap_err().message.contains("names nothing"));
    }

    #[test]
    fn a_literal_secret_is_not_in_debug() {
        let source = Source::new(Path::new("m.yaml"), "x", &[]);
        let secret = SecretText::parse("hunter2${env:X}", Place::new(&source, 0..1)).unwrap();
        assert_eq!(format!("{secret:?}"), "***${env:X}");
        assert!(literal_secret("hunter2") && !literal_secret("${env:X}"));
    }
}
