//! The progress of a rollback: the server tells it by notices, `emaj-progress {"table": …, "done": n, "of": m, "rows": r}`.

use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::ui::{Output, Progress};

/// Shows what the notices tell; notices come on the thread that waits for the server.
#[derive(Debug)]
pub(super) struct Bar {
    output: Output,
    shown: Mutex<Option<Progress>>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Told {
    done: u64,
    of: u64,
}

impl Bar {
    pub(super) fn new(output: Output) -> Bar {
        Bar {
            output,
            shown: Mutex::new(None),
        }
    }

    /// Takes a notice when it tells progress; returns whether it did.
    pub(super) fn takes(&self, message: &str) -> bool {
        let Some(told) = read(message) else { return false };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // Another try begins anew.
        if shown.as_ref().is_some_and(|bar| bar.done() > told.done) {
            *shown = None;
        }
        let bar = shown.get_or_insert_with(|| self.output.progress("rolling tables back", Some(told.of)));
        bar.advance(told.done - bar.done());
        true
    }

    /// Takes the bar off the screen.
    pub(super) fn end(&self) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn read(message: &str) -> Option<Told> {
    serde_json::from_str(message.strip_prefix("emaj-progress ")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_progress_is_taken() {
        let told = read(r#"emaj-progress {"of": 3, "done": 1, "rows": 7, "table": "a.b"}"#);
        assert_eq!(told, Some(Told { done: 1, of: 3 }));
        assert_eq!(read("emaj-progress {"), None);
        assert_eq!(read("truncating"), None);
    }

    #[test]
    fn a_second_try_begins_anew() {
        let bar = Bar::new(Output::new(crate::ui::Format::Table, true, crate::ui::Color::Never));
        for done in [0, 1, 2, 0, 1] {
            assert!(bar.takes(&format!(r#"emaj-progress {{"done": {done}, "of": 3}}"#)));
        }
        assert_eq!(bar.shown.lock().unwrap().as_ref().map(Progress::done), Some(1));
    }
}
