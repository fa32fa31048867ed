//! What a binding makes of a change: conditions and templates in, one [`Action`] out. Pure, but for what it has to [`Ask`].
//!
//! Rows for which `when` is false are treated as not there; so an update may be an insert or a delete to the binding. All kinds
//! that keep a state (entry, value, flag, row) speak of the state before and after; a message speaks of the event.
//!
//! `anew` finds rows whose values went with an entry that comes again, or stand at one that is another row's now, `beside` knows what other bindings make under a name that a row gives up, `compile` reads the templates, `directory` and `message` make what such places take, `form` finds rows of which a text may be made, `heir` finds who has an entry that a row gives up, `keys` says
//! what nothing may overtake, `of_row` what the entry of another binding's row is called.

mod anew;
mod beside;
mod columns;
mod compile;
mod directory;
mod form;
mod heir;
mod keys;
mod message;
mod of_row;

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::{Environment, Value, context};

pub(super) use self::anew::{Come, GivenAnew, LeftBehind};
use self::form::Form;
pub(super) use self::heir::{Awaited, Found, GivenUp, Namesakes};
pub(super) use self::keys::{OneKey, every_row_of};
use self::keys::{in_one_way, key_text};
use self::message::word_of;
pub(super) use self::of_row::{its_row_waits, know_each_other};
use super::change::Change;
use super::escape::{self, Statement};
use super::row::Row;
use crate::journal::Position;
use crate::manifest::{self, Event, Mode, Place, Scope};
use crate::names::QualifiedName;
use crate::sink::{Action, Fault, RowChange, Verdict};

/// What a binding may have to ask the database that it is bound in.
pub(super) trait Ask {
    /// Runs a query and returns the first column of each row that is not null, as text.
    fn values(&mut self, query: &Statement) -> Result<Vec<String>, Fault>;

    /// Shows rows of `table` that may have a name in which `columns` stand: in each column one of the values (JSON text each), in some spelling, or, if
    /// `exact`, in that one, until `look` has seen enough. None where the primary key `key` is among the columns and its values have one spelling each: no other row has them.
    fn namesakes(
        &mut self,
        table: usize,
        key: &[String],
        columns: &[(String, BTreeSet<&str>)],
        exact: bool,
        look: Look<'_>,
    ) -> Result<(), Fault>;

    /// The same for values that come from another table, as far as the types of the columns allow to look for them.
    fn with_one_of(
        &mut self,
        table: usize,
        columns: &[(String, BTreeSet<String>)],
        exact: bool,
        look: Look<'_>,
    ) -> Result<(), Fault>;

    /// Returns what is known of rows with names that others give up; `None`: that is to be asked when it is needed.
    fn known(&self) -> Option<&Namesakes>;

    /// Returns the first images of rows that are delivered only later: of each of these rows of `table`, behind its change.
    fn later(&mut self, table: usize, awaited: &[Awaited]) -> Result<Vec<Option<Later>>, Fault>;

    /// Returns the keys that rows of `table` have got instead of these, by their last changes before the others were made.
    fn became(&mut self, table: usize, awaited: &[Awaited]) -> Result<Vec<Option<String>>, Fault>;
}

/// An image of a row that is not delivered yet.
#[derive(Debug, Clone)]
pub(super) struct Later {
    /// The row came with it.
    pub is_new: bool,
    /// It came from another key: `row` is what it was there.
    pub is_moved: bool,
    pub row: Row,
}

impl Later {
    /// What the row is before it; `None`: it is not there.
    fn before(self) -> Option<Row> {
        (!self.is_new || self.is_moved).then_some(self.row)
    }
}

