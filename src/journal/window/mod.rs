//! What lies between two marks of a group: the two positions, the logs with their columns and keys, and what is missing in them.
//!
//! Read whole from the registry and the catalogue (`marks`, `logs`, `gaps`) in the transaction of [`begin_reading`]; the rows themselves are read by those who need them (`changes`,
//! `past`, `revert`), with the conditions of `templates/changes/window.sql.j2`.

mod gaps;
mod logs;
mod marks;
mod snapshot;

use std::fmt;

use jiff::Timestamp;
use minijinja::value::Value;
use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::Astray;
use super::position::Position;
use crate::errors::{Error, Kind, Result};
use crate::names::QualifiedName;

pub use logs::is_builtin;
pub use snapshot::begin_reading;

/// A mark and its position.
#[derive(Debug, Clone)]
pub struct MarkPosition {
    pub id: i64,
    pub name: String,
    pub active: bool,
    pub position: Position,
    pub time: Timestamp,
    /// How often its group had been started when it was set.
    pub starts: i64,
}

/// A window of a group's logs.
#[derive(Debug, Clone)]
pub struct Window {
    pub group: String,
    pub from: MarkPosition,
    /// The end; none: now.
    pub until: Option<MarkPosition>,
    /// Every table with a log that may hold changes of the window, by name; also where that log is gone.
    pub tables: Vec<LoggedTable>,
    pub sequences: Vec<LoggedSequence>,
    /// Why the logs do not tell all that happened in the window; empty when they do.
    pub gaps: Vec<Gap>,
    /// Where its tables are no longer as they were installed; empty where the window ends at a mark, which was refused then.
    pub drift: Vec<Drift>,
    /// That the logs were written elsewhere; it is among `gaps`, too.
    pub astray: Option<Astray>,
}

/// Something that the logs do not tell.
#[derive(Debug, Clone)]
pub struct Gap {
    /// The table (by its id) that it is about; none: all of them.
    pub relation: Option<i64>,
    pub what: String,
}

/// A table that is no longer as it was installed.
#[derive(Debug, Clone)]
pub struct Drift {
    pub relation: i64,
    /// With the name of the table.
    pub problem: String,
    pub repair: String,
}

/// A table of a window, as it is called now, with its log.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedTable {
    /// Its id in the registry.
    pub relation: i64,
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// `schema.name`, quoted where it must be.
    pub label: String,
    pub log: String,
    /// Whether its log is gone: nothing of it can be read, which is drift or among the gaps.
    pub gone: bool,
    pub partitioned: bool,
    pub columns: Vec<LoggedColumn>,
    /// Columns that it has now and the log has not, quoted where they must be: they came after the last install.
    pub uncaptured: Vec<String>,
    /// The columns of the primary key, in its order; empty when there is none.
    pub key: Vec<LoggedColumn>,
    /// Columns of the log that hold context.
    pub context: Vec<String>,
    /// Whether values other than the key must be unique at every moment.
    pub unique: bool,
    /// Whether two rows may have one key for a while.
    pub deferrable: bool,
    /// Whether other tables inherit from it; partitions do not count.
    pub heirs: bool,
}

/// A captured column.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedColumn {
    /// Its name in the table, quoted where it must be.
    pub name: String,
    /// Its bare name in the table.
    pub bare: String,
    /// Its name in the log.
    pub log: String,
    pub r#type: String,
    /// PostgreSQL computes it.
    pub generated: bool,
    /// `generated always as identity`.
    pub always: bool,
    /// Whether it was captured at the beginning of the window, and its values were not computed anew since.
    pub old: bool,
    /// Whether its type (under the domains) is PostgreSQL's own, with nothing of anybody else in it.
    pub builtin: bool,
    /// How values of a key are compared; empty for other columns.
    pub equals: String,
    /// How values are told apart by their bytes: `plain` as they are, `text` by the bytes of a text; `xml` by those of its text, which has the
    /// declaration that its output leaves out; empty: by what they are written as.
    pub compared: String,
}

/// A sequence of the group.
#[derive(Debug, Clone)]
pub struct LoggedSequence {
    pub relation: i64,
    pub oid: u32,
    pub name: QualifiedName,
}

/// Which window is wanted.
#[derive(Debug, Clone, Default)]
pub struct WindowWanted<'a> {
    pub group: &'a str,
    /// None: the last mark before `to`, before `since` and before each of `txids`; the oldest where there is none.
    pub from: Option<&'a str>,
    /// None: now.
    pub to: Option<&'a str>,
    /// Only these tables; empty: all.
    pub tables: &'a [QualifiedName],
    /// What is looked for is not older than this.
    pub since: Option<Timestamp>,
    /// The transactions that are looked for; empty: all.
    pub txids: &'a [i64],
}

