//! What emaj wrote: the registry of groups, relations and marks, and the objects it made in its schema.
//!
//! Read whole for a plan; the commands that only show something ask for that alone (`groups`, `marks`, `history`).

mod activity;
mod cursor;
mod failures;
mod groups;
mod history;
mod initial;
mod installed;
mod lag;
mod logs;
mod marks;
mod origin;
mod parked;
mod position;
mod read;
pub(crate) mod registry;
mod rewind;
mod rights;
mod rollbacks;
mod sinks;
mod stat;
mod status;
mod verify;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;

use postgres::GenericClient;

use crate::errors::{Error, Kind, Result};
use crate::names::{QualifiedName, quote_ident};
use crate::pg::{Lossy, Span};
use crate::render::{self, Head};

pub use activity::{Look, Seen, Stand, look};
pub use cursor::{Cursor, Reached, SinkLook, key_part, place_of, reached};
pub use failures::{
    Failure, FailureFilter, FailureKept, FailureState, count_failures, discard, failures, failures_kept, retry,
};
pub use groups::{GroupState, Member, captured, group_named, groups, members};
pub use history::{Event, Wanted, history};
pub use initial::{
    RowPlace, WantedRows, all_rows_anew, begin_anew, groups_of, lock_set_aside, note_rows, rows_anew, rows_sent,
    want_all_again, want_rows, without_key,
};
pub use installed::{Bound, COUNTED, InstalledBinding, InstalledSink, bound_in, bound_to, init_command, is_listed};
pub use lag::{SinkLag, lag};
pub use logs::{LogColumn, LogRecord, Uncaptured, logs_of, small_logs, structure_of};
pub use marks::{LastMark, MarkState, last_marks, marks, own_name};
pub use origin::{Astray, Origin, astray, check_origin, free_schema};
pub use parked::{
    ChangeKept, Known, SetAside, arrived, begun, change_of, due, failed_again, hasten, is_set_aside, join, known,
    known_anew, mark_of_waiting, not_begun, one_front, promote, queue, retry_queues, set_aside, tried_again, waiting,
};
pub use position::{Position, Snapshot};
pub use read::read;
pub use registry::{check_made, hollow, refuse_hollow};
pub use rewind::rewind;
pub use rights::{Grants, Held, Named, ROLE_MADE_BY_EMAJ, Right};
pub use rollbacks::{
    PastRollback, RollbackSession, TornRollback, UnfinishedRollback, past_rollbacks, rollback_activity, torn_rollbacks,
    unfinished_rollbacks,
};
pub use sinks::{
    BindingRecord, SinkRecord, SinkState, Trouble, bindings_like, bindings_of, is_bound, pause, resume, sink_locks,
    sink_named, sinks, sinks_beside,
};
pub use stat::{
    Interval, RoleChanges, SequenceStat, StatWanted, TableChanges, TableStat, check_names, count_intervals,
    detailed_stat, interval_stat, rollback_tables, sequence_stat, table_stat,
};
pub use status::{GroupStatus, MOST_COUNTED, status};
pub use verify::{Inconsistency, inconsistencies};
pub use window::{Gap, LoggedTable, Window, WindowWanted, begin_reading, is_builtin, window};

