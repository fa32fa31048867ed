//! Reading what the server and `initdb` wrote to their logs.

use std::fs;
use std::path::Path;

/// Returns the last lines of the file, as the end of an error message.
pub(super) fn end(file: &Path) -> String {
    let text = fs::read(file)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    match &lines[lines.len().saturating_sub(15)..] {
        [] => "it wrote nothing to its log".to_owned(),
        last => format!("its log ends with:\n  {}", last.join("\n  ")),
    }
}

/// Returns the length of the log, as a position for [`said_since`].
pub(super) fn length(file: &Path) -> usize {
    fs::metadata(file).map_or(0, |found| usize::try_from(found.len()).unwrap_or(usize::MAX))
}

/// Says whether `words` stand in the log after `position`.
pub(super) fn said_since(log: &Path, position: usize, words: &str) -> bool {
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text[position.min(text.len())..]).contains(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_since_counts() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(&log, "Address already in use\nready\n").unwrap();
        assert!(said_since(&log, 0, "already in use"));
        assert!(!said_since(&log, 23, "already in use"));
        assert!(!said_since(&log, 1000, "already in use"));
    }
}
