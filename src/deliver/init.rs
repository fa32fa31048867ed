//! Rows that were there before: read a chunk at a time in the order of the key, in the snapshot that ends a window.
//!
//! Because the window is delivered first and the rows are read in its own snapshot, no row is ever older than what was delivered, and no
//! snapshot has to be kept from one chunk to the next: another process may go on where this one was killed.

use jiff::Timestamp;
use minijinja::context;
use minijinja::value::{Serde, Value};
use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;

use super::ask::{NamedColumn, columns_of};
use super::change::Change;
use super::row::Row;
use super::sources::SourceTable;
use super::stream::{Placed, init_offset};
use crate::errors::{Error, Kind, Result};
use crate::pg::{Session, classify};
use crate::render::Renderer;

/// How many rows are read at once.
pub(super) const CHUNK: usize = 5000;

/// How a chunk went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Init {
    Some,
    Over,
    Interrupted,
}

/// How far the rows of a binding are sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// The last key, a JSON array.
    pub key: Option<String>,
}

/// Reads how far the rows of a binding are sent.
///
/// # Errors
/// The binding is gone, or whatever the server answers.
pub(super) fn progress(session: &mut Session, schema: &str, binding: &str) -> Result<Progress> {
    let s = escape_identifier(schema);
    let row = session.query_one(
        &format!("select bind_init_key from {s}.emaj_binding where bind_name = $1"),
        &[&binding],
    )?;
    Ok(Progress { key: row.get(0) })
}

/// Notes how far the rows of a binding are sent.
///
/// # Errors
/// Whatever the server answers.
pub(super) fn note(
    client: &mut impl GenericClient,
    schema: &str,
    binding: &str,
    key: Option<&str>,
    rows: i64,
    is_over: bool,
) -> Result<()> {
    let s = escape_identifier(schema);
    client.execute(
        &format!(
            "update {s}.emaj_binding
                set bind_init = case when $4 then 'DONE' else 'RUNNING' end, bind_init_key = coalesce($2, bind_init_key),
                    bind_init_done = bind_init_done + $3, bind_init_time = clock_timestamp()
              where bind_name = $1"
        ),
        &[&binding, &key, &rows, &is_over],
    )?;
    Ok(())
}

/// Reads the next rows, in the snapshot that the session holds.
///
/// # Errors
/// [`Kind::Denied`] where row level security would hide rows; whatever the server answers.
pub(super) fn rows(
    session: &mut Session,
    renderer: &Renderer,
    source: &SourceTable,
    window: i64,
    progress: &Progress,
    table: usize,
) -> Result<Vec<Placed>> {
    let named =
        columns_of(session, source.oid, &source.columns).map_err(|fault| Error::message(Kind::Failed, fault.reason))?;
    let key: Vec<&NamedColumn> = named.columns.iter().filter(|column| column.is_key).collect();
    if key.is_empty() {
        return Err(Error::message(
            Kind::Refused,
            format!(
                "table {} has no primary key: its rows cannot be sent in an order",
                source.names.name
            ),
        )
        .hint("add a primary key"));
    }
    let sql = renderer.render_value(
        "stream/rows",
        context! {
            table => Value::from(Serde(&named.table)),
            columns => Value::from(Serde(&named.columns)),
            key => Value::from(Serde(&key)),
            last => &progress.key,
            builtin => key.iter().all(|column| column.is_builtin),
            limit => CHUNK,
        },
    )?;
    let rows = session.query(&sql, &[]).map_err(|error| {
        let security = error.code() == Some(&postgres::error::SqlState::INSUFFICIENT_PRIVILEGE);
        let error = classify(error, &format!("read the rows of {}", source.names.name));
        match security {
            true => error.hint(
                "row level security must not hide rows from emaj: use the owner of the table, or a role with bypassrls",
            ),
            false => error,
        }
    })?;
    let time = Timestamp::now();
    Ok(rows
        .iter()
        .enumerate()
        .map(|(at, row)| Placed {
            offset: init_offset(window, at as i64),
            relation: i64::from(source.oid),
            change: Change {
                table,
                txid: 0,
                position: 0,
                lsn: 0,
                time,
                key: row.get::<_, &str>(0).into(),
                old: None,
                new: Some(Row::new(row.get::<_, &str>(1))),
                is_init: true,
            },
        })
        .collect())
}
