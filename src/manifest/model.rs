//! The manifest as the rest of the program knows it: checked, merged from all its files, with defaults filled in.
//!
//! A [`Manifest`] comes out of [`super::load`] only. What could still turn out wrong against the database keeps its
//! place in the file ([`Located`]), so that the planner can point at it.

use super::delivery::{Binding, BindingKind, Sink};
use super::shape::Wrong;
use super::source::{Located, Place};
use super::text::{Env, SecretText, Text};
use super::{Diagnostic, Diagnostics, query_text};
use crate::names::{Pattern, QualifiedName, Selection, select};

/// Everything that one owner declares for one database.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Who owns the groups in the database.
    pub name: String,
    pub database: Database,
    /// Where emaj keeps its own objects.
    pub schema: String,
    pub roles: Roles,
    pub history: History,
    /// In the order of the files.
    pub groups: Vec<Group>,
    pub sinks: Vec<Sink>,
    pub bindings: Vec<Binding>,
}

impl Manifest {
    /// Returns one that declares nothing, for what concerns a whole installation.
    pub fn of_schema(schema: &str) -> Self {
        Manifest {
            name: String::new(),
            database: Database::default(),
            schema: schema.to_owned(),
            roles: Roles {
                admin: None,
                viewer: None,
            },
            history: History::default(),
            groups: Vec::new(),
            sinks: Vec::new(),
            bindings: Vec::new(),
        }
    }

    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| *group.name == name)
    }

    pub fn sink(&self, name: &str) -> Option<&Sink> {
        self.sinks.iter().find(|sink| *sink.name == name)
    }

    pub fn binding(&self, name: &str) -> Option<&Binding> {
        self.bindings.iter().find(|binding| *binding.name == name)
    }

    /// Returns the bindings that go to a sink, in the order of the files.
    pub fn bindings_to<'a>(&'a self, sink: &'a str) -> impl Iterator<Item = &'a Binding> {
        let goes_there = move |binding: &&Binding| binding.to.as_ref().is_some_and(|to| to.value == sink);
        self.bindings.iter().filter(goes_there)
    }

    /// Returns the functions that bindings call inside the transaction.
    pub fn called(&self) -> Vec<&QualifiedName> {
        let functions = self.bindings.iter().map(|binding| match &binding.kind {
            BindingKind::Sql { function, .. } => Some(&function.value),
            _ => None,
        });
        functions.flatten().collect()
    }

    /// Returns what bindings to sinks ask the database.
    pub fn queries(&self) -> impl Iterator<Item = &Located<Template>> {
        self.bindings.iter().flat_map(|binding| binding.kind.queries())
    }

    /// Returns the settings that groups keep as context.
    pub fn settings(&self) -> Vec<&str> {
        let columns = self.groups.iter().flat_map(|group| &group.context);
        let settings = columns.filter_map(|column| match &column.value {
            ContextColumn::Setting(name) => Some(name.as_str()),
            _ => None,
        });
        settings.collect()
    }
}

/// How to reach a database; what is missing comes from libpq's environment.
#[derive(Debug, Clone, Default)]
pub struct Database {
    /// A whole `postgresql://` URI.
    pub uri: Option<SecretText>,
    pub password: Option<SecretText>,
    /// The other settings by their libpq keyword, as written.
    pub settings: Vec<(&'static str, Text)>,
}

impl Database {
    /// Returns the setting of a libpq keyword other than `password`.
    pub fn setting(&self, keyword: &str) -> Option<&Text> {
        self.settings
            .iter()
            .find(|(name, _)| *name == keyword)
            .map(|(_, text)| text)
    }

    /// Returns all plain settings with their references looked up; `uri` and `password` have their own `resolve`.
    ///
    /// Errors with every reference that leads nowhere.
    pub fn resolve_settings(&self, env: Env<'_>) -> Result<Vec<(&'static str, String)>, Diagnostics> {
        let (mut settings, mut problems) = (Vec::new(), Vec::new());
        for (keyword, text) in &self.settings {
            match text.resolve(env) {
                Ok(value) => settings.push((*keyword, value)),
                Err(problem) => problems.extend(problem.0),
            }
        }
        if problems.is_empty() {
            Ok(settings)
        } else {
            Err(Diagnostics(problems))
        }
    }
}

/// The roles that may use emaj in the database; `None`: no such role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    pub admin: Option<String>,
    pub viewer: Option<String>,
}

impl Roles {
    /// Returns the roles that there are to be.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.admin, &self.viewer].into_iter().flatten().map(String::as_str)
    }
}

/// What becomes of `emaj_hist`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// An interval that PostgreSQL reads; `None`: kept for ever.
    pub retention: Option<Located<String>>,
}

/// Which marks a purge leaves; protected ones and the last one stay all the same.
#[derive(Debug, Clone, PartialEq)]
pub enum KeepMarks {
    /// So many of the newest.
    Number(i32),
    /// Those that are no older; an interval that PostgreSQL reads.
    Time(Located<String>),
}

