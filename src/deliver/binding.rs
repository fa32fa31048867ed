//! What a binding makes of a change: conditions and templates in, one [`Action`] out. Pure, but for what it has to [`Ask`].
//!
//! Rows for which `when` is false are treated as not there; so an update may be an insert or a delete to the binding. All kinds
//! that keep a state (entry, value, flag, row) speak of the state before and after; a message speaks of the event.

use std::sync::Arc;

use minijinja::{Environment, Value, context};

use super::change::Change;
use super::escape::{Place, environment};
use super::row::Row;
use crate::errors::{Error, Kind, Result};
use crate::journal::Position;
use crate::manifest::{self, AttributeSource, BindingKind, EntryRef, Event, Located, Mode, Scope};
use crate::names::QualifiedName;
use crate::sink::{
    Action, Attribute, Entry, EntryChange, EntryTarget, Fault, Message, RowChange, ValueChange, Verdict,
};

/// How many rows that are alike are looked at at once.
pub(super) const ALIKE: usize = 1_000;

/// What a binding may have to ask the database that it is bound in.
pub(super) trait Ask {
    /// Runs a query and returns the first column of each row that is not null, as text.
    fn values(&mut self, query: &str) -> Result<Vec<String>, Fault>;

    /// Returns rows of the table `table` that have the same values in `columns` as given (JSON text each): behind the first `skip`, and [`ALIKE`]
    /// at most.
    fn alike(&mut self, table: usize, columns: &[(String, String)], skip: usize) -> Result<Vec<Row>, Fault>;
}

/// The table of a binding, as far as templates and keys speak of it.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub name: QualifiedName,
    /// The columns of the primary key.
    pub key: Vec<String>,
}

/// A binding, compiled.
#[derive(Debug)]
pub(super) struct Bound {
    pub name: Arc<str>,
    pub manifest: manifest::Binding,
    /// Changes before this position are none of its business.
    pub since: Position,
    pub table: usize,
    names: Table,
    templates: Environment<'static>,
    when: Option<Template>,
    kind: Compiled,
}

/// The name of a template in the engine.
#[derive(Debug, Clone)]
struct Template(String);

#[derive(Debug)]
enum Compiled {
    Entry {
        dn: Template,
        classes: Vec<String>,
        attributes: Vec<(String, Mode, Source)>,
    },
    /// A value or a flag: one value of an attribute while a row gives it.
    Value {
        target: Target,
        attribute: String,
        value: Template,
        /// The columns that the value and its entry depend on.
        columns: Vec<String>,
    },
    Query {
        target: Target,
        /// The columns that name the entry.
        columns: Vec<String>,
        attribute: String,
        mode: Mode,
        query: Template,
    },
    Message {
        address: Option<Template>,
        key: Option<Template>,
        event_type: Option<Template>,
        body: Option<Template>,
        headers: Vec<(String, Template)>,
    },
    Row {
        table: QualifiedName,
        key: Vec<String>,
        /// Empty: the row as it is.
        columns: Vec<(String, Template)>,
    },
}

#[derive(Debug)]
enum Source {
    Templates(Vec<Template>),
    Query(Template),
}

#[derive(Debug)]
enum Target {
    Dn(Template),
    Search {
        base: Template,
        filter: Template,
        scope: Scope,
    },
}

/// An action, and what it must not be reordered against.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub event: Option<Event>,
    pub action: Action,
    pub keys: Vec<String>,
    /// The entries of a directory that it touches.
    pub entries: Vec<String>,
}

/// What a message says of itself.
pub(super) struct Envelope<'a> {
    pub id: &'a str,
    pub time: &'a str,
    /// The CloudEvents source.
    pub source: &'a str,
}

