//! Names that a row was given before the row that had them gave them up: rows exchange their names in one statement, or the same is
//! delivered again. The row that gives such a name up next no longer has the entry.
//!
//! It is kept for all connections of a sink, and as long as the process lives. Whether two deliveries are about one row is told by what
//! the entry was: a delivery does not say its row.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::Entry;

/// More than this many names are not remembered: that rows exchange names is rare.
const MOST: usize = 10_000;

/// Names by their normal form, with what the entry is now.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<HashMap<String, Entry>>);

impl Taken {
    /// Notes that the entry with this name was made `entry` in place.
    pub(super) fn put(&self, name: &str, entry: &Entry) {
        let mut names = self.names();
        if names.len() >= MOST {
            names.clear();
        }
        names.insert(name.to_owned(), entry.clone());
    }

    /// Notes that the row has changed meanwhile.
    pub(super) fn follow(&self, name: &str, old: &Entry, new: &Entry) {
        let mut names = self.names();
        if let Some(entry) = names.get_mut(name).filter(|entry| *entry == old) {
            *entry = new.clone();
        }
    }

    /// Tells whether the entry with this name is another row's than the one that was `old`, and gives the name up. Asked once:
    /// the next that gives it up is the one that has it.
    pub(super) fn is_another(&self, name: &str, old: &Entry) -> bool {
        self.names().remove(name).is_some_and(|entry| entry != *old)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
