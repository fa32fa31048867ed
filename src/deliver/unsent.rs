//! Bindings whose rows that were there before are not all sent: an `emaj init` that was not finished, or is under way.
//!
//! A worker delivers what changes, and knows nothing of rows that nobody touches; so `emaj run` asks here, and says it.

use super::worker;
use crate::errors::Result;
use crate::journal::{self, BindingRecord};
use crate::manifest::Manifest;
use crate::pg::Session;
use crate::words::count;

/// A binding whose rows are not all sent.
#[derive(Debug, Clone)]
pub struct Unsent {
    pub binding: String,
    pub sink: String,
    /// How many rows are sent, and how many there are about.
    done: u64,
    total: u64,
    /// Somebody sends them at this moment.
    pub is_under_way: bool,
}

impl Unsent {
    /// Returns what there is to say of it.
    pub fn told(&self) -> String {
        let state = match self.is_under_way {
            true => "is under way",
            false => "is not finished",
        };
        let sent = match self.total > self.done {
            true => format!("{} of about {} are sent", self.done, count(self.total, "row")),
            false => format!("{} sent so far", count(self.done, "row")),
        };
        format!("`emaj init` of binding `{}` {state}: {sent}", self.binding)
    }
}

/// Returns the bindings of a manifest whose rows are wanted and not all sent; with `only`, those that go to one of these sinks.
///
/// # Errors
/// The database holds no installation, or is a copy; whatever the server answers.
pub fn unsent(session: &mut Session, manifest: &Manifest, only: &[String]) -> Result<Vec<Unsent>> {
    let schema = &manifest.schema;
    worker::source(session, schema)?;
    let mut all = Vec::new();
    for sink in journal::sinks(&mut **session, schema)? {
        if manifest.sink(&sink.name).is_none() || !only.is_empty() && !only.contains(&sink.name) {
            continue;
        }
        let mut records = journal::bindings_of(&mut **session, schema, &sink.name)?;
        records.retain(BindingRecord::is_unsent);
        if records.is_empty() {
            continue;
        }
        let (_, claim) = journal::sink_locks(schema, sink.id);
        let is_free: bool = session
            .query_one("select pg_catalog.pg_try_advisory_xact_lock_shared($1)", &[&claim])?
            .get(0);
        all.extend(records.into_iter().map(|record| Unsent {
            binding: record.name,
            sink: sink.name.clone(),
            done: u64::try_from(record.init_done).unwrap_or(0),
            total: record.init_total.and_then(|total| total.try_into().ok()).unwrap_or(0),
            is_under_way: !is_free,
        }));
    }
    Ok(all)
}
