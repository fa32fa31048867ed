//! Asking before something that cannot be taken back: on a terminal only, and only a clear yes is one.

use std::io::{BufRead, Write};

use crate::errors::{Error, Kind, Result};

/// Asks, and reads one line.
pub(super) fn ask(question: &str, input: &mut impl BufRead, screen: &mut impl Write) -> Result<()> {
    write!(screen, "{question} [y/N] ")?;
    screen.flush()?;
    let mut answer = String::new();
    if input.read_line(&mut answer)? == 0 {
        // The end of input (Ctrl-D) leaves the cursor behind the question.
        writeln!(screen)?;
    }
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::message(Kind::Refused, "not confirmed; nothing was changed")),
    }
}

/// Returns the refusal for when there is no terminal.
pub(super) fn nobody_to_ask(question: &str) -> Error {
    Error::message(
        Kind::Refused,
        format!("this needs a confirmation, and there is no terminal to ask on: {question}"),
    )
    .hint("repeat the command with `--yes` when that is what you want")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answer: &str) -> (bool, String) {
        let mut screen = Vec::new();
        let result = ask("Drop 2 tables?", &mut answer.as_bytes(), &mut screen);
        if let Err(error) = &result {
            assert_eq!(error.kind(), Kind::Refused);
        }
        (result.is_ok(), String::from_utf8(screen).unwrap())
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        for answer in ["y\n", "Y\n", "yes\n", " YES \n", "y"] {
            assert!(answered(answer).0, "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "no\n", "yeah\n", "1\n"] {
            assert!(!answered(answer).0, "{answer:?}");
        }
        assert_eq!(answered("y\n").1, "Drop 2 tables? [y/N] ");
    }

    #[test]
    fn without_a_terminal_the_way_out_is_named() {
        let error = nobody_to_ask("Drop 2 tables?");
        insta::assert_snapshot!(error, @"this needs a confirmation, and there is no terminal to ask on: Drop 2 tables?");
        assert!(error.hints()[0].contains("`--yes`"));
    }
}
