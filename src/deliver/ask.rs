//! What bindings ask the database beside the row: queries of the manifest, and rows that are alike.

use minijinja::context;
use minijinja::value::{Serde, Value};
use postgres::SimpleQueryMessage;
use serde::Serialize;

use super::binding::{ALIKE, Ask};
use super::row::Row;
use super::sources::Sources;
use super::today::look_at;
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
pub(super) fn settle(session: &mut Session, renderer: &Renderer) -> Result<(), Error> {
    session
        .batch_execute(&renderer.render("stream/settle", ())?)
        .map_err(|error| classify(error, "prepare to ask the database"))
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
        let source = &self.sources.tables[table];
        let today = look_at(self.session, self.renderer, source)?;
        let given: Vec<Given> = columns
            .iter()
            .filter_map(|(column, json)| {
                let name = today.columns.iter().find(|today| today.log == *column)?.name.clone();
                Some(Given::of(name, json))
            })
            .collect();
        let sql = self
            .renderer
            .render_value(
                "stream/alike",
                context! {
                    table => Value::from(Serde(&today.table)),
                    columns => Value::from(Serde(&today.columns)),
                    given => Value::from(Serde(given)),
                    skip => skip,
                    raw => source.texts.are_raw(),
                    most => ALIKE,
                },
            )
            .map_err(Fault::never)?;
        let rows = self.session.query(&sql, &[]).map_err(|error| fault(&error, "query"))?;
        Ok(rows.iter().map(|row| Row::read(row, 0, &source.texts)).collect())
    }
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

/// A column with the value that rows are to have in it.
#[derive(Serialize)]
struct Given {
    name: String,
    plain: Option<String>,
    nested: bool,
}

impl Given {
    fn of(name: String, json: &str) -> Self {
        let nested = json.starts_with(['{', '[']);
        let plain = match json {
            "null" => None,
            text if text.starts_with('"') => serde_json::from_str(text).ok(),
            text => Some(text.to_owned()),
        };
        Given { name, plain, nested }
    }
}