/// Looks at a row, and tells whether it has seen enough.
pub(super) type Look<'a> = &'a mut dyn FnMut(&Row) -> Result<bool, Fault>;

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
    /// What tells this declaration from another one.
    pub told: String,
    /// Changes before this position are none of its business.
    pub since: Position,
    pub table: usize,
    /// The sink keeps rows by their keys: whether another row has a key that one gives up matters there.
    pub keeps_rows: bool,
    /// A binding of the sink names a `key` of its messages: it may be one that others have by themselves.
    pub shares_message_keys: bool,
    /// Other bindings of the sink name the entries that it makes by their rows.
    is_named: bool,
    names: Table,
    templates: Environment<'static>,
    when: Option<Template>,
    kind: Compiled,
}

/// A template: its name in the engine, and where it stands in the manifest.
#[derive(Debug, Clone)]
struct Template {
    name: String,
    place: Place,
}

#[derive(Debug)]
enum Compiled {
    Entry {
        dn: Template,
        form: Form,
        /// The columns in which rows of the same name are the same, but for the spelling.
        columns: Vec<String>,
        classes: Vec<String>,
        attributes: Vec<(String, Mode, Source)>,
    },
    /// A value or a flag: one value of an attribute while a row gives it.
    Value {
        target: Target,
        attribute: String,
        value: Template,
        /// The columns in which rows that give the same value to the same entry are the same.
        columns: Vec<String>,
        /// Those of the entry's name, or of base and filter, and of the value.
        forms: Vec<Form>,
    },
    Query {
        target: Target,
        attribute: String,
        mode: Mode,
        query: Template,
        /// Those of the entry's name, or of base and filter.
        forms: Vec<Form>,
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
        /// The columns of the table that are columns of that key as they are.
        key_sources: Vec<String>,
        /// Empty: the row as it is.
        columns: Vec<(String, Given)>,
    },
}

/// What a column of another table is given.
#[derive(Debug)]
enum Given {
    /// A column of the row, as it is; the template says what is wrong when there is none.
    Column(String, Template),
    Made(Template),
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
    /// What another binding makes of the row with a key: columns of its primary key, in its order, each with the column that holds its value.
    OfRow {
        binding: String,
        key: Vec<(String, String)>,
    },
}

/// An action, and what it must not be reordered against.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub event: Option<Event>,
    pub action: Action,
    pub keys: Vec<String>,
    /// The names of the entries of a directory that it touches.
    pub entries: Vec<String>,
    /// The keys of other rows, whose entries it touches: it waits for what is set aside of them.
    pub behind: Vec<String>,
}

/// What a message says of itself.
pub(super) struct Envelope<'a> {
    pub id: &'a str,
    pub time: &'a str,
    /// The CloudEvents source.
    pub source: &'a str,
}

/// What a change is made with, beside its rows.
pub(super) struct Asking<'a> {
    pub envelope: &'a Envelope<'a>,
    pub ask: &'a mut dyn Ask,
    /// All bindings of the sink: another one may give what this one takes back.
    pub beside: &'a [Bound],
}

/// A change as it is told to a binding: a row that does not fit is not there.
struct Told<'a> {
    change: &'a Change,
    old: Option<&'a Row>,
    new: Option<&'a Row>,
    /// The row's key was changed: it is told anew even if nothing else was, since what comes later must not overtake what came before.
    is_moved: bool,
}

impl Envelope<'_> {
    /// That of no message.
    const NONE: Envelope<'static> = Envelope {
        id: "",
        time: "",
        source: "",
    };
}

impl Bound {
    /// Tells whether a change is its business: it is of its table, and not from before its install.
    pub(super) fn is_about(&self, change: &Change) -> bool {
        self.table == change.table && (change.is_init || self.since.is_before(change.txid, change.lsn))
    }

    /// Tells whether what waits of one key may be made one: the state after all of it is all that counts.
    pub(super) fn keeps_state(&self) -> bool {
        !matches!(self.kind, Compiled::Message { .. })
    }

