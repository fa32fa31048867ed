//! Reads the history: what was done by emaj, when and by whom.

use jiff::Timestamp;
use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use crate::errors::Result;
use crate::pg::Lossy;

/// One row of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    pub id: i64,
    pub time: Timestamp,
    /// What was done: `START_GROUP`, `SET_MARK_GROUP`, …
    pub function: String,
    /// `BEGIN` and `END` of what takes long, else nothing.
    pub event: String,
    pub object: String,
    pub wording: String,
    pub user: String,
    pub txid: i64,
}

/// Which rows of the history are wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    pub group: Option<&'a str>,
    pub since: Option<Timestamp>,
    pub limit: i64,
}

/// Reads the last rows that are wanted, the newest first.
///
/// # Errors
/// Whatever the server answers; lacking rights on the registry among it.
pub fn history(client: &mut impl GenericClient, schema: &str, wanted: &Wanted<'_>) -> Result<Vec<Event>> {
    let s = escape_identifier(schema);
    let rows = client.query(
        &format!(
            "select hist_id, hist_datetime, hist_function, hist_event, hist_object, hist_wording, hist_user, hist_txid
               from {s}.emaj_hist
              where ($1::text is null or hist_object = $1)
                and ($2::timestamptz is null or hist_datetime >= $2)
              order by hist_id desc limit $3"
        ),
        &[&wanted.group, &wanted.since, &wanted.limit],
    )?;
    Ok(rows
        .iter()
        .map(|row| Event {
            id: row.get(0),
            time: row.get(1),
            function: row.get(2),
            event: row.get(3),
            object: row.get(4),
            wording: row.get(5),
            user: Lossy::get(row, 6),
            txid: row.get(7),
        })
        .collect())
}
