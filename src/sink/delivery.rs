//! What a sink is asked to do: rendered already, free of templates and of the log's ways.

use std::sync::Arc;

use crate::manifest::{Event, Mode, Scope};
use crate::names::QualifiedName;

/// A place in the stream of one sink. Offsets are ordered as their texts are, and the order is that of delivery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(pub String);

impl Offset {
    /// Tells whether `other` was delivered when everything up to and including this place was. Of what one transaction did at one place in the WAL that is
    /// only sure where both were written in one way: a log that has another form by now sorts its rows otherwise.
    pub(crate) fn covers(&self, other: &Offset) -> bool {
        let is_sure = || {
            let (ours, theirs) = (self.head_and_form(), other.head_and_form());
            ours.0 != theirs.0 || ours.1 == theirs.1
        };
        other <= self && is_sure()
    }

    /// Returns what all changes of one transaction at one place in the WAL have in common, and the form of the rest: that of the log, and whether keys
    /// are written in hex.
    fn head_and_form(&self) -> (&str, &str) {
        let Some((end, _)) = self.0.match_indices('/').nth(3) else {
            return (&self.0, "");
        };
        let (head, part) = (&self.0[..end], &self.0[end + 1..]);
        let part = part.split('/').next().unwrap_or_default();
        let Some((form, rest)) = part.split_once('-') else {
            return (head, "");
        };
        match rest.starts_with('[') {
            true => (head, &part[..form.len() + 2]),
            false => (head, form),
        }
    }

    /// Returns what all changes of one transaction have in common and no others; `None`: it is no place in the log.
    pub(super) fn transaction(&self) -> Option<&str> {
        let mut parts = self.0.split('/').skip(3);
        let transaction = parts.next()?;
        // Rows that were there before have fewer parts.
        parts.nth(2).map(|_| transaction)
    }
}

/// One thing to be done at a sink.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The same whenever this is delivered again, and never that of another delivery.
    pub id: String,
    pub binding: Arc<str>,
    pub offset: Offset,
    /// When the row was changed, RFC 3339 with microseconds, UTC.
    pub time: String,
    /// The number under which it is delivered again on request (`emaj replay`); `None`: it comes for the first time, or once more after a crash.
    pub replay: Option<i64>,
    /// It failed before, and is tried again: it stands behind what arrived meanwhile, and says nothing about how far a place has come.
    pub retried: bool,
    /// What happened to the row as the binding sees it; `None`: the row was there before (`emaj init`).
    pub event: Option<Event>,
    pub action: Action,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Action {
    Entry(EntryChange),
    Value(ValueChange),
    /// The values of an attribute, from a query: of one entry, or of two when the row belongs to another one now.
    Attributes(Vec<(EntryTarget, Attribute)>),
    Message(Message),
    Row(RowChange),
}

impl Action {
    /// Returns how many bytes its values have, without names.
    pub(super) fn size(&self) -> usize {
        let entry = |entry: &Entry| {
            let values = entry.attributes.iter().flat_map(|attribute| &attribute.values);
            entry.dn.len() + values.map(String::len).sum::<usize>()
        };
        match self {
            Action::Entry(change) => change.new.iter().chain(&change.heir).map(entry).sum(),
            Action::Value(change) => change
                .add
                .iter()
                .chain(&change.remove)
                .chain(&change.renamed)
                .map(|(_, value)| value.len())
                .sum(),
            Action::Attributes(all) => {
                let values = all.iter().flat_map(|(_, attribute)| &attribute.values);
                values.map(String::len).sum()
            }
            Action::Message(message) => message.body.len(),
            Action::Row(change) => change
                .upsert
                .iter()
                .chain(&change.heir)
                .chain(&change.delete)
                .map(|row| row.len())
                .sum(),
        }
    }

    /// Returns the name of what is to be changed, for people.
    pub(super) fn place(&self) -> String {
        let target = |target: &EntryTarget| match target {
            EntryTarget::Dn(dn) => dn.clone(),
            EntryTarget::Search { base, .. } => format!("an entry below `{base}`"),
            EntryTarget::OfRow { dn, .. } => dn.clone().unwrap_or_default(),
        };
        let first = match self {
            Action::Entry(change) => change
                .new
                .iter()
                .chain(&change.old)
                .next()
                .map(|entry| entry.dn.clone()),
            Action::Value(change) => {
                let mut ends = change.add.iter().chain(&change.remove).chain(&change.renamed);
                ends.next().map(|(entry, _)| target(entry))
            }
            Action::Attributes(all) => all.first().map(|(entry, _)| target(entry)),
            Action::Message(message) => Some(message.address.clone()),
            Action::Row(change) => Some(change.table.to_string()),
        };
        first.unwrap_or_default()
    }
}

/// An entry of a directory comes, changes, or goes.
#[derive(Debug, Clone)]
pub struct EntryChange {
    /// As it was; `None` when it was not there.
    pub old: Option<Entry>,
    /// As it is to be; `None` when it is to go.
    pub new: Option<Entry>,
    /// Where the row gives its name up: what another row makes of it, that was given this name before and has it still.
    pub heir: Option<Entry>,
    /// Values, by attribute, that the row gives no more and another binding gives: they stay.
    pub others: Vec<(String, String)>,
}

