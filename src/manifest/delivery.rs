//! Sinks and bindings as the manifest declares them: where changes go, and what of them.
//!
//! Data only; `deliver` and `sink` give it meaning. Templates have been compiled once, references are not looked up.

use super::in_database::InDatabaseText;
use super::model::{Database, Expression, Limit, Template};
use super::source::Located;
use super::text::{SecretText, Text};
use crate::names::QualifiedName;

/// A place outside that changes are delivered to.
#[derive(Debug, Clone)]
pub struct Sink {
    pub name: Located<String>,
    /// An interval that PostgreSQL reads: how long the log waits for a sink that does not move; `None`: for ever.
    pub max_lag: Option<Located<String>>,
    pub kind: SinkKind,
}

/// What sort of place, with its settings. (`sink_kinds` says what each can do.)
#[derive(Debug, Clone)]
pub enum SinkKind {
    Ldap(LdapSink),
    Postgres(Database),
    Webhook(WebhookSink),
    Nats(NatsSink),
    Kafka(KafkaSink),
    File(FileSink),
}

#[derive(Debug, Clone)]
pub struct LdapSink {
    pub url: Text,
    pub bind_dn: Option<Text>,
    pub password: Option<SecretText>,
    /// SASL EXTERNAL instead of a simple bind.
    pub sasl_external: bool,
    pub starttls: bool,
    pub ca_file: Option<Text>,
    pub cert_file: Option<Text>,
    pub key_file: Option<Text>,
    pub connections: u32,
    /// Seconds.
    pub timeout: u32,
    pub page_size: u32,
}

#[derive(Debug, Clone)]
pub struct WebhookSink {
    pub url: Text,
    /// Signs the body (Standard Webhooks).
    pub secret: Option<SecretText>,
    pub headers: Vec<(String, SecretText)>,
    pub ca_file: Option<Text>,
    /// Events in one request.
    pub batch: u32,
    pub connections: u32,
    /// Seconds.
    pub timeout: u32,
}

#[derive(Debug, Clone)]
pub struct NatsSink {
    pub url: Text,
    pub user: Option<Text>,
    pub password: Option<SecretText>,
    pub token: Option<SecretText>,
    pub credentials_file: Option<Text>,
    pub ca_file: Option<Text>,
    /// The JetStream stream that must hold the subjects.
    pub stream: Option<Text>,
    /// Seconds.
    pub timeout: u32,
}

#[derive(Debug, Clone)]
pub struct KafkaSink {
    pub brokers: Vec<Text>,
    pub user: Option<Text>,
    pub password: Option<SecretText>,
    pub tls: bool,
    pub ca_file: Option<Text>,
    pub client_id: Option<Text>,
    /// Seconds.
    pub timeout: u32,
}

#[derive(Debug, Clone)]
pub struct FileSink {
    /// `-` is stdout.
    pub path: Text,
    /// Begins a new file when the current one is that large, in MiB.
    pub rotate_mib: Option<u32>,
    /// How many old files stay.
    pub keep: u32,
}

/// What becomes of the changes of one table.
#[derive(Debug, Clone)]
pub struct Binding {
    pub name: Located<String>,
    pub table: Located<QualifiedName>,
    /// The name of a sink; `None` for an action inside the database.
    pub to: Option<Located<String>>,
    /// Rows for which it is false are treated as not there.
    pub when: Option<Located<Expression>>,
    pub events: Vec<Event>,
    /// Only updates of these columns count, beside those of what a row is known by; empty: all do, as far as they change what the binding makes.
    pub columns: Vec<Located<String>>,
    pub max_deletes: Option<Limit>,
    pub kind: BindingKind,
}

impl Binding {
    /// Tells whether what is made of a row goes when that does.
    pub fn takes_away(&self) -> bool {
        self.events.contains(&Event::Delete)
    }
}

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    Insert,
    Update,
    Delete,
}

impl Event {
    /// Returns the word of the manifest.
    pub fn word(self) -> &'static str {
        match self {
            Event::Insert => "insert",
            Event::Update => "update",
            Event::Delete => "delete",
        }
    }
}