impl Bound {
    /// Compiles a binding for a sink. In-database actions are none of this module's.
    ///
    /// # Errors
    /// A template that does not compile; the manifest has checked them.
    pub(super) fn compile(binding: &manifest::Binding, table: usize, names: Table, since: Position) -> Result<Self> {
        let mut engine = Engine {
            environment: environment(),
            number: 0,
            columns: Vec::new(),
        };
        let when = binding
            .when
            .as_ref()
            .map(|when| engine.condition(&when.value.0))
            .transpose()?;
        engine.columns.clear();
        let kind = match &binding.kind {
            BindingKind::Entry {
                dn,
                object_classes,
                attributes,
            } => Compiled::Entry {
                dn: engine.add(Place::Dn, dn)?,
                classes: object_classes.iter().map(|class| class.value.clone()).collect(),
                attributes: attributes
                    .iter()
                    .map(|attribute| {
                        let source = match &attribute.source {
                            AttributeSource::Templates(templates) => Source::Templates(
                                templates
                                    .iter()
                                    .map(|template| engine.add(Place::Attribute, template))
                                    .collect::<Result<_>>()?,
                            ),
                            AttributeSource::Query(query) => Source::Query(engine.add(Place::Query, query)?),
                        };
                        Ok((attribute.name.value.clone(), attribute.mode, source))
                    })
                    .collect::<Result<_>>()?,
            },
            BindingKind::Value {
                entry,
                attribute,
                value,
            }
            | BindingKind::Flag {
                entry,
                attribute,
                value,
            } => {
                let target = engine.target(entry)?;
                let value = engine.add(Place::Attribute, value)?;
                Compiled::Value {
                    target,
                    attribute: attribute.value.clone(),
                    value,
                    columns: std::mem::take(&mut engine.columns),
                }
            }
            BindingKind::Query {
                entry,
                attribute,
                query,
                mode,
            } => Compiled::Query {
                target: engine.target(entry)?,
                columns: std::mem::take(&mut engine.columns),
                attribute: attribute.value.clone(),
                mode: *mode,
                query: engine.add(Place::Query, query)?,
            },
            BindingKind::Message(message) => {
                let mut add = |place, template: &Option<Located<manifest::Template>>| {
                    template
                        .as_ref()
                        .map(|template| engine.add(place, template))
                        .transpose()
                };
                let address = match (&message.subject, &message.topic) {
                    (Some(_), _) => add(Place::Subject, &message.subject)?,
                    (None, topic) => add(Place::Text, topic)?,
                };
                Compiled::Message {
                    address,
                    key: add(Place::Text, &message.key)?,
                    event_type: add(Place::Text, &message.event_type)?,
                    body: add(Place::Text, &message.body)?,
                    headers: message
                        .headers
                        .iter()
                        .map(|(name, template)| Ok((name.clone(), engine.add(Place::Text, template)?)))
                        .collect::<Result<_>>()?,
                }
            }
            BindingKind::Row { table, key, columns } => Compiled::Row {
                table: table
                    .as_ref()
                    .map_or_else(|| names.name.clone(), |table| table.value.clone()),
                key: match key.as_slice() {
                    [] => names.key.clone(),
                    key => key.iter().map(|column| column.value.clone()).collect(),
                },
                columns: columns
                    .iter()
                    .map(|(name, expression)| Ok((name.value.clone(), engine.json(&expression.value.0)?)))
                    .collect::<Result<_>>()?,
            },
            BindingKind::Warn { .. } | BindingKind::Notify { .. } | BindingKind::Sql { .. } => {
                return Err(Error::message(
                    Kind::Failed,
                    format!("binding `{}` is done inside the database", binding.name.value),
                ));
            }
        };
        Ok(Bound {
            name: binding.name.value.as_str().into(),
            manifest: binding.clone(),
            since,
            table,
            names,
            templates: engine.environment,
            when,
            kind,
        })
    }

    /// Tells whether what waits of one key may be made one: the state after all of it is all that counts.
    pub(super) fn keeps_state(&self) -> bool {
        !matches!(self.kind, Compiled::Message { .. })
    }