/// The registry of one installation.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    pub version: String,
    /// Its tables are empty: they were restored from a dump without data. Nothing else of the registry is known then.
    pub hollow: bool,
    /// Set when the installation is not where it was made.
    pub astray: Option<Astray>,
    /// Cluster roles that emaj created, from here or from another database that shares them.
    pub roles: Vec<String>,
    /// How long the history is kept.
    pub history_kept: HistoryKept,
    pub groups: BTreeMap<String, Group>,
    pub relations: Relations,
    pub sinks: BTreeMap<String, InstalledSink>,
    pub bindings: BTreeMap<String, InstalledBinding>,
    /// Functions in the schema by name; of several with one name, emaj's.
    pub functions: BTreeMap<String, Function>,
    /// Tables and views in the schema: name and columns.
    pub tables: BTreeMap<String, Vec<String>>,
    pub views: BTreeSet<String>,
    /// Log tables and the parts that rotation made, also of relations that have left their group; a log's capture function has its name.
    pub logs: BTreeSet<String>,
    /// The logs with what they are of.
    pub kept: Vec<KeptLog>,
    /// Roles that the installed manifests name.
    pub named: Vec<Named>,
    /// Rollbacks in several sessions that are not over.
    pub rollbacks: Vec<UnfinishedRollback>,
    /// Those that are torn.
    pub torn: Vec<TornRollback>,
    /// What roles may use, call and read, the owner left out.
    pub grants: BTreeMap<String, Grants>,
    /// Every right of anybody but the owner.
    pub held: Vec<Held>,
}

/// How long the history is kept; nothing: for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryKept {
    pub retention: Option<Span>,
    /// The manifests that say so, in the order of their names.
    pub manifests: Vec<String>,
}

/// A function in the installation's schema.
#[derive(Debug, Clone, Default)]
pub struct Function {
    pub oid: u32,
    pub head: Head,
    pub body: String,
    pub arguments: String,
}

impl Function {
    /// Returns whether it is what a template makes. (Its parameters and its result cannot change without its body.)
    pub fn is(&self, rendered: &render::Function) -> bool {
        self.head == rendered.head && self.body == rendered.body
    }
}

/// The marks of a group that can be rolled back to. They get larger and larger ids: with the same number and the same last one they are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ActiveMarks {
    pub count: i64,
    pub last: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub manifest: String,
    pub logging: bool,
    pub rollback: bool,
    pub comment: Option<String>,
    pub retention: Option<Span>,
    pub keep_marks: Option<i32>,
    pub keep_time: Option<Span>,
    /// In bytes.
    pub max_size: Option<i64>,
    pub active_marks: ActiveMarks,
    /// How many marks the next purge deletes, with the `keep_marks` of the manifest; known to `install` alone.
    pub expiring: i64,
}

/// A table or sequence that is in a group now.
#[derive(Debug, Clone, Default)]
pub struct Relation {
    pub id: i64,
    pub group: String,
    pub oid: u32,
    pub kind: char,
    pub name: QualifiedName,
    pub priority: i32,
    pub mode: Option<String>,
    pub log: Option<String>,
    /// The part of the log that is written to: the log itself, or a child of it.
    pub into: Option<String>,
    pub key: Vec<i16>,
    pub natts: Option<i16>,
    pub keep_triggers: Vec<String>,
    pub context: Vec<String>,
    pub guard: Option<String>,
    /// Its capture triggers, by oid, as they were when emaj last switched them.
    pub triggers: BTreeMap<u32, String>,
    /// The partitions that it had at the last install, by oid, with what [`crate::catalog::Partition::attached`] was.
    pub partitions: BTreeMap<u32, String>,
    pub columns: Vec<Column>,
}

/// The relations in the order in which they were captured, found by their oids too.
#[derive(Debug, Clone, Default)]
pub struct Relations {
    all: Vec<Relation>,
    by_oid: HashMap<u32, usize>,
}

impl Relations {
    /// Returns what is captured of the table or sequence with this oid.
    pub fn of(&self, oid: u32) -> Option<&Relation> {
        Some(&self.all[*self.by_oid.get(&oid)?])
    }
}

impl FromIterator<Relation> for Relations {
    fn from_iter<I: IntoIterator<Item = Relation>>(relations: I) -> Self {
        let all: Vec<Relation> = relations.into_iter().collect();
        let by_oid = all.iter().enumerate().map(|(at, relation)| (relation.oid, at));
        Relations {
            by_oid: by_oid.collect(),
            all,
        }
    }
}

impl Deref for Relations {
    type Target = [Relation];

    fn deref(&self) -> &[Relation] {
        &self.all
    }
}

