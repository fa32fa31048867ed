//! Reads what no longer fits between the registry, the logs, the triggers and the tables.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::Result;

/// One thing that is not as it should be, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inconsistency {
    pub group: Option<String>,
    pub object: String,
    pub problem: String,
    pub repair: String,
}

/// Looks for inconsistencies in the whole installation.
///
/// # Errors
/// Whatever the server answers.
pub fn inconsistencies(client: &mut impl GenericClient, schema: &str) -> Result<Vec<Inconsistency>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select verify_group, verify_object, verify_problem, verify_repair from {s}.emaj_detailed_verify_all()"
        ),
        &[],
    )?;
    Ok(rows
        .iter()
        .map(|row| Inconsistency {
            group: row.get(0),
            object: row.get(1),
            problem: row.get(2),
            repair: row.get(3),
        })
        .collect())
}
