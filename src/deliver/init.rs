//! Rows that were there before: read a part at a time in the order of the key, in the snapshot that ends a window.
//!
//! Because the window is delivered first and the rows are read in its own snapshot, no row is ever older than what was delivered, and no
//! snapshot has to be kept from one chunk to the next: another process may go on where this one was killed. Rows of which nothing is made
//! on the way can be read as text ([`AsText`]); all others are read as JSON.

use std::io::BufRead as _;
use std::sync::mpsc::SyncSender;

use jiff::Timestamp;
use minijinja::context;
use minijinja::value::{Serde, Value};
use postgres::error::{DbError, SqlState};
use serde::Serialize;

use super::ask::unasked;
use super::change::Change;
use super::lanes::Piece;
use super::row::Row;
use super::sources::SourceTable;
use super::stream::{Placed, init_offset};
use super::today::{Today, look_at};
use crate::errors::{Error, Kind, Result};
use crate::names::quote_ident;
use crate::pg::{Session, classify};
use crate::render::Renderer;
use crate::sink::TextColumn;

/// How many rows are read at once at most.
pub(super) const MOST_ROWS: usize = 5000;
/// How many are copied at once at most.
pub(super) const MOST_COPIED: usize = 50_000;
/// How many bytes go in one piece of rows as text.
const PIECE: usize = 64 << 10;

/// How a chunk went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Init {
    Some,
    Over,
    Interrupted,
}

/// Where the next rows of a table begin, and how many are wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Next {
    /// The place of the last row before them (see `templates/stream/place`; in hex when it is not UTF-8); `None`: from the first on.
    pub place: Option<String>,
    pub most: usize,
    /// The number of the first one in the window.
    pub number: i64,
}

/// Rows that were read, and where the next ones begin.
pub(super) struct Read {
    pub rows: Vec<Placed>,
    pub last: Option<String>,
}

/// Reads the next rows, in the snapshot that the session holds.
///
/// # Errors
/// [`Kind::Denied`] where row level security would hide rows; whatever the server answers.
pub(super) fn rows(
    session: &mut Session,
    renderer: &Renderer,
    source: &SourceTable,
    window_number: i64,
    next: &Next,
    table: usize,
) -> Result<Read> {
    let today = in_order(session, renderer, source)?;
    let sql = renderer.render_value(
        "stream/rows",
        context! {
            table => Value::from(Serde(&today.table)),
            columns => Value::from(Serde(&today.columns)),
            key => Value::from(Serde(today.key())),
            last => &next.place,
            at_once => today.is_compared_at_once(),
            limit => next.most,
            raw => source.texts.are_raw(),
        },
    )?;
    let rows = session.query(&sql, &[]).map_err(|error| refused(error, source))?;
    let time = Timestamp::now();
    let last = rows.last().map(|row| source.texts.exact(row, 1));
    let rows = rows
        .iter()
        .zip(next.number..)
        .map(|(row, number)| Placed {
            offset: init_offset(window_number, number),
            relation: i64::from(source.oid),
            replay: None,
            change: Change {
                table,
                txid: 0,
                position: 0,
                lsn: 0,
                time,
                key: source.texts.text(row, 0).0.into(),
                old: None,
                new: Some(Row::read(row, 2, &source.texts)),
                is_init: true,
            },
        })
        .collect();
    Ok(Read { rows, last })
}

/// Returns what places among the rows of a table mean today.
///
/// # Errors
/// As [`rows`].
pub(super) fn order(session: &mut Session, renderer: &Renderer, source: &SourceTable) -> Result<String> {
    Ok(in_order(session, renderer, source)?.order())
}

/// Looks up how the table is called today; one without a primary key has no order.
fn in_order(session: &mut Session, renderer: &Renderer, source: &SourceTable) -> Result<Today> {
    let today = look_at(session, renderer, source).map_err(unasked)?;
    if today.key().is_empty() {
        return Err(no_order(&source.names.name));
    }
    Ok(today)
}

/// The error of a table without a primary key.
pub(super) fn no_order(table: &impl std::fmt::Display) -> Error {
    Error::message(
        Kind::Refused,
        format!("table {table} has no primary key: its rows cannot be sent in an order"),
    )
    .hint("add a primary key, or name the other bindings: `--binding`")
}

