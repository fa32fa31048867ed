//! What bindings ask the database beside the row: queries of the manifest, and rows that are alike.

use minijinja::context;
use minijinja::value::{Serde, Value};
use postgres::SimpleQueryMessage;
use serde::Serialize;

use super::binding::{ALIKE, Ask};
use super::row::Row;
use super::sources::Sources;
use crate::errors::Error;
use crate::pg::{Session, classify};
use crate::render::Renderer;
use crate::sink::Fault;

/// Asks over a connection of its own.
pub(super) struct Asker<'a> {
    pub session: &'a mut Session,
    pub renderer: &'a Renderer,
    pub sources: &'a Sources,
}

/// Prepares a connection for asking: values are printed as the log prints them, and what may not be seen is an error instead of a
/// wrong answer.
///
/// # Errors
/// Whatever the server answers.
pub(super) fn settle(session: &mut Session) -> Result<(), Error> {
    session
        .batch_execute(
            "set default_transaction_read_only = on; set row_security = off; set datestyle = 'ISO'; set intervalstyle = 'postgres';
             set extra_float_digits = 1; set bytea_output = 'hex'; set timezone = 'UTC'",
        )
        .map_err(|error| classify(error, "prepare to ask the database"))
}

/// A column under its present name and under the one that bindings use.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NamedColumn {
    pub name: String,
    pub log: String,
    pub r#type: String,
    pub is_key: bool,
    /// Its type is PostgreSQL's own: so are its operators.
    pub is_builtin: bool,
}

impl Ask for Asker<'_> {
    fn values(&mut self, query: &str) -> Result<Vec<String>, Fault> {
        let messages = self
            .session
            .simple_query(query)
            .map_err(|error| fault(&error, "query"))?;
        Ok(messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect())
    }

    fn alike(&mut self, table: usize, columns: &[(String, String)], skip: usize) -> Result<Vec<Row>, Fault> {
        let oid = self.sources.tables[table].oid;
        let named = columns_of(self.session, oid, &self.sources.tables[table].columns)?;
        let wanted: Vec<Wanted> = columns
            .iter()
            .filter_map(|(column, json)| {
                let name = named.columns.iter().find(|named| named.log == *column)?.name.clone();
                Some(Wanted::of(name, json))
            })
            .collect();
        let sql = self
            .renderer
            .render_value(
                "stream/alike",
                context! {
                    table => Value::from(Serde(&named.table)),
                    columns => Value::from(Serde(&named.columns)),
                    wanted => Value::from(Serde(wanted)),
                    skip => skip,
                    most => ALIKE,
                },
            )
            .map_err(Fault::never)?;
        let rows = self.session.query(&sql, &[]).map_err(|error| fault(&error, "query"))?;
        Ok(rows.iter().map(|row| Row::new(row.get::<_, &str>(0))).collect())
    }
}

/// A table under its present name, with those of its columns that the log has.
#[derive(Debug, Clone)]
pub(super) struct NamedTable {
    pub table: Named,
    pub columns: Vec<NamedColumn>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Named {
    pub schema: String,
    pub name: String,
}

/// Looks up how a bound table and its columns are called today.
///
/// # Errors
/// The table is gone, or whatever the server answers.
pub(super) fn columns_of(session: &mut Session, oid: u32, columns: &[(i16, String)]) -> Result<NamedTable, Fault> {
    let rows = session
        .query(
            "select n.nspname::text, c.relname::text, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod),
                    coalesce(pg_catalog.array_position(i.indkey::smallint[], a.attnum), -1), a.attnum,
                    exists (select from pg_catalog.pg_type y join pg_catalog.pg_namespace m on m.oid = y.typnamespace
                             where y.oid = a.atttypid and m.nspname = 'pg_catalog')
               from pg_catalog.pg_class c
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
               left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisprimary
              where c.oid = $1
              order by coalesce(pg_catalog.array_position(i.indkey::smallint[], a.attnum), 32767), a.attnum",
            &[&oid],
        )
        .map_err(|error| fault(&error, "look at the table"))?;
    let Some(first) = rows.first() else {
        return Err(Fault::down("the bound table is gone: `emaj install` says what to do"));
    };
    Ok(NamedTable {
        table: Named {
            schema: first.get(0),
            name: first.get(1),
        },
        columns: rows
            .iter()
            .filter_map(|row| {
                let attnum: i16 = row.get(5);
                Some(NamedColumn {
                    name: row.get(2),
                    log: columns.iter().find(|(number, _)| *number == attnum)?.1.clone(),
                    r#type: row.get(3),
                    is_key: row.get::<_, i32>(4) >= 0,
                    is_builtin: row.get(6),
                })
            })
            .collect(),
    })
}

/// What follows from an error of the database that the bindings are in: a lost connection is nobody's fault at the sink.
pub(super) fn fault(error: &postgres::Error, what: &str) -> Fault {
    match error.as_db_error() {
        Some(server) => match &server.code().code()[..2] {
            // Connection, resources, operator intervention, locks.
            "08" | "53" | "57" | "55" | "40" => Fault::later(format!("{what}: {}", server.message())),
            _ => Fault::never(format!("{what}: {}", server.message())),
        },
        None => Fault::down(format!("{what}: the connection to the database is lost")),
    }
}

#[derive(Serialize)]
struct Wanted {
    name: String,
    plain: Option<String>,
    nested: bool,
}

impl Wanted {
    fn of(name: String, json: &str) -> Self {
        let nested = json.starts_with(['{', '[']);
        let plain = match json {
            "null" => None,
            text if text.starts_with('"') => serde_json::from_str(text).ok(),
            text => Some(text.to_owned()),
        };
        Wanted { name, plain, nested }
    }
}