/// Tables and sequences that are marked and rolled back together.
#[derive(Debug, Clone)]
pub struct Group {
    pub name: Located<String>,
    pub tables: Vec<Located<Pattern>>,
    pub sequences: Sequences,
    pub state: State,
    /// `false`: audit only.
    pub rollback: bool,
    pub comment: Option<String>,
    pub context: Vec<Located<ContextColumn>>,
    /// An interval that PostgreSQL reads: how long log rows stay when no mark needs them.
    pub retention: Option<Located<String>>,
    pub keep_marks: Option<KeepMarks>,
    /// In bytes.
    pub max_size: Option<u64>,
    pub table_options: Vec<TableOptions>,
    /// Made by the program for bound tables that no group selects; no file says so.
    pub implicit: bool,
}

impl Group {
    /// Chooses the group's tables among those of the catalogue.
    pub fn select<'a>(&self, candidates: impl IntoIterator<Item = &'a QualifiedName>) -> Selection<'a> {
        select(self.tables.iter().map(|pattern| &pattern.value), candidates)
    }

    pub fn options(&self, table: &QualifiedName) -> Option<&TableOptions> {
        self.table_options.iter().find(|options| options.table.value == *table)
    }

    /// Returns where the group is declared.
    pub fn place(&self) -> &Place {
        &self.name.place
    }
}

/// Which sequences go with the tables of a group.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Sequences {
    /// Those that a column of a table of the group owns.
    #[default]
    Owned,
    /// Those owned, and all in the schemas of the group's tables.
    All,
    None,
    Listed(Vec<Located<Pattern>>),
}

/// Whether a group writes its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Logging,
    Idle,
}

/// An extra column of the log tables that tells where a change came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContextColumn {
    ApplicationName,
    ClientAddr,
    /// The setting of this name (`app.user_id`), as `current_setting` finds it.
    Setting(String),
}

impl ContextColumn {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let plain = |part: &str| {
            let mut bytes = part.bytes();
            bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
        };
        match text {
            "application_name" => Ok(ContextColumn::ApplicationName),
            "client_addr" => Ok(ContextColumn::ClientAddr),
            _ => match text.strip_prefix("setting:") {
                Some(name) if name.split('.').all(plain) => Ok(ContextColumn::Setting(name.to_owned())),
                Some(_) => Err(Wrong::new("this is no setting's name")
                    .at(8, text.len())
                    .next("write `setting:app.user_id`")),
                None => Err(Wrong {
                    nearest: crate::names::nearest(text, ["application_name", "client_addr"]).map(str::to_owned),
                    ..Wrong::new(format!("`{text}` is no context")).next("a setting is written `setting:app.user_id`")
                }),
            },
        }
    }
}

/// What is different for one table of a group.
#[derive(Debug, Clone)]
pub struct TableOptions {
    pub table: Located<QualifiedName>,
    pub capture: Capture,
    /// Smaller goes first in a rollback; `None` after all others.
    pub priority: Option<i32>,
    /// Triggers of the application that fire during a rollback too.
    pub keep_triggers: Vec<Located<String>>,
    /// Whether PostgreSQL refuses to drop captured columns.
    pub guard: bool,
}

/// How changes of a table are caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Capture {
    /// The planner chooses and says why.
    #[default]
    Auto,
    Statement,
    Row,
}

/// A number of deletions that is too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Rows(u64),
    /// Of all that are there.
    Percent(u8),
}

impl Limit {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let parsed = match text.strip_suffix('%') {
            Some(share) => digits(share)
                .filter(|share| *share <= 100)
                .map(|share| Limit::Percent(share as u8)),
            None => digits(text).map(Limit::Rows),
        };
        parsed.ok_or_else(|| Wrong::new("this is neither a number of rows nor a share"))
    }

    /// Returns how many it allows of so many `rows`.
    pub fn of(self, rows: u64) -> u64 {
        match self {
            Limit::Rows(most) => most,
            Limit::Percent(share) => (u128::from(rows) * u128::from(share) / 100) as u64,
        }
    }

    /// Returns how many rows there have to be so that it allows `wanted` of them; 0 when it does not depend on that.
    pub fn rows_for(self, wanted: u64) -> u64 {
        match self {
            Limit::Rows(_) | Limit::Percent(0) => 0,
            Limit::Percent(share) => wanted.saturating_mul(100).div_ceil(u64::from(share)),
        }
    }
}

/// Reads digits alone; `parse` would take a sign too.
pub(super) fn digits(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// A text for the template engine, which has read it once without complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub String);

impl Template {
    /// Returns the statement that a query is, with a parameter `$1` … for each `{{ … }}`; nothing of one that may be another statement for each row.
    pub fn statement(&self) -> Option<String> {
        query_text::statement(&self.0)
    }
}

/// An expression for the template engine, which has read it once without complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression(pub String);

/// A manifest that may be worked with, and what should be said about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub manifest: Manifest,
    pub warnings: Vec<Diagnostic>,
}