    /// Returns the table that rows go to as they are, and its key; `None`: something is made of them, or some are left out.
    pub(super) fn as_it_is(&self) -> Option<(&QualifiedName, &[String])> {
        match &self.kind {
            Compiled::Row { table, key, columns } if columns.is_empty() && self.when.is_none() => Some((table, key)),
            _ => None,
        }
    }

    /// Tells whether it asks the database for more than the row.
    pub(super) fn asks(&self) -> bool {
        match &self.kind {
            Compiled::Value { .. } | Compiled::Query { .. } => true,
            Compiled::Entry { attributes, .. } => attributes
                .iter()
                .any(|(_, _, source)| matches!(source, Source::Query(_))),
            _ => false,
        }
    }

    /// Makes what the sink is to do about a change; `None`: nothing.
    ///
    /// # Errors
    /// [`crate::sink::Verdict::Never`] for a template that fails on this row, whatever a query fails with.
    pub(super) fn make(
        &self,
        change: &Change,
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
    ) -> Result<Option<Made>, Fault> {
        let old = self.fits(change.old.as_ref())?;
        let new = self.fits(change.new.as_ref())?;
        let Some(event) = event_of(old, new) else {
            return Ok(None);
        };
        if !self.manifest.events.contains(&event) && !change.is_init {
            return Ok(None);
        }
        if let (Event::Update, Some(before), Some(after)) = (event, old, new)
            && !self.concerns(before, after)
        {
            return Ok(None);
        }
        let mut keys = self.row_keys(change);
        let mut entries = Vec::new();
        // A row whose key was changed is told anew even if nothing else was: what comes later must not overtake what came before.
        let is_moved = keys.len() > 1;
        let action = match &self.kind {
            Compiled::Entry { .. } => {
                let old = match old {
                    Some(row) => self.former_entry(row, envelope, ask)?,
                    None => None,
                };
                let new = new.map(|row| self.entry(row, envelope, ask)).transpose()?;
                // What is asked for may have changed though the row has not.
                if old == new && (new.is_none() || !self.asks() && !is_moved) {
                    return Ok(None);
                }
                entries.extend([&old, &new].into_iter().flatten().map(|entry| folded(&entry.dn)));
                Action::Entry(EntryChange { old, new })
            }
            Compiled::Value { attribute, .. } => {
                let old_value = old.map(|row| self.value(row, envelope)).transpose()?.flatten();
                let new_value = new.map(|row| self.value(row, envelope)).transpose()?.flatten();
                if old_value == new_value && !change.is_init && !(is_moved && new_value.is_some()) {
                    return Ok(None);
                }
                entries.extend(
                    [&old_value, &new_value]
                        .into_iter()
                        .flatten()
                        .map(|(target, _)| key_of_target(target)),
                );
                let remove = match (old, old_value.filter(|value| Some(value) != new_value.as_ref())) {
                    (Some(row), Some(value)) => (!self.is_given(row, &value, envelope, ask)?).then_some(value),
                    _ => None,
                };
                if new_value.is_none() && remove.is_none() {
                    return Ok(None);
                }
                Action::Value(ValueChange {
                    attribute: attribute.clone(),
                    add: new_value,
                    remove,
                })
            }
            Compiled::Query { .. } => return self.query(old, new, event, envelope, ask, keys),
            Compiled::Message { .. } => {
                let message = self.message(change, old, new, word_of(change, event), envelope)?;
                keys.extend(message_key(change, &message.key));
                Action::Message(message)
            }
            Compiled::Row { table, key, columns } => {
                let old = old.map(|row| self.columns(row, columns, envelope)).transpose()?;
                let new = new.map(|row| self.columns(row, columns, envelope)).transpose()?;
                if old == new {
                    return Ok(None);
                }
                let of = |row: &Option<Row>| row.as_ref().map(|row| key_text(row, key));
                let (old_key, new_key) = (of(&old), of(&new));
                keys.extend(
                    [&old_key, &new_key]
                        .into_iter()
                        .flatten()
                        .map(|key| format!("{table}\u{1f}{key}")),
                );
                Action::Row(RowChange {
                    table: table.clone(),
                    key: key.clone(),
                    delete: old.filter(|_| old_key != new_key).map(|row| row.json),
                    upsert: new.map(|row| row.json),
                })
            }
        };
        Ok(Some(Made {
            event: (!change.is_init).then_some(event),
            action,
            keys,
            entries,
        }))
    }