/// An entry as the binding makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// With every value escaped after RFC 4514.
    pub dn: String,
    pub object_classes: Vec<String>,
    pub attributes: Vec<Attribute>,
    /// Stands for the row, where other bindings name its entry by it.
    pub row: Option<String>,
}

/// An attribute and its values; none: it is to be absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    pub mode: Mode,
    pub values: Vec<String>,
}

/// Values of one attribute come and go; the entries they belong to may differ. What comes is written before what goes.
#[derive(Debug, Clone)]
pub struct ValueChange {
    pub attribute: String,
    pub add: Option<(EntryTarget, String)>,
    /// Nobody else gives this value to this entry any more.
    pub remove: Option<(EntryTarget, String)>,
    /// What another row gives to the entry of `remove`, spelt in another way: to a directory it may be the same value, and stays.
    pub instead: Option<String>,
    /// The name that the row's entry has now, at the entry of `remove`: a directory that keeps references itself has put it in the place of the former one.
    pub renamed: Option<(EntryTarget, String)>,
}

/// Which entry is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryTarget {
    Dn(String),
    /// The one that is found; values in the filter are escaped after RFC 4515.
    Search {
        base: String,
        filter: String,
        scope: Scope,
    },
    /// The one that a binding makes of a row.
    OfRow {
        /// Stands for the binding and the row.
        row: String,
        /// What it is called; `None`: the row is not there, or that was not looked up.
        dn: Option<String>,
    },
}

impl EntryTarget {
    /// Tells whether an entry may be there: that of a row is not where the row is not.
    pub(crate) fn may_be_there(&self) -> bool {
        !matches!(self, EntryTarget::OfRow { dn: None, .. })
    }
}

/// A message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The subject (NATS) or the topic (Kafka); empty elsewhere.
    pub address: String,
    /// Messages of one key keep their order.
    pub key: String,
    /// The CloudEvents type.
    pub event_type: String,
    /// JSON (CloudEvents, structured mode) unless the manifest has a `body`.
    pub body: String,
    /// Whether `body` is a CloudEvent made here; else it is what the manifest's `body` gave.
    pub is_cloud_event: bool,
    pub headers: Vec<(String, String)>,
}

/// A row of another table comes, changes, or goes. Values are JSON as PostgreSQL writes it (`to_json`), which loses nothing:
/// `json_populate_record` reads it back.
#[derive(Debug, Clone)]
pub struct RowChange {
    pub table: QualifiedName,
    /// The columns of the other table's key.
    pub key: Vec<String>,
    /// The row to be taken away, a JSON object with the key's columns at least: that of before, where a row got another key.
    pub delete: Option<Arc<str>>,
    /// What another row that has the key of `delete` is to be there, of this binding or of another one: what is there stays, and becomes this.
    pub heir: Option<Arc<str>>,
    /// The heir is of this binding: what is there under the key of `delete` is that one already, and does not move to the key of `upsert`.
    pub taken: bool,
    /// The row to be there: a JSON object of the columns to be written.
    pub upsert: Option<Arc<str>>,
}

/// Rows of a table as `copy … to stdout` writes them: nothing is made of them on the way.
#[derive(Debug, Clone)]
pub struct RowsAsText {
    pub table: QualifiedName,
    /// The columns of the other table's key.
    pub key: Vec<String>,
    /// The columns, in the order of the fields.
    pub columns: Vec<TextColumn>,
    /// Behind all of them.
    pub offset: Offset,
}

/// A column of [`RowsAsText`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextColumn {
    pub name: String,
    /// The type that the text is of, without its modifier; `None`: any type that is one text takes it, as it would from JSON.
    pub sql_type: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_another_way_is_not_taken_for_delivered() {
        let offset = |place: &str, part: &str| Offset(format!("01/{place}/03/04/{part}"));
        for (one, other, expected) in [
            (offset("2", "ab-[\"b\"]"), offset("2", "ab-[\"a-/\"]"), true),
            (offset("2", "ab-[\"b\"]"), offset("2", "ab-[\"b\"]"), true),
            (offset("2", "ab-[\"b\"]"), offset("2", "ab-[\"c\"]"), false),
            // Another key since, or keys in hex; as an earlier version wrote it; and a log without a key that has another form.
            (offset("2", "cd-[\"b\"]"), offset("2", "ab-[\"a\"]"), false),
            (offset("2", "ab-[\"b\"]"), offset("2", "ab-5b226122"), false),
            (offset("2", "[\"b-1\"]"), offset("2", "ab-[\"a\"]"), false),
            (offset("2", "ab-99-1"), offset("2", "ab-98-7/00000000/a-b"), true),
            (offset("2", "cd-99-1"), offset("2", "ab-98-7"), false),
            (offset("2", "17(0,1)"), offset("2", "07-98-7"), false),
            (offset("3", "ab-99-1"), offset("2", "cd-98-7"), true),
            (offset("2", "12"), offset("2", "11/00000000/a-b"), true),
            (Offset("2".into()), Offset("1".into()), true),
        ] {
            assert_eq!(one.covers(&other), expected, "{one:?} {other:?}");
        }
    }
}