/// What is made of a row.
#[derive(Debug, Clone)]
pub enum BindingKind {
    /// The row is an entry of a directory.
    Entry {
        dn: Located<Template>,
        object_classes: Vec<Located<String>>,
        attributes: Vec<Attribute>,
    },
    /// The row is one value of an attribute of an entry.
    Value {
        entry: EntryRef,
        attribute: Located<String>,
        value: Located<Template>,
    },
    /// A value that stands while at least one row refers to the entry.
    Flag {
        entry: EntryRef,
        attribute: Located<String>,
        value: Located<Template>,
    },
    /// The attribute is the result of a query.
    Query {
        entry: EntryRef,
        attribute: Located<String>,
        query: Located<Template>,
        mode: Mode,
    },
    Message(Message),
    /// A row of another table.
    Row {
        table: Option<Located<QualifiedName>>,
        key: Vec<Located<String>>,
        columns: Vec<(Located<String>, Located<Expression>)>,
    },
    /// A warning to the client and the server's log, inside the transaction.
    Warn {
        message: Located<InDatabaseText>,
    },
    /// `pg_notify`, inside the transaction.
    Notify {
        channel: Located<String>,
        payload: Option<Located<InDatabaseText>>,
    },
    /// A call of a function, inside the transaction; an error there refuses the statement.
    Sql {
        function: Located<QualifiedName>,
        arguments: Vec<Located<InDatabaseText>>,
    },
}

impl BindingKind {
    /// Returns the key of the manifest.
    pub fn word(&self) -> &'static str {
        match self {
            BindingKind::Entry { .. } => "entry",
            BindingKind::Value { .. } => "value",
            BindingKind::Flag { .. } => "flag",
            BindingKind::Query { .. } => "query",
            BindingKind::Message(_) => "message",
            BindingKind::Row { .. } => "row",
            BindingKind::Warn { .. } => "warn",
            BindingKind::Notify { .. } => "notify",
            BindingKind::Sql { .. } => "sql",
        }
    }

    /// Returns what it asks the database.
    pub fn queries(&self) -> Vec<&Located<Template>> {
        match self {
            BindingKind::Entry { attributes, .. } => attributes.iter().filter_map(Attribute::query).collect(),
            BindingKind::Query { query, .. } => vec![query],
            _ => Vec::new(),
        }
    }

    /// Tells whether it is done inside the transaction, without a sink.
    pub fn is_in_database(&self) -> bool {
        matches!(
            self,
            BindingKind::Warn { .. } | BindingKind::Notify { .. } | BindingKind::Sql { .. }
        )
    }
}

/// One attribute of an entry.
#[derive(Debug, Clone)]
pub struct Attribute {
    pub name: Located<String>,
    pub source: AttributeSource,
    pub mode: Mode,
}

impl Attribute {
    fn query(&self) -> Option<&Located<Template>> {
        match &self.source {
            AttributeSource::Query(query) => Some(query),
            AttributeSource::Templates(_) => None,
        }
    }
}

/// Where the values of an attribute come from.
#[derive(Debug, Clone)]
pub enum AttributeSource {
    /// One template a value.
    Templates(Vec<Located<Template>>),
    /// One row a value; the values of its `{{ … }}` are parameters.
    Query(Located<Template>),
}

/// What happens to values that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// They are replaced.
    #[default]
    Force,
    /// They stay; ours are written only when there is none.
    Keep,
    /// Ours are added.
    Merge,
}

impl Mode {
    /// Returns the word of the manifest.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Force => "force",
            Mode::Keep => "keep",
            Mode::Merge => "merge",
        }
    }
}

/// How to find an entry of a directory.
#[derive(Debug, Clone)]
pub enum EntryRef {
    Dn(Located<Template>),
    Search {
        base: Located<Template>,
        filter: Located<Template>,
        scope: Scope,
    },
    /// The one that another binding makes of a row.
    OfRow(EntryOf),
}

/// The entry that another binding makes of the row with a key.
#[derive(Debug, Clone)]
pub struct EntryOf {
    /// The binding that makes the entries.
    pub binding: Located<String>,
    /// The columns of its table's primary key, each with the column of this binding's table that holds its value.
    pub key: Vec<(Located<String>, Located<String>)>,
}

/// How deep a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    Base,
    One,
    #[default]
    Sub,
}

impl Scope {
    /// Returns the word of the manifest.
    pub fn word(self) -> &'static str {
        match self {
            Scope::Base => "base",
            Scope::One => "one",
            Scope::Sub => "sub",
        }
    }
}

/// A message to a broker, a web service or a file.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// NATS.
    pub subject: Option<Located<Template>>,
    /// Kafka.
    pub topic: Option<Located<Template>>,
    /// Messages of one key keep their order; `None`: the primary key.
    pub key: Option<Located<Template>>,
    /// The CloudEvents type; `None`: made of the table and the event.
    pub event_type: Option<Located<Template>>,
    /// `None`: a CloudEvents body with the row.
    pub body: Option<Located<Template>>,
    pub headers: Vec<(String, Located<Template>)>,
}