    /// An attribute from a query belongs to the entry that the row names; when the row names another one now, to both.
    fn query(
        &self,
        old: Option<&Row>,
        new: Option<&Row>,
        event: Event,
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
        keys: Vec<String>,
    ) -> Result<Option<Made>, Fault> {
        let Compiled::Query {
            target,
            columns,
            attribute,
            mode,
            query,
        } = &self.kind
        else {
            return Ok(None);
        };
        let (mut attributes, mut entries) = (Vec::new(), Vec::new());
        for row in [old, new].into_iter().flatten() {
            // A row that names no entry concerns none.
            if columns.iter().any(|column| row.column(column) == Some("null")) {
                continue;
            }
            let value = self.context(row, envelope);
            let entry = self.target(target, &value)?;
            if attributes.iter().any(|(known, _)| *known == entry) {
                continue;
            }
            let attribute = Attribute {
                name: attribute.clone(),
                mode: *mode,
                values: ask.values(&self.render(query, &value)?)?,
            };
            entries.push(key_of_target(&entry));
            attributes.push((entry, attribute));
        }
        let actions: Vec<(EntryTarget, Attribute)> = attributes;
        Ok((!actions.is_empty()).then_some(Made {
            event: Some(event),
            action: Action::Attributes(actions),
            keys,
            entries,
        }))
    }

