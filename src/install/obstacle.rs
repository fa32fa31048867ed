//! What stands in the way of capturing a table, whatever else is in its group. Pure; `wanted` asks for every table of a manifest, `draft` for every
//! table of a database.

use std::collections::BTreeMap;

use super::width;
use crate::catalog::{Catalog, Column, Generated, Persistence, Table};
use crate::errors::Kind;
use crate::journal::{self, Journal};
use crate::names::{QualifiedName, quote_ident};

/// One thing that stands in the way.
#[derive(Debug)]
pub(super) struct Obstacle {
    pub kind: Kind,
    pub what: String,
    /// How it is done away with, if it can be.
    pub next: Option<String>,
    /// To leave the table alone is a way too.
    pub or_leave: bool,
}

/// What a group asks of a table.
pub(super) struct Asked<'a> {
    /// The group, when it is to be rolled back.
    pub rollback: Option<&'a str>,
    pub guard: bool,
    /// The columns of the log that are emaj's own.
    pub own_columns: usize,
}

impl Obstacle {
    fn new(kind: Kind, what: String) -> Self {
        Obstacle {
            kind,
            what,
            next: None,
            or_leave: true,
        }
    }

    fn next(self, next: String) -> Self {
        Obstacle {
            next: Some(next),
            ..self
        }
    }

    /// To leave the table alone is not what is wanted.
    fn only(self) -> Self {
        Obstacle {
            or_leave: false,
            ..self
        }
    }
}

/// Finds everything that stands in the way of one table; its schema has to be open as well ([`closed`]).
pub(super) fn of_table(
    name: &QualifiedName,
    table: &Table,
    asked: &Asked<'_>,
    catalog: &Catalog,
    journal: Option<&Journal>,
) -> Vec<Obstacle> {
    let known = journal.and_then(|journal| journal.relations.of(table.oid));
    let mut all: Vec<Obstacle> = foreign(name, table, catalog).into_iter().collect();
    // What is captured already was allowed then; `drift` tells what is not any more.
    if known.is_none() {
        all.extend(of_partitions(name, table, catalog));
        all.extend(rights(name, table, asked, catalog));
    }
    all.extend(shape(name, table, asked));
    if table.rls_forced && !catalog.server.bypasses_rls {
        let what = format!("table {name} forces row level security on its owner: a rollback would not see every row");
        let next = format!("alter role {} bypassrls", quote_ident(&catalog.server.role));
        all.push(Obstacle::new(Kind::Denied, what).next(next));
    }
    if let Some(group) = asked.rollback {
        all.extend(no_way_back(name, table, group));
    }
    all.extend(types(name, table, asked.guard, known, catalog));
    all
}

/// Says that what is in the schema of this name cannot be named, where the role may not use it.
pub(super) fn closed(name: &QualifiedName, catalog: &Catalog) -> Option<Obstacle> {
    if !catalog.closed_schemas.contains(&name.schema) {
        return None;
    }
    let (schema, owner) = (quote_ident(&name.schema), &catalog.server.definer);
    let what =
        format!("{owner}, with whose rights changes are captured, may not use schema {schema}, and {name} is in it");
    let next = format!("grant usage on schema {schema} to {owner}");
    Some(Obstacle::new(Kind::Denied, what).next(next).only())
}

/// The table is somebody else's.
pub(super) fn foreign(name: &QualifiedName, table: &Table, catalog: &Catalog) -> Option<Obstacle> {
    (!table.owned).then(|| {
        of_another(
            &format!("table {name}"),
            &table.owner,
            &format!("table {name}"),
            catalog,
        )
    })
}

/// Something is somebody else's; `object` is what would have to be given to the role, as SQL says it.
pub(super) fn of_another(what: &str, owner: &str, object: &str, catalog: &Catalog) -> Obstacle {
    let role = quote_ident(&catalog.server.role);
    let next = catalog.server.to_act_for(owner, object);
    Obstacle::new(
        Kind::Denied,
        format!("{what} belongs to role {owner}, and {role} may not act for it"),
    )
    .next(format!("{next}, or run this as the owner"))
    .only()
}

/// A trigger on a partitioned table is made on every partition.
fn of_partitions(name: &QualifiedName, table: &Table, catalog: &Catalog) -> Vec<Obstacle> {
    let mut all = Vec::new();
    for partition in &table.partitions {
        let own = partition.name.to_string();
        if !partition.owned {
            let what = format!("partition {own} of table {name}");
            all.push(of_another(&what, &partition.owner, &format!("table {own}"), catalog));
        } else if partition.lacks.iter().any(|right| right == "trigger") {
            all.push(lacking(
                &format!("partition {own} of table {name}"),
                "trigger",
                &own,
                catalog,
            ));
        }
    }
    all
}

