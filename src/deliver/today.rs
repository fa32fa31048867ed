//! How a bound table and its columns are called today: rows are read under these names, and bindings know them by those of the last install.

use serde::Serialize;

use super::ask::fault;
use super::sources::SourceTable;
use crate::pg::Session;
use crate::render::Renderer;
use crate::sink::Fault;

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
}

/// A column under its present name and under the one that bindings use.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Column {
    pub name: String,
    pub log: String,
    pub r#type: String,
    pub is_key: bool,
    /// Its type is PostgreSQL's own: so are its operators.
    pub is_builtin: bool,
    /// Its type is a kind of text.
    pub is_text: bool,
    /// Values of its type that are equal are printed alike in a name, but for digits behind the point, and no others are.
    pub is_plain: bool,
    /// Values may be equal that are printed in two ways, and not only by digits behind the point.
    pub is_loose: bool,
    /// Schema and name of its collation, where that is not its type's.
    pub collation: Option<Vec<String>>,
    /// What the order of its values follows from: number, type and collation.
    #[serde(skip)]
    pub order: String,
}

impl Today {
    /// Returns the columns of the primary key, in its order.
    pub(super) fn key(&self) -> Vec<&Column> {
        self.columns.iter().filter(|column| column.is_key).collect()
    }

    /// Returns what a place among its rows means: that of another key means nothing here.
    pub(super) fn order(&self) -> String {
        let key: Vec<&str> = self.key().iter().map(|column| column.order.as_str()).collect();
        key.join(", ")
    }

    /// Tells whether keys may be one that are written in two ways.
    pub(super) fn has_loose_key(&self) -> bool {
        self.key().iter().any(|column| column.is_loose)
    }

    /// Tells whether the operators of its key are PostgreSQL's own.
    pub(super) fn is_key_builtin(&self) -> bool {
        self.key().iter().all(|column| column.is_builtin)
    }
}

/// Looks up how a table is called.
///
/// # Errors
/// The table is gone, or whatever the server answers.
pub(super) fn look_at(session: &mut Session, renderer: &Renderer, source: &SourceTable) -> Result<Today, Fault> {
    let sql = renderer.render("stream/columns", ()).map_err(Fault::never)?;
    let rows = session
        .query(&sql, &[&source.oid])
        .map_err(|error| fault(&error, "look at the table"))?;
    let Some(first) = rows.first() else {
        return Err(Fault::down("the bound table is gone: `emaj install` says what to do"));
    };
    Ok(Today {
        table: Name {
            schema: first.get(0),
            name: first.get(1),
        },
        columns: rows
            .iter()
            .filter_map(|row| {
                let attnum: i16 = row.get(5);
                let (_, log) = source.columns.iter().find(|(number, _)| *number == attnum)?;
                Some(Column {
                    name: row.get(2),
                    log: log.clone(),
                    r#type: row.get(3),
                    is_key: row.get::<_, i32>(4) >= 0,
                    is_builtin: row.get(6),
                    is_text: row.get(7),
                    is_plain: row.get(8),
                    is_loose: row.get(9),
                    collation: row.get(10),
                    order: row.get(11),
                })
            })
            .collect(),
    })
}