    /// Returns the table that rows go to as they are, and its key; `None`: something is made of them, or some are left out.
    pub(super) fn as_it_is(&self) -> Option<(&QualifiedName, &[String])> {
        match &self.kind {
            Compiled::Row {
                table, key, columns, ..
            } if columns.is_empty() && self.when.is_none() => Some((table, key)),
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

    /// Makes what the sink is to do about a change; `None`: nothing. `one` is known of keys that are written in two ways.
    ///
    /// # Errors
    /// [`crate::sink::Verdict::Never`] for a template that fails on this row, whatever a query fails with.
    pub(super) fn make(&self, change: &Change, asking: &mut Asking<'_>, one: &OneKey) -> Result<Option<Made>, Fault> {
        let mut rows = [&change.new, &change.old].into_iter().flatten();
        if let Some(row) = rows.find(|row| row.is_unreadable()) {
            return Err(self.unreadable(row));
        }
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
        let (mut keys, mut entries) = (self.row_keys(change, one), Vec::new());
        let is_moved = keys.len() > 1;
        let told = Told {
            change,
            old,
            new,
            is_moved,
        };
        let action = match &self.kind {
            Compiled::Entry { .. } => self.make_entry(&told, asking, &mut entries)?.map(Action::Entry),
            Compiled::Value { .. } => self.make_value(&told, asking, &mut entries)?.map(Action::Value),
            Compiled::Query { .. } => self
                .make_attributes(&told, asking, &mut entries)?
                .map(Action::Attributes),
            Compiled::Message { .. } => {
                let message = self.message(change, old, new, word_of(change, event), asking.envelope)?;
                keys.extend(self.message_key(&message.key));
                Some(Action::Message(message))
            }
            Compiled::Row { .. } => self.make_row(&told, asking, &mut keys)?.map(Action::Row),
        };
        Ok(action.map(|action| Made {
            event: (!change.is_init).then_some(event),
            action,
            keys,
            entries,
            behind: self.waits_for(change, asking.beside),
        }))
    }

    /// Makes what becomes of a row in another table; `keys`: also of those there.
    fn make_row(
        &self,
        told: &Told<'_>,
        asking: &mut Asking<'_>,
        keys: &mut Vec<String>,
    ) -> Result<Option<RowChange>, Fault> {
        let Compiled::Row {
            table, key, columns, ..
        } = &self.kind
        else {
            return Ok(None);
        };
        let envelope = asking.envelope;
        let old = match told.old {
            Some(row) => self.former_row(row, key, columns, envelope)?,
            None => None,
        };
        let new = told.new.map(|row| self.row(row, key, columns, envelope)).transpose()?;
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
        let given_up = told.old.filter(|_| old_key != new_key);
        let own_heir = match given_up.filter(|_| self.names_change_hands()) {
            Some(row) => self.row_instead(told.change, row, envelope, asking.ask)?,
            None => None,
        };
        let taken = own_heir.is_some();
        let heir = match given_up.filter(|_| !taken) {
            Some(row) => self.row_beside(row, asking)?,
            None => own_heir,
        };
        Ok(Some(RowChange {
            table: table.clone(),
            key: key.clone(),
            delete: old.filter(|_| old_key != new_key).map(|row| row.json),
            taken,
            heir: heir.map(|row| row.json),
            upsert: new.map(|row| row.json),
        }))
    }

    fn unreadable(&self, row: &Row) -> Fault {
        let columns: Vec<String> = row
            .unreadable_columns()
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        Fault::never(format!(
            "bytes of table {} cannot be said in UTF-8, or nobody knows what they are (in the encoding of the database): column {}",
            self.names.name,
            columns.join(", ")
        ))
    }

    /// The row, if the binding's condition holds for it.
    fn fits<'r>(&self, row: Option<&'r Row>) -> Result<Option<&'r Row>, Fault> {
        let (Some(row), Some(when)) = (row, &self.when) else {
            return Ok(row);
        };
        let value = self.context_of(row.compared(), &Envelope::NONE);
        Ok((!self.render(when, &value)?.is_empty()).then_some(row))
    }

    /// Tells whether anything is made of a row: it can be read, and the binding's condition holds for it.
    pub(super) fn makes_something(&self, row: &Row) -> bool {
        !row.is_unreadable() && self.fits(Some(row)).is_ok_and(|row| row.is_some())
    }

