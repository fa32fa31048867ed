//! How long a rollback would take, by what earlier ones took. The sums are done in the database; here they are shared out over lanes.

use std::time::Duration;

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::{Left, Preview, Wanted};
use crate::errors::Result;
use crate::names::QualifiedName;
use crate::pg::classify;

/// How long a rollback would take.
#[derive(Debug, Clone, Serialize)]
pub struct Estimate {
    pub groups: Vec<String>,
    pub mark: String,
    /// Of the session that takes longest.
    pub seconds: f64,
    pub sessions: usize,
    pub tables: Vec<TableEstimate>,
    /// What would be left as it is.
    pub left: Vec<Left>,
}

/// How long one table would take.
#[derive(Debug, Clone, Serialize)]
pub struct TableEstimate {
    pub schema: String,
    pub table: String,
    pub changes: i64,
    pub seconds: f64,
}

impl TableEstimate {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.table)
    }
}

impl Estimate {
    /// Returns the time; what is too long for the clock is the longest there is.
    pub fn time(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds.max(0.0)).unwrap_or(Duration::MAX)
    }
}

/// Estimates the rollback of a preview, changing nothing.
///
/// # Errors
/// [`crate::errors::Kind::Refused`] for an unknown group or mark; whatever the server answers.
pub fn estimate(client: &mut impl GenericClient, schema: &str, wanted: &Wanted, preview: &Preview) -> Result<Estimate> {
    let s = escape_identifier(schema);
    let rows = client
        .query(
            &format!(
                "select est_schema, est_table, est_rows, est_seconds::float8 from {s}.emaj_estimate_rollback_tables($1, $2, $3, $4)"
            ),
            &[&wanted.groups, &wanted.mark, &wanted.logged, &wanted.partial],
        )
        .map_err(|error| classify(error, "estimate the rollback"))?;
    let tables: Vec<TableEstimate> = rows
        .iter()
        .map(|row| TableEstimate {
            schema: row.get(0),
            table: row.get(1),
            changes: row.get(2),
            seconds: row.get(3),
        })
        .collect();
    let mut lanes = vec![0.0; preview.lanes.as_ref().map_or(1, |lanes| lanes.lanes.len()).max(1)];
    for table in &tables {
        let of = |lanes: &super::Lanes| lanes.lane_of(&table.qualified().to_string());
        let lane = preview.lanes.as_ref().and_then(of).unwrap_or(1);
        lanes[lane - 1] += table.seconds;
    }
    Ok(Estimate {
        groups: wanted.groups.clone(),
        mark: preview.mark.clone(),
        seconds: lanes.iter().copied().fold(0.0, f64::max),
        sessions: lanes.len(),
        tables,
        left: preview.left.clone(),
    })
}
