//! The keys by which a change is known that nothing may overtake: those of its row, of its message, of its row in another table.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::{Bound, Compiled, Envelope, event_of};
use crate::deliver::binding::message::word_of;
use crate::deliver::change::Change;
use crate::deliver::digest::digest;
use crate::deliver::row::Row;

/// What keys have in common that are one to their table, though they are written in two ways; nothing is known of keys whose texts say that.
#[derive(Debug, Default)]
pub(in crate::deliver) struct OneKey(pub HashMap<String, String>);

impl OneKey {
    fn of<'k>(&'k self, key: &'k str) -> Cow<'k, str> {
        match self.0.get(key) {
            Some(one) => Cow::Borrowed(one),
            None => in_one_way(key),
        }
    }
}

impl Bound {
    /// The key of a row, as changes have it.
    pub(in crate::deliver) fn key_of(&self, row: &Row) -> String {
        key_text(row, &self.names.key)
    }

    /// The keys by which a change is known that must not be overtaken: those of its row, and of its message as far as that can be said.
    pub(in crate::deliver) fn order_keys(&self, change: &Change, envelope: &Envelope<'_>, one: &OneKey) -> Vec<String> {
        let mut keys = self.row_keys(change, one);
        if let Compiled::Message { key, .. } = &self.kind {
            let fits = |row| self.fits(row).ok().flatten();
            let (old, new) = (fits(change.old.as_ref()), fits(change.new.as_ref()));
            if let Some(event) = event_of(old, new) {
                let rendered = match key {
                    Some(key) => {
                        let value = self.message_context(old, new, word_of(change, event), envelope);
                        self.render(key, &value).ok()
                    }
                    None => Some(change.key.to_string()),
                };
                keys.extend(rendered.and_then(|key| self.message_key(&key)));
            }
        }
        keys
    }

    /// Tells whether a row is known by another key after a change than before it.
    pub(in crate::deliver) fn gets_another_key(&self, change: &Change) -> bool {
        match self.names.key.is_empty() {
            true => change.old.is_some() && change.new.is_some(),
            false => self.keys_of(change).len() > 1,
        }
    }

    /// Tells whether its messages have a key of the manifest's own.
    pub(in crate::deliver) fn names_message_key(&self) -> bool {
        matches!(self.kind, Compiled::Message { key: Some(_), .. })
    }

    /// What messages with the same key must not be reordered against, of whatever table they are. Where no binding of the sink names a key, it is
    /// the row's, which stands for itself.
    pub(super) fn message_key(&self, key: &str) -> Option<String> {
        self.shares_message_keys.then(|| format!("message\u{1f}{key}"))
    }

    /// (Without the name of the table, which may change while something waits: a binding has one table.)
    pub(in crate::deliver) fn row_keys(&self, change: &Change, one: &OneKey) -> Vec<String> {
        let all = self.every_row();
        let key = |key: &str| format!("{all}{key}");
        let mut keys: Vec<String> = match self.names.key.is_empty() {
            // Without a primary key a row is what is in it: what comes next of it begins with what this one leaves.
            true => {
                let rows = [&change.old, &change.new].into_iter().flatten();
                rows.map(|row| key(&digest(&row.content()))).collect()
            }
            false => self.keys_of(change).iter().map(|text| key(&one.of(text))).collect(),
        };
        keys.dedup();
        keys
    }

    /// The key by which a change is known that no change of the binding may overtake: it cannot be said of which row it is.
    pub(in crate::deliver) fn every_row(&self) -> String {
        format!("{ROW}{}\u{1f}", self.name)
    }

    /// The key of a row as changes have it today; `None`: it cannot be said, the row is from a time when it had not all columns of the key.
    pub(in crate::deliver) fn key_today(&self, row: &Row) -> Option<String> {
        let is_said = !row.is_unreadable() && self.names.key.iter().all(|column| row.column(column).is_some());
        is_said.then(|| self.key_of(row))
    }

    /// The key of a change and, when it was changed, the one before: what was done to that came before.
    pub(in crate::deliver) fn keys_of(&self, change: &Change) -> Vec<String> {
        let mut keys = vec![change.key.to_string()];
        if let (Some(old), Some(_), false) = (&change.old, &change.new, self.names.key.is_empty()) {
            let key = self.key_of(old);
            if key != *change.key {
                keys.push(key);
            }
        }
        keys
    }
}

/// What the keys of rows begin with.
const ROW: &str = "row\u{1f}";

/// Returns the key that stands for every row of the binding, of a key of one of them; `None`: it is the key of something else.
pub(in crate::deliver) fn every_row_of(key: &str) -> Option<&str> {
    let binding = key.strip_prefix(ROW)?.find('\u{1f}')?;
    Some(&key[..ROW.len() + binding + 1])
}

/// Writes the numbers of a key in one way: `1.0` and `1.00` are one key to a table, and what is done to the one waits for the other.
pub(super) fn in_one_way(key: &str) -> Cow<'_, str> {
    if !key.contains('.') {
        return Cow::Borrowed(key);
    }
    let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(key) else {
        return Cow::Borrowed(key);
    };
    let values: Vec<&str> = values
        .iter()
        .map(|value| match value.get() {
            number if number.contains('.') && number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-')) => {
                number.trim_end_matches('0').trim_end_matches('.')
            }
            other => other,
        })
        .collect();
    Cow::Owned(format!("[{}]", values.join(", ")))
}

pub(super) fn key_text(row: &Row, key: &[String]) -> String {
    let values: Vec<&str> = key.iter().map(|column| row.column(column).unwrap_or("null")).collect();
    format!("[{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_row_says_that_of_all_rows() {
        assert_eq!(every_row_of("row\u{1f}b\u{1f}[\"x\u{1f}\"]"), Some("row\u{1f}b\u{1f}"));
        assert_eq!(every_row_of("row\u{1f}b\u{1f}"), Some("row\u{1f}b\u{1f}"));
        assert_eq!(every_row_of("message\u{1f}b\u{1f}"), None);
    }

    #[test]
    fn one_key_is_written_in_one_way() {
        for (key, expected) in [
            ("[1]", "[1]"),
            ("[1.00]", "[1]"),
            ("[100.0, -0.50]", "[100, -0.5]"),
            (r#"["1.00", 1.10, null, 1.5e+300]"#, r#"["1.00", 1.1, null, 1.5e+300]"#),
            ("[0.0]", "[0]"),
            ("no key.", "no key."),
        ] {
            assert_eq!(in_one_way(key), expected);
        }
    }
}