    /// Tells whether an update counts: of a column that the manifest names in `columns`, or of what the row, or what is made of it, is known by, because
    /// what was made before would stay. All do when the manifest names none.
    fn concerns(&self, old: &Row, new: &Row) -> bool {
        let columns = &self.manifest.columns;
        let has_changed = |column: &manifest::Located<String>| old.column(&column.value) != new.column(&column.value);
        columns.is_empty()
            || columns.iter().any(has_changed)
            || self.key_of(old) != self.key_of(new)
            || self.is_another(old, new)
    }

    /// Tells whether a row makes another thing than it did: an entry of another name, another value or a value elsewhere, a row with another key.
    pub(super) fn is_another(&self, old: &Row, new: &Row) -> bool {
        match &self.kind {
            Compiled::Entry { .. } | Compiled::Row { .. } => self.name_of(old) != self.name_of(new),
            Compiled::Value { .. } => self.given_by(old) != self.given_by(new),
            Compiled::Query { .. } => self.meant_by(old) != self.meant_by(new),
            Compiled::Message { .. } => false,
        }
    }

    fn context(&self, row: &Row, envelope: &Envelope<'_>) -> Value {
        self.context_of(row.value(), envelope)
    }

    fn context_of(&self, row: Value, envelope: &Envelope<'_>) -> Value {
        context! {
            row => row,
            table => &self.names.name.name,
            schema => &self.names.name.schema,
            binding => &*self.name,
            id => envelope.id,
            time => envelope.time,
        }
    }

    fn render(&self, template: &Template, value: &Value) -> Result<String, Fault> {
        self.templates
            .get_template(&template.name)
            .and_then(|template| template.render(value))
            .map_err(|error| self.failed(&error, template))
    }

    /// Renders a template that has no meaning with a null in it; `None`: there is one.
    fn render_whole(&self, template: &Template, value: &Value) -> Result<Option<String>, Fault> {
        let engine = self.templates.get_template(&template.name);
        match engine.and_then(|template| template.render(value)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if escape::is_null(&error) => Ok(None),
            Err(error) => Err(self.failed(&error, template)),
        }
    }

    fn failed(&self, error: &minijinja::Error, template: &Template) -> Fault {
        Fault::never(self.placed(&describe(error), error.line(), template))
    }

    /// What a query of the manifest gives; blanks are no value.
    fn ask(&self, query: &Template, value: &Value, ask: &mut dyn Ask) -> Result<Vec<String>, Fault> {
        let template = self.templates.get_template(&query.name);
        let template = template.map_err(|error| self.failed(&error, query))?;
        let statement = escape::statement(&template, value).map_err(|error| self.failed(&error, query))?;
        let mut values = ask.values(&statement).map_err(|fault| {
            let reason = self.placed(&fault.reason, None, query);
            // (The text of one with statements in it may be another one for each row.)
            let may_differ = template.source().contains("{%");
            match fault.of_source.is_some() && may_differ {
                true => Fault::never(reason),
                false => Fault { reason, ..fault },
            }
        })?;
        values.retain(|text| !text.trim().is_empty());
        Ok(values)
    }

    /// Says of which binding and template something is, and where that stands.
    fn placed(&self, what: &str, line: Option<usize>, template: &Template) -> String {
        let place = &template.place;
        match line.filter(|line| *line > 1) {
            Some(line) => format!(
                "binding `{}`: {what} (line {line} of the template at {place})",
                self.name
            ),
            None => format!("binding `{}`: {what} ({place})", self.name),
        }
    }

    /// The key of the row of the other table; `None`: it makes none, a part of the key is null.
    fn key_there(&self, row: &Row) -> Result<Option<String>, Fault> {
        let Compiled::Row { key, .. } = &self.kind else {
            return Ok(None);
        };
        let made = self.with_key_only(row)?;
        Ok(made.map(|made| in_one_way(&key_text(&made, key)).into_owned()))
    }