    /// The row, if the binding's condition holds for it.
    fn fits<'r>(&self, row: Option<&'r Row>) -> Result<Option<&'r Row>, Fault> {
        let (Some(row), Some(when)) = (row, &self.when) else {
            return Ok(row);
        };
        let value = self.context(
            row,
            &Envelope {
                id: "",
                time: "",
                source: "",
            },
        );
        Ok((!self.render(when, &value)?.is_empty()).then_some(row))
    }

    /// Whether an update touches a column that the manifest names in `columns`; all do when it names none.
    fn concerns(&self, old: &Row, new: &Row) -> bool {
        let columns = &self.manifest.columns;
        if columns.is_empty() {
            return true;
        }
        let key_changed = self.key_of(old) != self.key_of(new);
        key_changed
            || columns
                .iter()
                .any(|column| old.column(&column.value) != new.column(&column.value))
    }

    /// The key of a row, as changes have it.
    pub(super) fn key_of(&self, row: &Row) -> String {
        key_text(row, &self.names.key)
    }

    /// The keys by which a change is known that must not be overtaken: those of its row, and of its message as far as that can be said.
    pub(super) fn order_keys(&self, change: &Change, envelope: &Envelope<'_>) -> Vec<String> {
        let mut keys = self.row_keys(change);
        if let Compiled::Message { key: Some(key), .. } = &self.kind {
            let fits = |row| self.fits(row).ok().flatten();
            let (old, new) = (fits(change.old.as_ref()), fits(change.new.as_ref()));
            if let Some(event) = event_of(old, new) {
                let value = self.message_context(old, new, word_of(change, event), envelope);
                let rendered = self.render(key, &value).ok();
                keys.extend(rendered.and_then(|key| message_key(change, &key)));
            }
        }
        keys
    }

    fn row_keys(&self, change: &Change) -> Vec<String> {
        self.keys_of(change)
            .iter()
            .map(|key| format!("{}\u{1f}{}\u{1f}{key}", self.name, self.names.name))
            .collect()
    }

    /// The key of a change and, when it was changed, the one before: what was done to that came before.
    fn keys_of(&self, change: &Change) -> Vec<String> {
        let mut keys = vec![change.key.to_string()];
        if let (Some(old), Some(_), false) = (&change.old, &change.new, self.names.key.is_empty()) {
            let key = self.key_of(old);
            if key != *change.key {
                keys.push(key);
            }
        }
        keys
    }

    fn context(&self, row: &Row, envelope: &Envelope<'_>) -> Value {
        context! {
            row => row.value(),
            table => &self.names.name.name,
            schema => &self.names.name.schema,
            binding => &*self.name,
            id => envelope.id,
            time => envelope.time,
        }
    }

    fn render(&self, template: &Template, value: &Value) -> Result<String, Fault> {
        self.templates
            .get_template(&template.0)
            .and_then(|template| template.render(value))
            .map_err(|error| Fault::never(format!("binding `{}`: {}", self.name, describe(&error))))
    }

    /// The entry of a row as it was. From a row that no name can be made of none was ever made; and where only an attribute of
    /// it cannot be made, the name is enough to find the entry.
    fn former_entry(&self, row: &Row, envelope: &Envelope<'_>, ask: &mut dyn Ask) -> Result<Option<Entry>, Fault> {
        match self.entry(row, envelope, ask) {
            Err(fault) if fault.verdict == Verdict::Never => {}
            other => return other.map(Some),
        }
        let Compiled::Entry { dn, classes, .. } = &self.kind else {
            return Ok(None);
        };
        Ok(self.render(dn, &self.context(row, envelope)).ok().map(|dn| Entry {
            dn,
            object_classes: classes.clone(),
            attributes: Vec::new(),
        }))
    }

    fn entry(&self, row: &Row, envelope: &Envelope<'_>, ask: &mut dyn Ask) -> Result<Entry, Fault> {
        let Compiled::Entry {
            dn,
            classes,
            attributes,
        } = &self.kind
        else {
            return Err(Fault::never("not an entry"));
        };
        let value = self.context(row, envelope);
        let mut made = Vec::with_capacity(attributes.len());
        for (name, mode, source) in attributes {
            let values = match source {
                Source::Templates(templates) => {
                    let mut values = Vec::with_capacity(templates.len());
                    for template in templates {
                        let text = self.render(template, &value)?;
                        if !text.trim().is_empty() && !values.contains(&text) {
                            values.push(text);
                        }
                    }
                    values
                }
                Source::Query(query) => ask.values(&self.render(query, &value)?)?,
            };
            made.push(Attribute {
                name: name.clone(),
                mode: *mode,
                values,
            });
        }
        Ok(Entry {
            dn: self.render(dn, &value)?,
            object_classes: classes.clone(),
            attributes: made,
        })
    }

    /// Which value the row gives to which entry; `None` when it names no entry, or gives nothing.
    fn value(&self, row: &Row, envelope: &Envelope<'_>) -> Result<Option<(EntryTarget, String)>, Fault> {
        let Compiled::Value {
            target, value, columns, ..
        } = &self.kind
        else {
            return Ok(None);
        };
        if columns.iter().any(|column| row.column(column) == Some("null")) {
            return Ok(None);
        }
        let context = self.context(row, envelope);
        let text = self.render(value, &context)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        Ok(Some((self.target(target, &context)?, text)))
    }

    /// Whether another row still gives this value to this entry. Rows are looked up as they are now: a change of theirs that is not
    /// delivered yet will be, and says it again.
    fn is_given(
        &self,
        row: &Row,
        wanted: &(EntryTarget, String),
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
    ) -> Result<bool, Fault> {
        let Compiled::Value { columns, .. } = &self.kind else {
            return Ok(false);
        };
        let alike: Vec<(String, String)> = columns
            .iter()
            .filter_map(|column| row.column(column).map(|json| (column.clone(), json.to_owned())))
            .collect();
        for skip in (0..).step_by(ALIKE) {
            let others = ask.alike(self.table, &alike, skip)?;
            for other in &others {
                if self.fits(Some(other))?.is_some() && self.value(other, envelope)?.as_ref() == Some(wanted) {
                    return Ok(true);
                }
            }
            if others.len() < ALIKE {
                break;
            }
        }
        Ok(false)
    }

    fn target(&self, target: &Target, value: &Value) -> Result<EntryTarget, Fault> {
        Ok(match target {
            Target::Dn(dn) => EntryTarget::Dn(self.render(dn, value)?),
            Target::Search { base, filter, scope } => EntryTarget::Search {
                base: self.render(base, value)?,
                filter: self.render(filter, value)?,
                scope: *scope,
            },
        })
    }

    fn message(
        &self,
        change: &Change,
        old: Option<&Row>,
        new: Option<&Row>,
        word: &str,
        envelope: &Envelope<'_>,
    ) -> Result<Message, Fault> {
        let Compiled::Message {
            address,
            key,
            event_type,
            body,
            headers,
        } = &self.kind
        else {
            return Err(Fault::never("not a message"));
        };
        let needs_values =
            address.is_some() || key.is_some() || event_type.is_some() || body.is_some() || !headers.is_empty();
        let value = if needs_values {
            self.message_context(old, new, word, envelope)
        } else {
            Value::from(())
        };
        let render = |template: &Option<Template>| {
            template
                .as_ref()
                .map(|template| self.render(template, &value))
                .transpose()
        };
        let event_type = render(event_type)?
            .unwrap_or_else(|| format!("{}.{}.{word}", self.names.name.schema, self.names.name.name));
        let key = render(key)?.unwrap_or_else(|| change.key.to_string());
        let is_cloud_event = body.is_none();
        let body = match render(body)? {
            Some(body) => body,
            None => self.cloud_event(&event_type, &key, old, new, word, envelope),
        };
        Ok(Message {
            address: render(address)?.unwrap_or_default(),
            key,
            event_type,
            body,
            is_cloud_event,
            headers: headers
                .iter()
                .map(|(name, template)| Ok((name.clone(), self.render(template, &value)?)))
                .collect::<Result<_, Fault>>()?,
        })
    }

    fn message_context(&self, old: Option<&Row>, new: Option<&Row>, word: &str, envelope: &Envelope<'_>) -> Value {
        context! {
            row => new.or(old).map(Row::value),
            old => old.map(Row::value),
            event => word,
            table => &self.names.name.name,
            schema => &self.names.name.schema,
            binding => &*self.name,
            id => envelope.id,
            time => envelope.time,
        }
    }

    /// The CloudEvent (structured mode) that stands for a change; rows as the server printed them.
    fn cloud_event(
        &self,
        event_type: &str,
        key: &str,
        old: Option<&Row>,
        new: Option<&Row>,
        word: &str,
        envelope: &Envelope<'_>,
    ) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let row = |row: Option<&Row>| row.map_or("null", |row| &*row.json).to_owned();
        format!(
            concat!(
                r#"{{"specversion":"1.0","id":{},"source":{},"type":{},"time":{},"subject":{},"#,
                r#""datacontenttype":"application/json","data":{{"binding":{},"schema":{},"table":{},"#,
                r#""event":{},"row":{},"old":{}}}}}"#
            ),
            text(envelope.id),
            text(envelope.source),
            text(event_type),
            text(envelope.time),
            text(key),
            text(&self.name),
            text(&self.names.name.schema),
            text(&self.names.name.name),
            text(word),
            row(new),
            row(old),
        )
    }

    /// The row of the other table.
    fn columns(&self, row: &Row, columns: &[(String, Template)], envelope: &Envelope<'_>) -> Result<Row, Fault> {
        if columns.is_empty() {
            return Ok(row.clone());
        }
        let value = self.context(row, envelope);
        let mut json = String::from("{");
        for (at, (name, template)) in columns.iter().enumerate() {
            if at > 0 {
                json.push(',');
            }
            json.push_str(&serde_json::Value::from(name.as_str()).to_string());
            json.push(':');
            json.push_str(&self.render(template, &value)?);
        }
        json.push('}');
        Ok(Row::new(json))
    }
}