fn refused(error: postgres::Error, source: &SourceTable) -> Error {
    let name = &source.names.name;
    let code = error.code().cloned();
    // The message may be in any language; which part of the server refused is not.
    let is_security = error.as_db_error().and_then(DbError::routine) == Some("check_enable_rls");
    let error = classify(error, &format!("read the rows of {name}"));
    match code {
        Some(SqlState::INSUFFICIENT_PRIVILEGE) if is_security => error.hint(
            "row level security must not hide rows from emaj: use the owner of the table, or a role with bypassrls",
        ),
        Some(SqlState::INSUFFICIENT_PRIVILEGE) => error.hint(format!(
            "connect as the table's owner, or let the role you connect as read it: \
             `grant usage on schema {} to …; grant select on {name} to …;`",
            quote_ident(&name.schema)
        )),
        _ => error,
    }
}

/// A table whose rows can be copied as text.
#[derive(Debug)]
pub(super) struct AsText {
    source: SourceTable,
    today: Today,
    columns: Vec<ReadColumn>,
}

#[derive(Debug, Serialize)]
struct ReadColumn {
    name: String,
    /// The function that tells the type of a JSON value.
    json: Option<&'static str>,
    #[serde(skip)]
    as_text: TextColumn,
}

impl AsText {
    /// Looks whether the text of each column says to another table what its JSON would say; `None`: of one it does not.
    ///
    /// # Errors
    /// The table has no primary key; whatever the server answers.
    pub(super) fn of(session: &mut Session, renderer: &Renderer, source: &SourceTable) -> Result<Option<Self>> {
        let today = in_order(session, renderer, source)?;
        if source.texts.are_raw() {
            return Ok(None);
        }
        let rows = session.query(&renderer.render("stream/text_types", ())?, &[&source.oid])?;
        let mut columns = Vec::with_capacity(today.columns.len());
        for column in &today.columns {
            let Some(row) = rows.iter().find(|row| row.get::<_, &str>(0) == column.name) else {
                return Ok(None);
            };
            let is_enum = row.get::<_, &str>(1) == "e";
            columns.push(ReadColumn {
                name: column.name.clone(),
                json: match row.get(3) {
                    "json" if !is_enum => Some("json_typeof"),
                    "jsonb" if !is_enum => Some("jsonb_typeof"),
                    _ => None,
                },
                as_text: TextColumn {
                    name: column.log.clone(),
                    // The label of an enum is a text to every type.
                    sql_type: (!is_enum).then(|| row.get(2)),
                },
            });
        }
        Ok(Some(AsText {
            source: source.clone(),
            today,
            columns,
        }))
    }

    /// Returns the columns in the order of the fields.
    pub(super) fn columns(&self) -> Vec<TextColumn> {
        self.columns.iter().map(|column| column.as_text.clone()).collect()
    }

    /// Returns the place of the last of the next rows, in the snapshot that the session holds; `None`: there are fewer.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(super) fn last_place(&self, session: &mut Session, renderer: &Renderer, next: &Next) -> Result<Option<String>> {
        let sql = renderer.render_value(
            "stream/key_after",
            context! {
                table => Value::from(Serde(&self.today.table)),
                key => Value::from(Serde(self.today.key())),
                last => &next.place,
                at_once => self.today.is_compared_at_once(),
                most => next.most,
            },
        )?;
        let row = session
            .query_opt(&sql, &[])
            .map_err(|error| refused(error, &self.source))?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Sends the rows behind `next.place` up to the one at `upto`, or to the end, piece by piece; returns how many bytes they were.
    /// Ends early when nobody takes them any more.
    ///
    /// # Errors
    /// As [`rows`].
    pub(super) fn read(
        &self,
        session: &mut Session,
        renderer: &Renderer,
        next: &Next,
        upto: Option<&str>,
        pieces: &SyncSender<Piece>,
    ) -> Result<usize> {
        let sql = renderer.render_value(
            "stream/copy",
            context! {
                table => Value::from(Serde(&self.today.table)),
                columns => Value::from(Serde(&self.columns)),
                key => Value::from(Serde(self.today.key())),
                last => &next.place,
                upto => upto,
                at_once => self.today.is_compared_at_once(),
            },
        )?;
        let mut reader = session.copy_out(&sql).map_err(|error| refused(error, &self.source))?;
        let (mut piece, mut bytes) = (Vec::with_capacity(PIECE + 1024), 0);
        loop {
            let read = reader.fill_buf().map_err(|error| self.broken(error))?;
            let length = read.len();
            piece.extend_from_slice(read);
            reader.consume(length);
            bytes += length;
            if piece.len() < PIECE && length > 0 {
                continue;
            }
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE + 1024));
            if pieces.send(Some(full)).is_err() || length == 0 {
                return Ok(bytes);
            }
        }
    }

    fn broken(&self, error: std::io::Error) -> Error {
        match error.downcast::<postgres::Error>() {
            Ok(error) => refused(error, &self.source),
            Err(error) => Error::new(Kind::Unreachable, error)
                .context(format!("failed to read the rows of {}", self.source.names.name)),
        }
    }
}
