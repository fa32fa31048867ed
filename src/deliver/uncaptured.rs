//! Bindings whose tables nobody captures any more: what changes there never arrives, and no sink would ever say so.

use super::worker;
use crate::errors::Result;
use crate::journal;
use crate::manifest::Manifest;
use crate::names::QualifiedName;
use crate::pg::Session;

/// A binding whose table is not captured: it was released, or another one has its name now.
#[derive(Debug, Clone)]
pub struct Uncaptured {
    pub binding: String,
    pub sink: String,
    pub table: QualifiedName,
}

impl Uncaptured {
    /// Returns what there is to say of it.
    pub fn told(&self) -> String {
        format!(
            "table {} is not captured: what changes in it never arrives at sink `{}` (binding `{}`)",
            self.table, self.sink, self.binding
        )
    }
}

/// What helps.
pub const TAKE_IN: &str = "`emaj install` takes the table in, and says which `emaj init` brings the sink up to date; if that is not wanted, take the binding \
                           out of the manifest and install that";

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
        let is_captured = |oid| logs.iter().any(|log| log.oid == oid && !log.is_ended);
        let missing = records
            .into_iter()
            .filter(|record| record.is_replaced || !is_captured(record.oid));
        all.extend(missing.map(|record| Uncaptured {
            binding: record.name,
            sink: sink.clone(),
            table: record.table,
        }));
    }
    Ok(all)
}
