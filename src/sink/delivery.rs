//! What a sink is asked to do: rendered already, free of templates and of the log's ways.

use std::sync::Arc;

use crate::manifest::{Event, Mode, Scope};
use crate::names::QualifiedName;

/// A place in the stream of one sink. Offsets are ordered as their texts are, and the order is that of delivery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(pub String);

impl Offset {
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

/// An entry of a directory comes, changes, or goes.
#[derive(Debug, Clone)]
pub struct EntryChange {
    /// As it was; `None` when it was not there.
    pub old: Option<Entry>,
    /// As it is to be; `None` when it is to go.
    pub new: Option<Entry>,
}

/// An entry as the binding makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// With every value escaped after RFC 4514.
    pub dn: String,
    pub object_classes: Vec<String>,
    pub attributes: Vec<Attribute>,
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
