//! The server's lock table: how many locks it has room for, and how many an installation takes. PostgreSQL holds a lock on each object that is
//! made or dropped, to the end of the transaction, and all sessions share the table. `doctor` warns, `removal` divides its work, and `apply`
//! says what was too much.

use crate::catalog::{Catalog, Server};
use crate::journal::Relation;

/// What a captured table or partition takes in an installation: itself, its log with index and TOAST, its guard.
const TO_INSTALL: i64 = 8;
/// What a captured table takes when it is let go, all that goes with its log included: 17 and a few, should the log have another part.
const TO_REMOVE: i64 = 20;
/// What the installation itself takes when it is dropped: its schema, registry and functions.
pub(super) const OWN: i64 = 600;
/// What each of its partitions adds: itself, and the copies of triggers.
const A_PARTITION: i64 = 6;

/// Returns how many locks the table has room for.
pub(super) fn capacity(server: &Server) -> i64 {
    i64::from(server.max_locks_per_transaction) * sessions(server)
}

/// Returns how many locks an installation of so many tables and partitions takes.
pub(super) fn to_install(tables: usize) -> i64 {
    i64::try_from(tables).unwrap_or(i64::MAX).saturating_mul(TO_INSTALL)
}

/// Returns how many locks it takes to let go of a relation.
pub(super) fn to_remove(relation: &Relation, catalog: &Catalog) -> i64 {
    let partitions = catalog
        .table(relation.oid)
        .map_or(0, |(_, table)| table.partitions.len());
    TO_REMOVE + A_PARTITION * i64::try_from(partitions).unwrap_or(0)
}

/// Returns the setting with which so many locks take half of the table: the other half is for everybody else.
pub(super) fn enough(server: &Server, needed: i64) -> i64 {
    (2 * needed / sessions(server) + 1).max(i64::from(server.max_locks_per_transaction) * 2)
}

/// Says what to do when the table was full while so many tables of the application were worked on.
pub(super) fn advice(server: &Server, tables: usize) -> String {
    let needed = i64::try_from(tables).unwrap_or(i64::MAX).saturating_mul(TO_REMOVE);
    format!(
        "max_locks_per_transaction is {}: the server has room for about {} locks, those of other sessions included, and {} may take {needed}; \
         raise it to {} and restart the server, or take fewer at a time: install a manifest that names some of the tables first",
        server.max_locks_per_transaction,
        capacity(server),
        crate::words::count(tables, "table"),
        enough(server, needed)
    )
}

fn sessions(server: &Server) -> i64 {
    (i64::from(server.max_connections) + i64::from(server.max_prepared_transactions)).max(1)
}
