//! How a bound table and its columns are called today: rows are read under these names, and bindings know them by those of the last install.

use std::collections::HashSet;

use postgres::Row;
use serde::Serialize;

use super::sources::SourceTable;
use crate::errors::{Kind, Result};
use crate::pg::Session;
use crate::render::Renderer;
use crate::sink::{Fault, of_source};

/// Which columns of `stream/columns` say this.
const PLACE: usize = 5;
const LOOSE: usize = 10;
const OID: usize = 13;

/// A table under its present name, with those of its columns that the log has.
#[derive(Debug, Clone)]
pub(super) struct Today {
    pub table: Name,
    /// Those of the primary key first, in its order.
    pub columns: Vec<Column>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Name {
    pub schema: String,
    pub name: String,
    /// Its rows are in its partitions.
    pub partitioned: bool,
}

/// A column under its present name and under the one that bindings use.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Column {
    pub name: String,
    pub log: String,
    pub r#type: String,
    pub is_key: bool,
    /// What compares values of a key, as statements have it: less, up to, equal, from, greater. Empty for other columns.
    pub operators: Vec<String>,
    /// Its type is a kind of text.
    pub is_text: bool,
    /// Values of its type that are equal are printed alike in a name, but for digits behind the point, and no others are.
    pub is_plain: bool,
    /// One value may be printed in two ways, and not only by digits behind the point: labels of an enum may be renamed.
    pub is_loose: bool,
    /// Schema and name of its collation, where that is not the database's.
    pub collation: Option<Vec<String>>,
    /// What its values' order, and how they are written, follow from: number, type and collation, and the labels of an enum.
    #[serde(skip)]
    pub order: String,
}

impl Today {
    /// Returns the columns of the primary key, in its order.
    pub(super) fn key(&self) -> Vec<&Column> {
        self.columns.iter().filter(|column| column.is_key).collect()
    }

    /// Returns what a place among its rows means: that of another key, or with labels that are no more, means nothing here.
    pub(super) fn order(&self) -> String {
        let key: Vec<&str> = self.key().iter().map(|column| column.order.as_str()).collect();
        key.join(", ")
    }

    /// Tells whether one operator compares all columns of the key at once, as an index on them does best.
    pub(super) fn is_compared_at_once(&self) -> bool {
        let mut key = self.columns.iter().filter(|column| column.is_key);
        let first = key.next().map(|column| &column.operators);
        key.all(|column| Some(&column.operators) == first)
    }

    /// Tells whether keys may be one that are written in two ways.
    pub(super) fn has_loose_key(&self) -> bool {
        self.key().iter().any(|column| column.is_loose)
    }
}

/// Returns the tables, of these (by oid), of which keys may be one that are written in two ways. (One that is gone is none of them.)
///
/// # Errors
/// Whatever the server answers.
pub(super) fn with_loose_keys(session: &mut Session, renderer: &Renderer, oids: &[u32]) -> Result<HashSet<u32>> {
    let rows = session.query(&renderer.render("stream/columns", ())?, &[&oids])?;
    let is_loose = |row: &&Row| row.get::<_, i32>(PLACE) >= 0 && row.get(LOOSE);
    Ok(rows.iter().filter(is_loose).map(|row| row.get(OID)).collect())
}

/// Looks up how a table is called.
///
/// # Errors
/// The table is gone, which is no fault of a change; whatever the server answers.
pub(super) fn look_at(session: &mut Session, renderer: &Renderer, source: &SourceTable) -> Result<Today, Fault> {
    let sql = renderer.render("stream/columns", ()).map_err(Fault::never)?;
    let rows = session
        .query(&sql, &[&[source.oid].as_slice()])
        .map_err(|error| of_source(&error, "look at the table"))?;
    let Some(first) = rows.first() else {
        let gone = format!("table {} is gone: `emaj install` says what to do", source.names.name);
        return Err(Fault::of_source(Kind::Failed, gone));
    };
    Ok(Today {
        table: Name {
            schema: first.get(0),
            name: first.get(1),
            partitioned: first.get(2),
        },
        columns: rows
            .iter()
            .filter_map(|row| {
                let attnum: i16 = row.get(6);
                let (_, log) = source.columns.iter().find(|(number, _)| *number == attnum)?;
                Some(Column {
                    name: row.get(3),
                    log: log.clone(),
                    r#type: row.get(4),
                    is_key: row.get::<_, i32>(PLACE) >= 0,
                    operators: row.get::<_, Option<Vec<String>>>(7).unwrap_or_default(),
                    is_text: row.get(8),
                    is_plain: row.get(9),
                    is_loose: row.get(LOOSE),
                    collation: row.get(11),
                    order: row.get(12),
                })
            })
            .collect(),
    })
}