/// The log of a relation that is in a group, or has left it.
#[derive(Debug, Clone, Default)]
pub struct KeptLog {
    pub relation: i64,
    pub group: String,
    /// The oid of the table.
    pub oid: u32,
    /// The relation has left the group: nothing captures it any more.
    pub ended: bool,
    /// The tables that it consists of: itself, and the parts that rotation made.
    pub parts: Vec<String>,
}

impl Journal {
    /// Leaves out these relations and their logs. What else the schema holds of them (functions, rights, marks) is still named.
    pub fn without(&self, gone: &BTreeSet<i64>) -> Journal {
        let mut left = self.clone();
        left.relations = self
            .relations
            .iter()
            .filter(|relation| !gone.contains(&relation.id))
            .cloned()
            .collect();
        left.keep(
            self.kept
                .iter()
                .filter(|log| !gone.contains(&log.relation))
                .cloned()
                .collect(),
        );
        left
    }

    /// Notes the logs that there are.
    pub(super) fn keep(&mut self, kept: Vec<KeptLog>) {
        self.logs = kept.iter().flat_map(|log| log.parts.iter().cloned()).collect();
        self.kept = kept;
    }
}

/// A captured column: its number and name in the table, its name and type in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    pub attnum: i16,
    pub name: String,
    pub log: String,
    pub r#type: String,
    /// As [`crate::catalog::Column::expression`], when it was captured.
    pub expression: Option<u32>,
}

/// Checks that emaj is installed in `schema` and that the connected role may use it; `database` is for the message.
///
/// # Errors
/// [`Kind::NotInstalled`], [`Kind::Denied`] with the owner's name, [`Kind::Refused`] as [`home`]; whatever the server answers.
pub fn check_usable(client: &mut impl GenericClient, schema: &str, database: &str) -> Result<()> {
    match home(client, schema)? {
        None => Err(not_installed(schema, database)),
        Some(home) if home.is_usable => Ok(()),
        Some(home) => Err(
            Error::message(Kind::Denied, format!("you may not use emaj in schema `{schema}`")).hint(format!(
                "connect as its owner `{}`, or as a member of one of the manifest's `roles`",
                home.owner
            )),
        ),
    }
}

/// Where an installation is.
struct Home {
    /// Whether the connected role may look into it.
    is_usable: bool,
    owner: String,
}

/// Looks for an installation.
///
/// # Errors
/// [`Kind::Refused`] where somebody gave away the schema and not what is in it: neither owner could use it. Whatever the server answers.
fn home(client: &mut impl GenericClient, schema: &str) -> Result<Option<Home>> {
    let found = client.query_opt(
        "select has_schema_privilege(n.oid, 'usage'), r.rolname::text, i.rolname::text, n.nspowner = c.relowner
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           join pg_catalog.pg_roles r on r.oid = n.nspowner
           join pg_catalog.pg_roles i on i.oid = c.relowner
          where n.nspname = $1 and c.relname = 'emaj_install'",
        &[&schema],
    )?;
    let Some(row) = found else { return Ok(None) };
    let (owner, of_registry) = (Lossy::get(&row, 1), Lossy::get(&row, 2));
    if !row.get::<_, bool>(3) {
        return Err(Error::message(
            Kind::Refused,
            format!("the schema `{schema}` belongs to `{owner}`, and emaj's tables in it to `{of_registry}`"),
        )
        .hint(format!(
            "`alter schema {} owner to {}` puts it back; `reassign owned by {1} to …` hands on all of this database that is {1}'s, at once",
            quote_ident(schema),
            quote_ident(&of_registry),
        )));
    }
    Ok(Some(Home {
        is_usable: row.get(0),
        owner,
    }))
}

/// The error of everything that needs an installation where there is none.
pub fn not_installed(schema: &str, database: &str) -> Error {
    Error::message(
        Kind::NotInstalled,
        format!("emaj is not installed in schema `{schema}` of database `{database}`"),
    )
    .hint("`emaj install` installs it")
}
