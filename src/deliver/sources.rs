//! What a sink is fed by: its bindings, compiled, the tables they are bound to and the logs of those.

use std::sync::Arc;

use super::binding::{Bound, Table, know_each_other};
use super::raw::Texts;
use super::today::with_loose_keys;
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, LogRecord, Uncaptured};
use crate::manifest;
use crate::names::QualifiedName;
use crate::pg::Session;
use crate::render::Renderer;

/// The tables of a sink and their logs.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    pub tables: Vec<SourceTable>,
    /// Each log with the number of its table.
    pub logs: Vec<(usize, LogRecord)>,
    pub texts: Texts,
}

impl Sources {
    /// Returns the tables that are not captured: what is left of their logs is delivered, and nothing comes.
    pub(super) fn uncaptured(&self) -> impl Iterator<Item = (&QualifiedName, Uncaptured)> {
        self.tables.iter().filter_map(|table| {
            let logs = self.logs.iter().map(|(_, log)| log).filter(|log| log.oid == table.oid);
            Some((&table.names.name, Uncaptured::of(table.is_replaced, logs)?))
        })
    }
}

/// A bound table.
#[derive(Debug, Clone)]
pub(super) struct SourceTable {
    pub oid: u32,
    /// The name of the last install, which bindings go by.
    pub names: Table,
    /// Another table has that name now.
    pub is_replaced: bool,
    /// The columns as the newest log has them: number and name.
    pub columns: Vec<(i16, String)>,
    /// How its texts come.
    pub texts: Texts,
    /// Keys may be one that are written in two ways.
    pub has_loose_key: bool,
}

impl SourceTable {
    /// Returns the numbers of the key's columns, in its order.
    pub(super) fn key_numbers(&self) -> Vec<i16> {
        let number = |name: &String| {
            self.columns
                .iter()
                .find(|(_, column)| column == name)
                .map(|(number, _)| *number)
        };
        self.names.key.iter().filter_map(number).collect()
    }
}

/// All of it, and the text by which a change of it is noticed.
#[derive(Default)]
pub(super) struct Fed {
    pub structure: String,
    /// (Shared with those who read beside the courier.)
    pub sources: Arc<Sources>,
    pub bound: Vec<Bound>,
}

/// Says that a sink or a binding is not installed.
pub(super) fn not_installed(noun: &str, name: &str) -> Error {
    Error::message(Kind::Refused, format!("{noun} `{name}` is not installed")).hint("`emaj install` installs it")
}

/// Reads what a sink is fed by, and holds it against the manifest's bindings.
///
/// # Errors
/// [`Kind::Refused`] when what is installed is something else; whatever the server answers.
pub(super) fn load(
    session: &mut Session,
    renderer: &Renderer,
    schema: &str,
    sink: &manifest::Sink,
    bindings: &[manifest::Binding],
) -> Result<Fed> {
    let (keeps_rows, kind) = (sink.kind.ability().keeps_rows, sink.kind.word());
    let sink = &*sink.name.value;
    let structure = journal::structure_of(&mut **session, schema, sink)?;
    let records = journal::bindings_of(&mut **session, schema, sink)?;
    let installed = |binding: &manifest::Binding| {
        records
            .iter()
            .any(|record| record.name == binding.name.value && record.fingerprint == binding.fingerprint())
    };
    let known = journal::sink_named(&mut **session, schema, sink)?;
    let is_of_another_kind = known.is_some_and(|known| known.kind != kind);
    let mut differing: Vec<&str> = is_of_another_kind.then_some("its kind").into_iter().collect();
    let others = bindings.iter().filter(|binding| !installed(binding));
    differing.extend(others.map(|binding| binding.name.value.as_str()));
    let declared = |name: &str| bindings.iter().any(|binding| binding.name.value == name);
    differing.extend(
        records
            .iter()
            .map(|record| record.name.as_str())
            .filter(|name| !declared(name)),
    );
    if !differing.is_empty() {
        return Err(Error::message(
            Kind::Refused,
            format!(
                "what is installed for sink `{sink}` is not what this manifest says: {}",
                differing.join(", ")
            ),
        )
        .hint(
            "`emaj plan` shows the difference; `emaj install` brings it in, or run the manifest that was installed",
        ));
    }
    let mut oids: Vec<u32> = records.iter().map(|record| record.oid).collect();
    oids.sort_unstable();
    oids.dedup();
    let logs = journal::logs_of(&mut **session, schema, &oids)?;
    let mut sources = Sources {
        texts: Texts::of(session, renderer)?,
        ..Sources::default()
    };
    let loose = with_loose_keys(session, renderer, &oids)?;
    for oid in &oids {
        let record = records.iter().find(|record| record.oid == *oid);
        let newest = logs.iter().rfind(|log| log.oid == *oid);
        let (Some(record), Some(newest)) = (record, newest) else {
            return Err(
                Error::message(Kind::Refused, format!("a table bound to sink `{sink}` is not captured"))
                    .hint("`emaj install` takes it in"),
            );
        };
        sources.tables.push(SourceTable {
            oid: *oid,
            is_replaced: record.is_replaced,
            names: Table {
                name: record.table.clone(),
                key: newest.key_names(),
            },
            columns: (newest.columns.iter())
                .map(|column| (column.number, column.name.clone()))
                .collect(),
            texts: sources.texts.clone(),
            has_loose_key: loose.contains(oid),
        });
    }
    for log in logs {
        if let Some(table) = sources.tables.iter().position(|table| table.oid == log.oid) {
            sources.logs.push((table, log));
        }
    }
    let mut bound = Vec::with_capacity(records.len());
    for record in records {
        let binding = bindings.iter().find(|binding| binding.name.value == record.name);
        let table = sources.tables.iter().position(|table| table.oid == record.oid);
        if let (Some(binding), Some(table)) = (binding, table) {
            let names = sources.tables[table].names.clone();
            bound.push(Bound::compile(binding, table, names, record.since, keeps_rows)?);
        }
    }
    let is_shared = bound.iter().any(Bound::names_message_key);
    bound.iter_mut().for_each(|bound| bound.shares_message_keys = is_shared);
    know_each_other(&mut bound)?;
    // In the order of their bytes, as offsets are.
    bound.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Fed {
        structure,
        sources: Arc::new(sources),
        bound,
    })
}