/// What happened to a row, as far as the binding is concerned; `None`: nothing.
fn event_of(old: Option<&Row>, new: Option<&Row>) -> Option<Event> {
    match (old, new) {
        (None, None) => None,
        (None, Some(_)) => Some(Event::Insert),
        (Some(_), Some(_)) => Some(Event::Update),
        (Some(_), None) => Some(Event::Delete),
    }
}

/// The word by which messages call it.
fn word_of(change: &Change, event: Event) -> &'static str {
    match (change.is_init, event) {
        (true, _) => "init",
        (_, Event::Insert) => "insert",
        (_, Event::Update) => "update",
        (_, Event::Delete) => "delete",
    }
}

/// What messages with the same key must not be reordered against. Without a key of the manifest's own it is the row's, which
/// stands for itself.
fn message_key(change: &Change, key: &str) -> Option<String> {
    (key != &*change.key).then(|| format!("message\u{1f}{key}"))
}

/// A failure without the values of the row: the engine's own text would show none either, but its details may.
fn describe(error: &minijinja::Error) -> String {
    let line = error
        .line()
        .map_or_else(String::new, |line| format!(" (line {line} of the template)"));
    match error.detail() {
        Some(detail) => format!("{}: {detail}{line}", error.kind()),
        None => format!("{}{line}", error.kind()),
    }
}

