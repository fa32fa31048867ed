//! Errors on screen: what failed, what caused it, what to do next.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};

use crate::errors::Error;

pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Prints an error once, its causes and its hints, to stderr.
pub fn print_error(error: &Error) {
    // When stderr is gone there is nobody left to tell.
    let _ = anstream::stderr().lock().write_all(render(error).as_bytes());
}

/// Returns the text, with the escape sequences of its colours.
pub(super) fn render(error: &Error) -> String {
    let mut text = String::new();
    let mut said = String::new();
    for message in error.chain() {
        // Many errors repeat their cause at the end of their own message; once is enough.
        if said.is_empty() {
            text += &line("error", ERROR, &message);
        } else if !said.ends_with(&message) {
            text += &line("caused by", ERROR, &message);
        } else {
            continue;
        }
        said = message;
    }
    error
        .hints()
        .iter()
        .fold(text, |text, hint| text + &line("hint", HINT, hint))
}

/// Returns one labelled line; the label says in words what the colour says.
pub(super) fn line(label: &str, style: Style, message: &str) -> String {
    format!("{style}{label}:{style:#} {message}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Kind;

    fn plain(error: &Error) -> String {
        anstream::adapter::strip_str(&render(error)).to_string()
    }

    #[test]
    fn causes_and_hints_have_lines_of_their_own() {
        let error = Error::message(Kind::Locked, "timed out after 5 s")
            .context("failed to lock `billing.invoice`")
            .context("failed to install the manifest")
            .hint("process 4711 holds the lock")
            .hint("wait longer: `--wait 60s`");
        insta::assert_snapshot!(plain(&error), @r"
        error: failed to install the manifest
        caused by: failed to lock `billing.invoice`
        caused by: timed out after 5 s
        hint: process 4711 holds the lock
        hint: wait longer: `--wait 60s`
        ");
    }

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let inner = anyhow::anyhow!("no such file");
        let error = Error::new(Kind::Failed, inner.context("cannot read `a`: no such file")).context("failed to start");
        insta::assert_snapshot!(plain(&error), @r"
        error: failed to start
        caused by: cannot read `a`: no such file
        ");
    }

    #[test]
    fn colours_carry_nothing_that_words_do_not() {
        let error = Error::message(Kind::Failed, "it broke").hint("mend it");
        assert!(render(&error).contains('\u{1b}'));
        assert_eq!(plain(&error), "error: it broke\nhint: mend it\n");
    }
}
