//! Everything that captures one table, named: its log and the columns of it, its context, its guard.
//!
//! It is what the templates of `log/` are rendered with. Pure names and numbers; whether anything is to be made or changed is decided
//! by `create` and `follow`.

use minijinja::value::{Serde, Value};
use serde::Serialize;

use super::Setting;
use crate::catalog::{self, Generated};
use crate::install::plan::Plan;
use crate::install::wanted::WantedTable;
use crate::journal::{Journal, Relation};
use crate::manifest::{ContextColumn, Group};
use crate::names::{QualifiedName, derived_name, quote_literal};

/// emaj's own columns of every log table.
pub(in crate::install) const OWN_COLUMNS: &[&str] = &[
    "emaj_gid",
    "emaj_txid",
    "emaj_changed",
    "emaj_ord",
    "emaj_verb",
    "emaj_tuple",
    "emaj_user",
];

/// Everything the templates of one table are rendered with.
#[derive(Debug, Serialize)]
pub(super) struct Capture<'a> {
    pub(super) group: &'a str,
    pub(super) oid: u32,
    pub(super) kind: &'static str,
    pub(super) name: &'a QualifiedName,
    pub(super) table: String,
    pub(super) mode: &'static str,
    pub(super) partitioned: bool,
    pub(super) log: String,
    pub(super) into_log: String,
    pub(super) guard: Option<String>,
    pub(super) columns: Vec<Column>,
    /// The numbers of the columns that are captured, and of all that are read by position.
    pub(super) attnums: Vec<i16>,
    pub(super) places: Vec<i16>,
    pub(super) context: Vec<Extra>,
    pub(super) context_declared: Vec<String>,
    pub(super) key: &'a [i16],
    pub(super) natts: i16,
    pub(super) priority: i32,
    pub(super) keep_triggers: &'a [String],
    pub(super) uniform: Vec<u32>,
    /// All partitions below it, and how they were attached.
    pub(super) members: Vec<u32>,
    pub(super) attached: Vec<&'a str>,
    pub(super) partitions: Vec<String>,
    pub(super) enabled: bool,
}

/// A column of the table, at its place; `captured` is false for one that has no bytes of its own (virtual).
#[derive(Debug, Clone, Serialize)]
pub(super) struct Column {
    pub(super) attnum: i16,
    pub(super) name: String,
    pub(super) alias: String,
    pub(super) log: String,
    pub(super) r#type: String,
    pub(super) captured: bool,
}

/// A context column.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Extra {
    pub(super) column: String,
    pub(super) r#type: &'static str,
    pub(super) value: String,
}

/// Names that are taken in the schema: by what is there, by what this plan makes, and by what the registry knows. Of that, something may
/// be gone already (`drop table … cascade` takes the guard along); the end of its relation still drops it by its name.
pub(super) struct Taken<'a> {
    pub(super) journal: Option<&'a Journal>,
    pub(super) plan: &'a Plan,
}

impl Taken<'_> {
    fn contains(&self, name: &str) -> bool {
        let there = self.journal.is_some_and(|journal| {
            journal.tables.contains_key(name)
                || journal.views.contains(name)
                || journal.functions.contains_key(name)
                || journal.logs.contains(name)
                || journal
                    .relations
                    .iter()
                    .any(|relation| relation.guard.as_deref() == Some(name))
        });
        there || self.plan.names.contains(name)
    }
}

/// Names everything that captures a table: as it is known, or by names that are free.
pub(super) fn capture<'a>(
    setting: &'a Setting<'a>,
    wanted: &'a WantedTable<'a>,
    taken: &Taken<'_>,
    known: Option<&Relation>,
) -> Capture<'a> {
    let table = wanted.table;
    let context = extras(setting.group);
    let name_parts = [for_log(&wanted.name.schema), for_log(&wanted.name.name)];
    let derive = |suffix: &str| derived_name(&[&name_parts[0], &name_parts[1]], suffix, &|name| taken.contains(name));
    let log = known
        .and_then(|known| known.log.clone())
        .unwrap_or_else(|| derive("_log"));
    let guard = wanted.guard.then(|| {
        known
            .and_then(|known| known.guard.clone())
            .unwrap_or_else(|| derive("_guard"))
    });
    // Columns of the log that a context has left behind.
    let left: Vec<&String> = known
        .and_then(|known| Some((known, taken.journal?.tables.get(&log)?)))
        .map(|(known, there)| {
            let of_table = |name: &String| known.columns.iter().any(|column| column.log == *name);
            there.iter().filter(|name| !of_table(name)).collect()
        })
        .unwrap_or_default();
    let columns = columns(table, &context, &left);
    Capture {
        group: &setting.group.name.value,
        oid: table.oid,
        kind: if table.partitioned { "p" } else { "r" },
        name: wanted.name,
        table: wanted.name.to_string(),
        mode: wanted.mode.name(),
        partitioned: table.partitioned,
        into_log: known
            .and_then(|known| known.into.clone())
            .unwrap_or_else(|| log.clone()),
        log,
        guard,
        attnums: columns
            .iter()
            .filter(|column| column.captured)
            .map(|column| column.attnum)
            .collect(),
        places: columns.iter().map(|column| column.attnum).collect(),
        columns,
        context,
        context_declared: setting
            .group
            .context
            .iter()
            .map(|column| declared(&column.value))
            .collect(),
        key: &table.key,
        natts: table.natts,
        priority: wanted.priority,
        keep_triggers: &wanted.keep_triggers,
        uniform: table
            .partitions
            .iter()
            .filter(|partition| partition.leaf && partition.uniform)
            .map(|partition| partition.oid)
            .collect(),
        members: table.partitions.iter().map(|partition| partition.oid).collect(),
        attached: (table.partitions.iter())
            .map(|partition| partition.attached.as_str())
            .collect(),
        partitions: table
            .partitions
            .iter()
            .filter(|partition| partition.leaf)
            .map(|partition| partition.name.to_string())
            .collect(),
        enabled: setting.enabled,
    }
}