fn key_text(row: &Row, key: &[String]) -> String {
    let values: Vec<&str> = key.iter().map(|column| row.column(column).unwrap_or("null")).collect();
    format!("[{}]", values.join(", "))
}

fn key_of_target(target: &EntryTarget) -> String {
    match target {
        EntryTarget::Dn(dn) => folded(dn),
        EntryTarget::Search { base, filter, .. } => format!("{}\u{1f}{}", folded(base), folded(filter)),
    }
}

/// Names of a directory are the same in upper and lower case.
fn folded(dn: &str) -> String {
    format!("dn\u{1f}{}", dn.to_lowercase())
}

struct Engine {
    environment: Environment<'static>,
    number: usize,
    /// The columns of `row` that the templates added so far use.
    columns: Vec<String>,
}

impl Engine {
    fn add(&mut self, place: Place, template: &Located<manifest::Template>) -> Result<Template> {
        self.add_source(place, template.value.0.clone())
    }

    /// A template that makes something of a true expression, and nothing of a false one.
    fn condition(&mut self, expression: &str) -> Result<Template> {
        self.add_source(Place::Text, format!("{{% if ({expression}) %}}t{{% endif %}}"))
    }

    /// A template that makes JSON of an expression.
    fn json(&mut self, expression: &str) -> Result<Template> {
        self.add_source(Place::Text, format!("{{{{ ({expression}) | tojson }}}}"))
    }

    fn add_source(&mut self, place: Place, source: String) -> Result<Template> {
        self.number += 1;
        let name = place.name(self.number);
        let failed = |error: minijinja::Error| Error::new(Kind::Manifest, error);
        self.environment
            .add_template_owned(name.clone(), source)
            .map_err(failed)?;
        let template = self.environment.get_template(&name).map_err(failed)?;
        for used in template.undeclared_variables(true) {
            if let Some(column) = used.strip_prefix("row.") {
                let column = column.split('.').next().unwrap_or(column).to_owned();
                if !self.columns.contains(&column) {
                    self.columns.push(column);
                }
            }
        }
        Ok(Template(name))
    }

    fn target(&mut self, entry: &EntryRef) -> Result<Target> {
        Ok(match entry {
            EntryRef::Dn(dn) => Target::Dn(self.add(Place::Dn, dn)?),
            EntryRef::Search { base, filter, scope } => Target::Search {
                base: self.add(Place::Dn, base)?,
                filter: self.add(Place::Filter, filter)?,
                scope: *scope,
            },
        })
    }
}
