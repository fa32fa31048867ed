//! Settings of a sink with their references looked up, and the secrets among them, which are kept out of every message.
//!
//! [`References`] collects all that leads nowhere, so that a person sees it at once. [`Secrets`] takes what must not be shown out
//! of texts that come from elsewhere. Called by the openers of the sinks that send messages.

use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use secrecy::{ExposeSecret, SecretString};

use crate::errors::{Error, Kind, Result};
use crate::manifest::{Diagnostic, Diagnostics, Place, SecretText, Text};
use crate::pg::Environment;

/// Looks references up and remembers which lead nowhere.
pub(super) struct References<'a> {
    environment: &'a Environment,
    problems: Vec<Diagnostic>,
}

impl<'a> References<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        References {
            environment,
            problems: Vec::new(),
        }
    }

    /// Returns the text; an empty one when it is missing, which [`References::finish`] then says.
    pub(super) fn text(&mut self, text: &Text) -> String {
        let environment = self.environment;
        text.resolve(&|name| environment.get(name).map(str::to_owned))
            .unwrap_or_else(|problems| self.keep(problems))
    }

    pub(super) fn secret(&mut self, secret: &SecretText) -> SecretString {
        let environment = self.environment;
        secret
            .resolve(&|name| environment.get(name).map(str::to_owned))
            .unwrap_or_else(|problems| self.keep(problems))
    }

    /// Returns the path of a file; a relative one counts from the folder of the manifest.
    pub(super) fn file(&mut self, text: &Text) -> PathBuf {
        let folder = text.place().file().parent().map(PathBuf::from).unwrap_or_default();
        folder.join(self.text(text))
    }

    /// Remembers what else is wrong with a setting; of one whose reference leads nowhere, nothing else is known.
    pub(super) fn problem(&mut self, place: &Place, problem: impl Into<String>, next: impl Into<String>) {
        let problem = Diagnostic::error(place, problem).next(next);
        let is_there = |known: &Diagnostic| known.file == problem.file && known.span == problem.span;
        if !self.problems.iter().any(is_there) {
            self.problems.push(problem);
        }
    }

    /// Ends the looking up.
    ///
    /// # Errors
    /// All problems, as one error about the manifest.
    pub(super) fn finish(self) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::Manifest, Diagnostics(self.problems).sorted()))
    }

    fn keep<T: From<String>>(&mut self, problems: Diagnostics) -> T {
        self.problems.extend(problems.0);
        T::from(String::new())
    }
}

/// What is never to be seen.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<SecretString>);

impl Secrets {
    /// Adds a secret, also as others may write it when they quote it.
    pub(super) fn add(&mut self, secret: &SecretString) {
        for form in quoted(secret.expose_secret()) {
            self.add_form(SecretString::from(form));
        }
    }

    fn add_form(&mut self, secret: SecretString) {
        let is_known = |known: &SecretString| known.expose_secret() == secret.expose_secret();
        if !secret.expose_secret().is_empty() && !self.0.iter().any(is_known) {
            self.0.push(secret);
            // What holds another one is to be found first.
            self.0
                .sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
        }
    }

    /// Returns the text on one line, not longer than a person reads, with `***` for each secret.
    pub(super) fn hide(&self, text: &str) -> String {
        let hidden = self.0.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.expose_secret(), "***")
        });
        let words: Vec<&str> = hidden.split(|c: char| c.is_whitespace() || c.is_control()).collect();
        let line: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let line = line.join(" ");
        match line.char_indices().nth(300) {
            Some((end, _)) => format!("{}...", &line[..end]),
            None => line,
        }
    }
}

/// Returns a text as it is, and within JSON, a URL, and HTML, in the ways of the usual libraries.
fn quoted(text: &str) -> Vec<String> {
    let json = serde_json::to_string(text).unwrap_or_default();
    let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or_default();
    let ascii: String = json.chars().map(in_ascii).collect();
    let url = percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string();
    let plain =
        ["-", "_", ".", "~"].map(|plain| (percent_encode(plain.as_bytes(), NON_ALPHANUMERIC).to_string(), plain));
    let url = plain.iter().fold(url, |url, (code, plain)| url.replace(code, plain));
    let html = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let html = html.replace('"', "&quot;");
    vec![
        json.replace('/', "\\/"),
        json.to_owned(),
        ascii.replace('/', "\\/"),
        ascii,
        url.replace("%2F", "/"),
        url.replace("%20", "+"),
        url,
        html.replace('\'', "&#39;"),
        html.replace('\'', "&#x27;"),
        html,
        text.to_owned(),
    ]
}

/// Returns a character as JSON writes it that is all ASCII.
fn in_ascii(character: char) -> String {
    if character.is_ascii() {
        return character.to_string();
    }
    let mut units = [0; 2];
    let units = character.encode_utf16(&mut units).iter();
    units.map(|unit| format!("\\u{unit:04x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_what_others_say() {
        let mut secrets = Secrets::default();
        for secret in ["tree", "apple tree", ""] {
            secrets.add(&SecretString::from(secret));
        }
        assert_eq!(secrets.hide("an apple tree\r\n and a  tree\u{7}"), "an *** and a ***");
        assert_eq!(secrets.hide(&"é".repeat(400)).chars().count(), 303);
    }

    #[test]
    fn secrets_are_known_as_others_quote_them() {
        let mut secrets = Secrets::default();
        secrets.add(&SecretString::from("\"a/b\\ <é&'1"));
        for said in [
            r#"{"k":"\"a/b\\ <é&'1"}"#,
            r#"{"k":"\"a\/b\\ <\u00e9&'1"}"#,
            r#"{"k":"\"a/b\\ <\u00e9&'1"}"#,
            "?k=%22a%2Fb%5C%20%3C%C3%A9%26%271",
            "?k=%22a/b%5C%20%3C%C3%A9%26%271",
            "?k=%22a%2Fb%5C+%3C%C3%A9%26%271",
            "<b>&quot;a/b\\ &lt;é&amp;&#39;1</b>",
            "<b>&quot;a/b\\ &lt;é&amp;&#x27;1</b>",
        ] {
            let hidden = secrets.hide(said);
            assert!(hidden.contains("***") && hidden.len() < 12, "{said}: {hidden}");
        }
    }
}