impl Gap {
    fn of(relation: i64, what: String) -> Gap {
        Gap {
            relation: Some(relation),
            what,
        }
    }

    pub fn of_all(what: String) -> Gap {
        Gap { relation: None, what }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl LoggedTable {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.name)
    }
}

impl Window {
    /// Returns the borders as the templates take them.
    pub fn borders(&self) -> (Value, Value) {
        (
            self.from.position.border(),
            self.until
                .as_ref()
                .map_or(Value::from(()), |mark| mark.position.border()),
        )
    }

    /// Returns the window in words: "since mark `a`", "from mark `a` to mark `b`".
    pub fn words(&self) -> String {
        match &self.until {
            None => format!("since mark `{}`", self.from.name),
            Some(until) => format!("from mark `{}` to mark `{}`", self.from.name, until.name),
        }
    }

    /// Refuses when the logs do not tell all of the tables `read` (by their ids); `what` needs it.
    ///
    /// # Errors
    /// [`Kind::Refused`], with all reasons.
    pub fn refuse_gaps(&self, what: &str, read: impl Fn(i64) -> bool) -> Result<()> {
        if let Some(astray) = &self.astray {
            return Err(astray.clone().into());
        }
        let is_missed = |gap: &&Gap| gap.relation.is_none_or(&read);
        let missed: Vec<&str> = (self.gaps.iter().filter(is_missed))
            .map(|gap| gap.what.as_str())
            .collect();
        if missed.is_empty() {
            return Ok(());
        }
        Err(Error::message(
            Kind::Refused,
            format!("{what} needs all changes {}, and {}", self.words(), missed.join("; ")),
        )
        .hint("take a mark that was set after that"))
    }

    /// Returns what has drifted, as a rollback says it; none where nothing of `drift` has.
    pub fn drifted<'d>(drift: impl IntoIterator<Item = &'d Drift>) -> Option<(String, String)> {
        let (problems, mut repairs): (Vec<&str>, Vec<&str>) = drift
            .into_iter()
            .map(|one| (one.problem.as_str(), one.repair.as_str()))
            .unzip();
        repairs.sort_unstable();
        repairs.dedup();
        (!problems.is_empty()).then(|| {
            let said = format!(
                "the database has drifted from what was installed: {}",
                problems.join("; ")
            );
            (said, repairs.join("; "))
        })
    }

    /// Refuses when the tables `read` (by their ids) are no longer as they were installed, as a rollback does.
    ///
    /// # Errors
    /// [`Kind::Refused`], with all problems and their repairs.
    pub fn refuse_drift(&self, read: impl Fn(i64) -> bool) -> Result<()> {
        match Self::drifted(self.drift.iter().filter(|one| read(one.relation))) {
            None => Ok(()),
            Some((said, repair)) => Err(Error::message(Kind::Refused, said).hint(repair)),
        }
    }
}

/// Reads a window.
///
/// # Errors
/// [`Kind::Refused`] for an unknown group, mark or table, and for a mark that is later than the other; whatever the server answers.
pub fn window(client: &mut impl GenericClient, schema: &str, wanted: &WindowWanted<'_>) -> Result<Window> {
    let s = escape_identifier(schema);
    let marks = marks::marks(client, schema, wanted.group)?;
    let until = wanted
        .to
        .map(|name| marks::named(wanted.group, &marks, name))
        .transpose()?;
    let from = match wanted.from {
        Some(name) => marks::named(wanted.group, &marks, name)?,
        None => marks::before(wanted, &marks, until.as_ref())?,
    };
    if let Some(until) = until.as_ref().filter(|until| until.id < from.id) {
        return Err(Error::message(
            Kind::Refused,
            format!("mark `{}` is later than mark `{}`", from.name, until.name),
        )
        .hint("give the earlier mark first"));
    }
    let mut gaps = Vec::new();
    let astray = super::astray(client, schema)?;
    gaps.extend(astray.as_ref().map(|astray| Gap::of_all(astray.problem.clone())));
    gaps::restarts(client, &s, wanted.group, &from, until.as_ref(), &mut gaps)?;
    let found = logs::tables(client, &s, wanted.group, &from, until.as_ref(), &mut gaps)?;
    let tables = logs::chosen(wanted, found)?;
    gaps::uncaptured(client, &s, &from, &tables, &mut gaps)?;
    // What the registry knows of a restored copy's partitions is not of these ones.
    let drift = if astray.is_some() {
        Vec::new()
    } else {
        gaps::incomplete(client, &s, wanted.group, &from, until.as_ref(), &tables, &mut gaps)?
    };
    Ok(Window {
        group: wanted.group.to_owned(),
        sequences: logs::sequences(client, &s, wanted.group)?,
        from,
        until,
        tables,
        gaps,
        drift,
        astray,
    })
}
