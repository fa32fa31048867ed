//! The server's lock table: how many locks it has room for, and how many an installation takes. PostgreSQL holds a lock on each object that is
//! made or dropped, to the end of the transaction, and all sessions share the table. `doctor` warns, `portions` divides an uninstall, and `apply`
//! says what was too much.

use std::collections::HashMap;

use crate::catalog::{Catalog, Server};
use crate::journal::{Journal, KeptLog};

/// What a captured table or partition takes in an installation: itself, its log with index and TOAST, its guard.
const TO_INSTALL: i64 = 8;
/// What a table takes when it is not captured any more: itself, triggers, function, guard.
pub(super) const TO_END: i64 = 12;
/// What each part of a log adds when that goes too: itself, its types, its index, TOAST.
const A_PART: i64 = 7;
/// What the installation itself takes when it is made or dropped: its schema, registry and functions.
pub(super) const OWN: i64 = 600;
/// What each of its partitions adds: itself, and the copies of triggers.
const A_PARTITION: i64 = 6;

/// Returns how many locks the table has room for.
pub(super) fn capacity(server: &Server) -> i64 {
    i64::from(server.max_locks_per_transaction) * sessions(server)
}

/// Returns how many locks an installation of so many tables and partitions takes.
pub(super) fn to_install(tables: usize) -> i64 {
    times(TO_INSTALL, tables)
}

/// Returns the logs that go with a group: those of relations that have left it are kept there too.
pub(super) fn logs_of<'j>(journal: &'j Journal, group: &str) -> impl Iterator<Item = &'j KeptLog> {
    journal.kept.iter().filter(move |log| log.group == group)
}

/// How many partitions each partitioned table has, by oid.
pub(super) type Partitions = HashMap<u32, usize>;

pub(super) fn partitions(catalog: &Catalog) -> Partitions {
    let tables = catalog.tables.values().filter(|table| !table.partitions.is_empty());
    tables.map(|table| (table.oid, table.partitions.len())).collect()
}

/// Returns how many locks it takes to drop these logs, with what captures their tables.
pub(super) fn to_drop<'j>(logs: impl IntoIterator<Item = &'j KeptLog>, partitions: &Partitions) -> i64 {
    let one = |log: &KeptLog| {
        let partitions = partitions.get(&log.oid).copied().unwrap_or(0);
        let capture = match log.ended {
            true => 0,
            false => TO_END + times(A_PARTITION, partitions),
        };
        capture + times(A_PART, log.parts.len())
    };
    logs.into_iter().map(one).sum()
}

fn times(locks: i64, number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(locks)
}

/// Returns the setting with which so many locks take half of the table: the other half is for everybody else.
pub(super) fn enough(server: &Server, needed: i64) -> i64 {
    (2 * needed / sessions(server) + 1).max(i64::from(server.max_locks_per_transaction) * 2)
}

/// Says what to do when the table was full while about so many locks were `needed`; `or` is another way, if there is one.
pub(super) fn advice(server: &Server, needed: i64, or: Option<&str>) -> String {
    format!(
        "max_locks_per_transaction is {}: the server has room for about {} locks, those of other sessions included, and this takes about {needed}; \
         raise it to {} and restart the server{}",
        server.max_locks_per_transaction,
        capacity(server),
        enough(server, needed),
        or.map_or(String::new(), |or| format!(", or {or}"))
    )
}

fn sessions(server: &Server) -> i64 {
    (i64::from(server.max_connections) + i64::from(server.max_prepared_transactions)).max(1)
}
