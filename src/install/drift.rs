//! What the installed functions themselves find wrong: asked of `_drift` and `emaj_detailed_verify_all`, changes nothing.

use serde::Serialize;

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;

use super::apply::act_as_owner;
use crate::errors::Result;
use crate::manifest::Manifest;
use crate::pg::{Session, classify};

/// Something in the database that is no longer as it was installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// None when it is about the installation as a whole.
    pub group: Option<String>,
    pub relation: Option<String>,
    pub problem: String,
    pub repair: String,
}

/// Returns what no longer fits in the groups that `manifest` has installed, and objects that belong to no group.
///
/// # Errors
/// Whatever the server answers.
pub fn drift(session: &mut Session, manifest: &Manifest) -> Result<Vec<Finding>> {
    let failed = |error| classify(error, "look for drift");
    let s = escape_identifier(&manifest.schema);
    let mut transaction = session.transaction().map_err(failed)?;
    act_as_owner(&mut transaction, &manifest.schema)?;
    let rows = transaction.query(
        &format!(
            "select drift_group, drift_relation, drift_problem, drift_repair
               from {s}._drift(array(select group_name from {s}.emaj_group where group_manifest = $1))
              order by 1, 2, 3"
        ),
        &[&manifest.name],
    );
    let mut findings: Vec<Finding> = rows
        .map_err(failed)?
        .iter()
        .map(|row| Finding {
            group: row.get(0),
            relation: row.get(1),
            problem: row.get(2),
            repair: row.get(3),
        })
        .collect();
    findings.extend(bindings(&mut transaction, &s, &manifest.name)?);
    if findings.is_empty() {
        findings = strays(&mut transaction, &s)?;
    }
    transaction.rollback().map_err(failed)?;
    Ok(findings)
}

/// Asks what no longer fits between the manifest's bindings and their tables.
fn bindings(client: &mut impl GenericClient, s: &str, manifest: &str) -> Result<Vec<Finding>> {
    let rows = client
        .query(
            &format!("select drift_relation, drift_problem, drift_repair from {s}._binding_drift(array[$1::text]) order by 1, 2"),
            &[&manifest],
        )
        .map_err(|error| classify(error, "look for drift"))?;
    let finding = |row: &postgres::Row| Finding {
        group: None,
        relation: row.get(0),
        problem: row.get(1),
        repair: row.get(2),
    };
    Ok(rows.iter().map(finding).collect())
}

/// What belongs to no group is spoken of once all groups are right.
fn strays(client: &mut impl GenericClient, s: &str) -> Result<Vec<Finding>> {
    let rows = client
        .query(
            &format!(
                "select verify_object, verify_problem, verify_repair from {s}.emaj_detailed_verify_all() where verify_group is null"
            ),
            &[],
        )
        .map_err(|error| classify(error, "verify the installation"))?;
    let stray = |row: &postgres::Row| Finding {
        group: None,
        relation: row.get(0),
        problem: row.get(1),
        repair: row.get(2),
    };
    Ok(rows.iter().map(stray).collect())
}
