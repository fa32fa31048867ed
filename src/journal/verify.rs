//! Reads what no longer fits between the registry, the logs, the functions, the triggers and the tables.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::read::head;
use crate::errors::Result;
use crate::render::{Head, Renderer};

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
    let mut found = functions(client, schema)?;
    if found.iter().any(|one| one.problem == GONE) {
        // What is gone may be what would have to be asked.
        return Ok(found);
    }
    let rows = client.query(
        &format!(
            "select verify_group, verify_object, verify_problem, verify_repair from {s}.emaj_detailed_verify_all()"
        ),
        &[],
    )?;
    found.extend(rows.iter().map(|row| Inconsistency {
        group: row.get(0),
        object: row.get(1),
        problem: row.get(2),
        repair: row.get(3),
    }));
    Ok(found)
}

const GONE: &str = "it is gone";

/// Returns the functions that are not what this emaj installs.
fn functions(client: &mut impl GenericClient, schema: &str) -> Result<Vec<Inconsistency>> {
    let rows = client.query(
        "select p.proname::text, p.prosrc, p.prosecdef, p.provolatile, coalesce(p.proconfig, '{}') from pg_catalog.pg_proc p
           join pg_catalog.pg_namespace n on n.oid = p.pronamespace where n.nspname = $1",
        &[&schema],
    )?;
    let there: Vec<(String, String, Head)> = rows.iter().map(|row| (row.get(0), row.get(1), head(row, 2))).collect();
    let mut found = Vec::new();
    for wanted in Renderer::new(schema).functions()? {
        let mut named = there.iter().filter(|(name, ..)| *name == wanted.name).peekable();
        let problem = if named.peek().is_none() {
            GONE
        } else if named.any(|(_, body, head)| *body == wanted.body && *head == wanted.head) {
            continue;
        } else {
            "it is not the one that this emaj installs"
        };
        found.push(Inconsistency {
            group: None,
            object: format!("function {}.{}", escape_identifier(schema), wanted.name),
            problem: problem.to_owned(),
            repair: "run `emaj install`".to_owned(),
        });
    }
    Ok(found)
}
