//! Subjects: which may be published to, and which the stream of the manifest takes.

use std::time::Instant;

use async_nats::jetstream::stream;

use crate::sink::Fault;

/// What the stream of the manifest takes.
pub(super) struct Held {
    pub(super) asked: Instant,
    pub(super) name: String,
    pub(super) subjects: Vec<String>,
    pub(super) largest: Option<usize>,
}

impl Held {
    pub(super) fn new(config: &stream::Config) -> Self {
        Held {
            asked: Instant::now(),
            name: config.name.clone(),
            subjects: config.subjects.clone(),
            largest: usize::try_from(config.max_message_size).ok().filter(|most| *most > 0),
        }
    }

    pub(super) fn holds(&self, subject: &str) -> bool {
        self.subjects.iter().any(|pattern| covers(pattern, subject))
    }
}

/// How many bytes a subject may have. With what else stands on its line, it must not have more than the server's `max_control_line`, 4096 bytes unless
/// set, which nobody tells a client: it closes the connection.
const LONGEST: usize = 4000;

pub(super) fn check_subject(subject: &str) -> Result<(), Fault> {
    let wrong = |why: &str| Err(Fault::never(format!("its subject cannot be published to: {why}")));
    if subject.split('.').any(str::is_empty) {
        return wrong("a token is empty");
    }
    if subject.split('.').any(|token| token == "*" || token == ">") {
        return wrong("a token is a wildcard");
    }
    if subject.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("it holds a blank or a control character");
    }
    if subject.starts_with('$') {
        return wrong("what begins with `$` belongs to the server");
    }
    if subject.len() > LONGEST {
        return wrong(&format!(
            "it has {} bytes, and {LONGEST} at most fit on its line",
            subject.len()
        ));
    }
    Ok(())
}

/// Tells whether a pattern of a stream (`shop.*.>`) holds a subject.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Verdict;

    #[test]
    fn a_subject_is_checked_before_it_is_published() {
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a.*",
            "a.>",
            ">",
            "a b",
            "a\nb",
            "a\tb",
            "$JS.API.STREAM.DELETE.x",
            "a\0",
            &"x".repeat(LONGEST + 1),
        ] {
            let fault = check_subject(bad).unwrap_err();
            assert_eq!(fault.verdict, Verdict::Never, "{bad:?}");
        }
        assert!(
            check_subject("a.b*c.d>").is_ok(),
            "a star inside of a token is no wildcard"
        );
    }

    #[test]
    fn patterns_cover_what_the_server_says_they_cover() {
        for (pattern, subject, covered) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("*.b", "a.c", false),
        ] {
            assert_eq!(covers(pattern, subject), covered, "{pattern} {subject}");
        }
    }
}