/// An owner may have taken rights from themselves.
fn rights(name: &QualifiedName, table: &Table, asked: &Asked<'_>, catalog: &Catalog) -> Option<Obstacle> {
    let needed = |right: &&str| asked.rollback.is_some() || ["select", "trigger"].contains(right);
    let lacks = table.lacks.iter().map(String::as_str).filter(needed);
    let rights: Vec<&str> = lacks.collect();
    let name = name.to_string();
    (table.owned && !rights.is_empty()).then(|| lacking(&format!("table {name}"), &rights.join(", "), &name, catalog))
}

fn lacking(what: &str, rights: &str, name: &str, catalog: &Catalog) -> Obstacle {
    let role = quote_ident(&catalog.server.role);
    Obstacle::new(Kind::Denied, format!("{role} has no right to {rights} on {what}"))
        .next(format!("grant {rights} on {name} to {role}"))
}

fn shape(name: &QualifiedName, table: &Table, asked: &Asked<'_>) -> Option<Obstacle> {
    let own = asked.own_columns;
    if width::captured(&table.columns).next().is_none() {
        let but = if table.columns.is_empty() {
            ""
        } else {
            " but virtual ones"
        };
        return Some(Obstacle::new(
            Kind::Manifest,
            format!("table {name} has no column{but}"),
        ));
    }
    let all = width::too_many(&table.columns, own)?;
    let what = format!(
        "the log of table {name} would have {all} columns, {own} of them emaj's own, and PostgreSQL allows 1600"
    );
    let next = format!("take it out of the group (`\"!{name}\"`), or let the table have fewer columns");
    Some(Obstacle::new(Kind::Manifest, what).next(next).only())
}

fn no_way_back(name: &QualifiedName, table: &Table, group: &str) -> Vec<Obstacle> {
    let mut all = Vec::new();
    if table.key.is_empty() {
        let what = format!("table {name} has no primary key, and group `{group}` is to be rolled back");
        let next = format!(
            "add a primary key, take the table out (`\"!{name}\"`), or write `rollback: false` for an audit-only group"
        );
        all.push(Obstacle::new(Kind::Manifest, what).next(next).only());
    }
    if let Some(unlogged) = unlogged(name, table) {
        let what = format!("{unlogged} is unlogged: a crash empties it without a trace in the log");
        all.push(Obstacle::new(Kind::Manifest, what).next("alter table … set logged".to_owned()));
    }
    all
}

/// The first that a crash would empty, the table or a partition of it, as it is told.
pub(super) fn unlogged(name: &QualifiedName, table: &Table) -> Option<String> {
    if table.persistence == Persistence::Unlogged {
        return Some(format!("table {name}"));
    }
    let partition = table
        .partitions
        .iter()
        .find(|partition| partition.persistence == Persistence::Unlogged)?;
    Some(format!("partition {} of table {name}", partition.name))
}

/// The log has columns of the table's types, and the guard selects them. What is captured already was allowed then.
fn types(
    name: &QualifiedName,
    table: &Table,
    guard: bool,
    known: Option<&journal::Relation>,
    catalog: &Catalog,
) -> Vec<Obstacle> {
    let captured = |column: &&Column| {
        let same = |known: &journal::Column| known.attnum == column.attnum && known.r#type == column.r#type;
        column.generated == Generated::Virtual || known.is_some_and(|known| known.columns.iter().any(same))
    };
    let mut lacks: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for column in table.columns.iter().filter(|column| !captured(column)) {
        let guard_lacks = column.guard_lacks.as_ref().filter(|_| guard);
        if let Some(lacking) = column.log_lacks.as_ref().or(guard_lacks) {
            lacks.entry(lacking).or_default().push(quote_ident(&column.name));
        }
    }
    let owner = &catalog.server.definer;
    let said = |(lacking, columns): (&str, Vec<String>)| {
        let what = format!(
            "the log of table {name} cannot be made: {owner} may not use {lacking}, of {}",
            columns.join(", ")
        );
        Obstacle::new(Kind::Denied, what).next(format!("grant usage on {lacking} to {owner}"))
    };
    lacks.into_iter().map(said).collect()
}