    /// The row of the other table, with what its key needs at least; `None`: a part of the key is null.
    fn with_key_only(&self, row: &Row) -> Result<Option<Row>, Fault> {
        let Compiled::Row { key, columns, .. } = &self.kind else {
            return Ok(None);
        };
        let of_key = columns.iter().filter(|(name, _)| key.contains(name));
        let made = match columns.is_empty() {
            true => row.clone(),
            false => self.made_of(row, of_key, &Envelope::NONE)?,
        };
        Ok(null_in(&made, key).is_none().then_some(made))
    }

    /// Tells whether nothing is ever made of a row: in the name of its entry is a null, or in its key where rows are kept by their keys.
    pub(super) fn is_without_name(&self, row: &Row) -> bool {
        if row.is_unreadable() {
            return false;
        }
        match &self.kind {
            Compiled::Entry { dn, .. } => {
                matches!(self.render_whole(dn, &self.context(row, &Envelope::NONE)), Ok(None))
            }
            Compiled::Row { .. } => self.keeps_rows && matches!(self.with_key_only(row), Ok(None)),
            _ => false,
        }
    }

    /// The row of the other table as it is to be. Where rows are kept by their keys it needs one.
    fn row(
        &self,
        row: &Row,
        key: &[String],
        columns: &[(String, Given)],
        envelope: &Envelope<'_>,
    ) -> Result<Row, Fault> {
        let made = self.columns(row, columns, envelope)?;
        match null_in(&made, key).filter(|_| self.keeps_rows) {
            Some(column) => Err(Fault::never(format!(
                "binding `{}`: `{column}` is null, and rows are known by it there: leave rows without it out with `when`, or name another `row.key`",
                self.name
            ))),
            None => Ok(made),
        }
    }

    /// The row of the other table as it was. Where rows are kept by their keys none was ever made of one without a key; and where only another column cannot
    /// be made, the key is enough to find it.
    fn former_row(
        &self,
        row: &Row,
        key: &[String],
        columns: &[(String, Given)],
        envelope: &Envelope<'_>,
    ) -> Result<Option<Row>, Fault> {
        match self.row(row, key, columns, envelope) {
            Err(fault) if self.keeps_rows && fault.verdict == Verdict::Never => {
                Ok(self.with_key_only(row).ok().flatten())
            }
            made => made.map(Some),
        }
    }

    /// The row of the other table.
    fn columns(&self, row: &Row, columns: &[(String, Given)], envelope: &Envelope<'_>) -> Result<Row, Fault> {
        match columns.is_empty() {
            true => Ok(row.clone()),
            false => self.made_of(row, columns, envelope),
        }
    }

    fn made_of<'c>(
        &self,
        row: &Row,
        columns: impl IntoIterator<Item = &'c (String, Given)>,
        envelope: &Envelope<'_>,
    ) -> Result<Row, Fault> {
        let value = self.context(row, envelope);
        let mut json = String::from("{");
        for (at, (name, given)) in columns.into_iter().enumerate() {
            if at > 0 {
                json.push(',');
            }
            json.push_str(&serde_json::Value::from(name.as_str()).to_string());
            json.push(':');
            let (column, template) = match given {
                Given::Column(column, template) => (row.column(column), template),
                Given::Made(template) => (None, template),
            };
            match column {
                Some(text) => json.push_str(text),
                None => json.push_str(&self.render(template, &value)?),
            }
        }
        json.push('}');
        Ok(Row::new(json))
    }
}

/// The first column of a key that is null in a row.
fn null_in<'k>(row: &Row, key: &'k [String]) -> Option<&'k String> {
    key.iter()
        .find(|column| row.column(column).is_none_or(|value| value == "null"))
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

/// A failure without the values of the row: the engine's own text shows none, and its details only where it says what it could not calculate.
fn describe(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) if detail.starts_with("unable to calculate ") => {
            format!("{}: this cannot be calculated with the values of the row", error.kind())
        }
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
