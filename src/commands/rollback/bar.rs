//! The progress of a rollback: the server tells it by notices, `emaj-progress {"lane": …, "table": …, "done": n, "of": m, "rows": r}`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::ui::{Output, Progress};

/// Shows what the notices tell; notices come on the thread that waits for the server.
#[derive(Debug)]
pub(super) struct Bar {
    output: Output,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    bar: Option<Progress>,
    /// By lane: tables done, and of how many.
    lanes: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Told {
    lane: String,
    done: u64,
    of: u64,
}

impl Bar {
    pub(super) fn new(output: Output) -> Bar {
        Bar {
            output,
            shown: Mutex::default(),
        }
    }

    /// Takes a notice when it tells progress; returns whether it did.
    pub(super) fn takes(&self, message: &str) -> bool {
        let Some(told) = read(message) else { return false };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // Another try begins anew.
        if shown.lanes.get(&told.lane).is_some_and(|lane| lane.0 > told.done) {
            *shown = Shown::default();
        }
        let known = shown.lanes.insert(told.lane, (told.done, told.of));
        let (done, of) = shown
            .lanes
            .values()
            .fold((0, 0), |sum, lane| (sum.0 + lane.0, sum.1 + lane.1));
        if known.is_none() {
            // One more lane makes the bar longer.
            shown.bar = None;
        }
        let bar = shown
            .bar
            .get_or_insert_with(|| self.output.progress("rolling tables back", Some(of)));
        bar.advance(done - bar.done());
        true
    }

    /// Takes the bar off the screen.
    pub(super) fn end(&self) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Shown::default();
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
        let told = read(r#"emaj-progress {"of": 3, "done": 1, "lane": "1", "rows": 7, "table": "a.b"}"#);
        let expected = Told {
            lane: "1".to_owned(),
            done: 1,
            of: 3,
        };
        assert_eq!(told, Some(expected));
        assert_eq!(read("emaj-progress {"), None);
        assert_eq!(read("truncating"), None);
    }

    fn after(told: &[(u64, u64)]) -> Option<u64> {
        let bar = Bar::new(Output::new(crate::ui::Format::Table, true, crate::ui::Color::Never));
        for (lane, done) in told {
            assert!(bar.takes(&format!(
                r#"emaj-progress {{"lane": "{lane}", "done": {done}, "of": 3}}"#
            )));
        }
        bar.shown.lock().unwrap().bar.as_ref().map(Progress::done)
    }

    #[test]
    fn a_second_try_begins_anew() {
        assert_eq!(after(&[(1, 0), (1, 1), (1, 2), (1, 0), (1, 1)]), Some(1));
    }

    #[test]
    fn lanes_are_added_up() {
        assert_eq!(after(&[(1, 0), (2, 0), (1, 1), (2, 1), (2, 2)]), Some(3));
    }
}