/// A function body is quoted with `$emaj$`: that must not occur in a name inside it.
fn sanitized(name: &str) -> String {
    name.replace("$emaj$", "_emaj_")
}

/// Rotation puts another name in the place of the log's, also inside strings of the capture function: there must be nothing in it that a
/// string would write in another way.
fn for_log(name: &str) -> String {
    sanitized(name).replace(['\'', '\\'], "_")
}

/// Names the log's columns. Virtual ones are only counted, so that what comes after them is found at its place; at the end there is no need
/// to, and they may come and go. Taken are the framework's own names, those of the context, and what is `left` in the log of an earlier one.
fn columns(table: &catalog::Table, context: &[Extra], left: &[&String]) -> Vec<Column> {
    let mut used: Vec<String> = OWN_COLUMNS
        .iter()
        .map(|name| (*name).to_owned())
        .chain(context.iter().map(|extra| extra.column.clone()))
        .chain(left.iter().map(|name| (*name).clone()))
        .collect();
    let columns = table.columns.iter().enumerate().map(|(at, column)| {
        let log = derived_name(&[&sanitized(&column.name)], "", &|name| {
            used.iter().any(|taken| taken == name)
        });
        used.push(log.clone());
        Column {
            attnum: column.attnum,
            name: column.name.clone(),
            alias: format!("emaj${}", at + 1),
            log,
            r#type: column.r#type.clone(),
            captured: column.generated != Generated::Virtual,
        }
    });
    let mut columns: Vec<Column> = columns.collect();
    if let Some(last) = columns.iter().rposition(|column| column.captured) {
        columns.truncate(last + 1);
    }
    columns
}

/// Names the context columns. Two settings may come to one name (`a.b_c`, `a_b.c`): then both keep their dots, whichever comes first.
fn extras(group: &Group) -> Vec<Extra> {
    let mut extras: Vec<Extra> = group.context.iter().map(|column| extra(&column.value)).collect();
    let names: Vec<String> = extras.iter().map(|extra| extra.column.clone()).collect();
    for (extra, declared) in extras.iter_mut().zip(&group.context) {
        let shared = names.iter().filter(|name| **name == extra.column).count() > 1;
        if let (ContextColumn::Setting(name), true) = (&declared.value, shared) {
            extra.column = derived_name(&["emaj", "setting", name], "", &|_| false);
        }
    }
    extras
}

fn extra(column: &ContextColumn) -> Extra {
    match column {
        ContextColumn::ApplicationName => Extra {
            column: "emaj_application_name".to_owned(),
            r#type: "text",
            value: "current_setting('application_name')".to_owned(),
        },
        ContextColumn::ClientAddr => Extra {
            column: "emaj_client_addr".to_owned(),
            r#type: "inet",
            value: "inet_client_addr()".to_owned(),
        },
        ContextColumn::Setting(name) => Extra {
            column: derived_name(&["emaj", &name.replace('.', "_")], "", &|name| {
                OWN_COLUMNS.contains(&name)
            }),
            r#type: "text",
            value: format!("current_setting({}, true)", quote_literal(name)),
        },
    }
}

fn declared(column: &ContextColumn) -> String {
    match column {
        ContextColumn::ApplicationName => "application_name".to_owned(),
        ContextColumn::ClientAddr => "client_addr".to_owned(),
        ContextColumn::Setting(name) => format!("setting:{name}"),
    }
}

pub(super) fn serde_value<T: Serialize>(value: T) -> Value {
    Value::from(Serde(value))
}
