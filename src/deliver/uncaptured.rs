//! Bindings whose tables nobody captures: what changes there never arrives, and no sink would ever say so.

use super::worker;
use crate::errors::Result;
use crate::journal;
use crate::manifest::Manifest;
use crate::names::QualifiedName;
use crate::pg::Session;

/// A binding whose table is not captured.
#[derive(Debug, Clone)]
pub struct Uncaptured {
    pub binding: String,
    pub sink: String,
    pub table: QualifiedName,
    pub why: journal::Uncaptured,
}

impl Uncaptured {
    /// Returns what there is to say of it.
    pub fn told(&self) -> String {
        format!(
            "table {} {}: what changes in it never arrives at sink `{}` (binding `{}`)",
            self.table, self.why, self.sink, self.binding
        )
    }
}

/// Returns the bindings of a manifest whose tables are not captured; with `only`, those that go to one of these sinks.
///
/// # Errors
/// The database holds no installation, or is a copy; whatever the server answers.
pub fn uncaptured(session: &mut Session, manifest: &Manifest, only: &[String]) -> Result<Vec<Uncaptured>> {
    let schema = &manifest.schema;
    worker::source(session, schema)?;
    let mut all = Vec::new();
    for sink in &manifest.sinks {
        let sink = &sink.name.value;
        if !only.is_empty() && !only.contains(sink) {
            continue;
        }
        let records = journal::bindings_of(&mut **session, schema, sink)?;
        let oids: Vec<u32> = records.iter().map(|record| record.oid).collect();
        let logs = journal::logs_of(&mut **session, schema, &oids)?;
        all.extend(records.into_iter().filter_map(|record| {
            let logs = logs.iter().filter(|log| log.oid == record.oid);
            Some(Uncaptured {
                why: journal::Uncaptured::of(record.is_replaced, logs)?,
                binding: record.name,
                sink: sink.clone(),
                table: record.table,
            })
        }));
    }
    Ok(all)
}
