//! The changes between two marks, for people and for other databases: every change, the ends of each key, or the net effect; as CSV,
//! as JSON, or as a script that does them again.
//!
//! Read by COPY in one snapshot, with the caller's own rights on the logs: memory does not grow with the changes. What goes to files
//! gets its names when all is complete. Called by `commands/changes`; the window is read by `journal`.

mod change;
mod place;
mod script;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use minijinja::context;
use minijinja::value::{Serde, Value};
use postgres::Transaction;
use serde::Serialize;

use crate::errors::{Error, Kind, Result};
use crate::journal::{self, Gap, LoggedTable, Window, WindowWanted};
use crate::names::file_name;
use crate::pg::{self, Interrupt, Rows, Session};
use crate::render::Renderer;

pub use change::{Change, Values};
use place::Place;

/// What is shown of the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum What {
    /// Every change.
    #[default]
    All,
    /// The first and the last state of each key that was touched.
    Ends,
    /// The net effect on each key.
    Net,
}

impl What {
    /// Returns the word of the command line and of the templates.
    pub fn word(self) -> &'static str {
        match self {
            What::All => "all",
            What::Ends => "ends",
            What::Net => "net",
        }
    }
}

/// Which changes are shown; what is empty lets all pass.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Filter {
    pub users: Vec<String>,
    /// `INS`, `UPD`, `DEL`, `TRU`.
    pub verbs: Vec<String>,
    pub txids: Vec<i64>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether it lets all pass.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
            && self.verbs.is_empty()
            && self.txids.is_empty()
            && self.since.is_none()
            && self.until.is_none()
    }
}

/// Which changes are wanted.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub window: WindowWanted<'a>,
    pub what: What,
    pub filter: Filter,
}

/// How they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Csv,
    Json,
    /// A script that does them again.
    Sql,
}

/// Where they go.
pub enum Target<'a> {
    Stream(&'a mut dyn Write),
    /// A file for each table, or one for the script; over what is there only with `force`.
    Directory {
        path: &'a Path,
        force: bool,
    },
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    pub window: String,
    /// What the logs do not tell of the window.
    pub gaps: Vec<Gap>,
    pub files: Vec<PathBuf>,
    pub bytes: u64,
}

/// Writes the changes.
///
/// # Errors
/// [`Kind::Refused`] for an unknown group, mark or table; where a table has no key and one is needed; where the logs do not tell all
/// and all is needed; where a file is there already. [`Kind::Usage`] for CSV of several tables in one stream. Whatever the server or
/// the file system answers; no file has got its name then.
pub fn write(
    session: &mut Session,
    schema: &str,
    wanted: &Wanted<'_>,
    form: Form,
    target: Target<'_>,
) -> Result<Written> {
    let interrupt = Interrupt::listen(session)?;
    let cause = |error| interrupt.cause(error);
    let mut transaction = begin(session, schema, wanted).map_err(cause)?;
    let written = gather(&mut transaction, schema, wanted, form, target, &interrupt).map_err(cause)?;
    drop(interrupt);
    let (window, place, bytes) = written;
    let files = place.finish()?;
    transaction.rollback()?;
    Ok(Written {
        window: window.words(),
        gaps: window.gaps,
        files,
        bytes,
    })
}

/// Reads the first `limit` changes in their order, across tables; the second value tells whether there are more.
///
/// # Errors
/// As [`write`].
pub fn first(
    session: &mut Session,
    schema: &str,
    wanted: &Wanted<'_>,
    limit: usize,
) -> Result<(Window, Vec<Change>, bool)> {
    let interrupt = Interrupt::listen(session)?;
    let cause = |error| interrupt.cause(error);
    let mut transaction = begin(session, schema, wanted).map_err(cause)?;
    let read = listed(&mut transaction, schema, wanted, limit).map_err(cause)?;
    transaction.rollback()?;
    Ok(read)
}

fn listed(
    transaction: &mut Transaction<'_>,
    schema: &str,
    wanted: &Wanted<'_>,
    limit: usize,
) -> Result<(Window, Vec<Change>, bool)> {
    let renderer = Renderer::new(schema);
    let window = prepared(transaction, schema, wanted, Form::Json)?;
    let mut changes = Vec::new();
    for table in &window.tables {
        let query = query(&renderer, &window, table, wanted, Form::Json, Some(limit + 1))?;
        let mut text = Vec::new();
        pg::copy_out(transaction, &query, Rows::Json, &reading(table), &mut |piece| {
            text.extend_from_slice(piece);
            Ok(())
        })?;
        for line in String::from_utf8_lossy(&text).lines() {
            changes.push(serde_json::from_str(line).map_err(|error| Error::new(Kind::Failed, error))?);
        }
    }
    if wanted.what == What::All {
        // Of equal places the order of the tables stays.
        changes.sort_by_key(Change::place);
    }
    let is_more = changes.len() > limit;
    changes.truncate(limit);
    Ok((window, changes, is_more))
}

fn begin<'s>(session: &'s mut Session, schema: &str, wanted: &Wanted<'_>) -> Result<Transaction<'s>> {
    let mut transaction = journal::begin_reading(session, schema, &wanted.window, false)?;
    transaction.batch_execute(&format!("{}; set local jit = off", pg::same_text()))?;
    Ok(transaction)
}

fn gather<'a>(
    transaction: &mut Transaction<'_>,
    schema: &str,
    wanted: &Wanted<'_>,
    form: Form,
    target: Target<'a>,
    interrupt: &Interrupt,
) -> Result<(Window, Place<'a>, u64)> {
    let renderer = Renderer::new(schema);
    let window = prepared(transaction, schema, wanted, form)?;
    let mut place = Place::new(target)?;
    let mut bytes = 0;
    if form == Form::Sql {
        place.open(&file_name(&window.group, ".sql", &mut BTreeSet::new()))?;
        bytes += script::write(transaction, &renderer, schema, &window, wanted, &mut place)?;
        return Ok((window, place, bytes));
    }
    if form == Form::Csv && place.is_stream() && window.tables.len() > 1 {
        let error = Error::message(Kind::Usage, "as CSV each table has its own columns");
        return Err(error.hint("`--dir DIR` writes a file for each; `--table TABLE` chooses one"));
    }
    let extension = if form == Form::Csv { ".csv" } else { ".json" };
    let mut taken = BTreeSet::new();
    for table in &window.tables {
        interrupt.check()?;
        let name = format!("{}_{}", table.schema, table.name);
        place.open(&file_name(&name, extension, &mut taken))?;
        let rows = if form == Form::Csv { Rows::Csv } else { Rows::Json };
        let query = query(&renderer, &window, table, wanted, form, None)?;
        bytes += pg::copy_out(transaction, &query, rows, &reading(table), &mut |piece| {
            place.write(piece)
        })?;
    }
    Ok((window, place, bytes))
}

fn reading(table: &LoggedTable) -> String {
    format!("read the changes of `{}`", table.label)
}

/// Reads the window and refuses what would not be right.
fn prepared(transaction: &mut Transaction<'_>, schema: &str, wanted: &Wanted<'_>, form: Form) -> Result<Window> {
    let mut window = journal::window(transaction, schema, &wanted.window)?;
    // (That they are missing is told by the gaps and the drift.)
    window.tables.retain(|table| !table.gone);
    let summed = wanted.what != What::All;
    if form == Form::Sql && wanted.what == What::Ends {
        return Err(Error::message(Kind::Usage, "a script has no first and last states")
            .hint("`--what all` does transaction after transaction again, `--what net` what they amount to"));
    }
    if !summed && form != Form::Sql {
        let drifted = Window::drifted(&window.drift);
        window.gaps.extend(drifted.map(|(said, _)| Gap::of_all(said)));
        return Ok(window);
    }
    if !wanted.filter.is_empty() {
        return Err(Error::message(
            Kind::Usage,
            "some of the changes of a key do not tell what all of them amount to",
        )
        .hint("roles, verbs, times and transactions can be chosen with `--what all` only, and not for a script"));
    }
    let what = match form {
        Form::Sql => "a script",
        Form::Csv | Form::Json => "what is summed up by key",
    };
    window.refuse_gaps(what, |_| true)?;
    window.refuse_drift(|_| true)?;
    let keyless: Vec<&str> = window
        .tables
        .iter()
        .filter(|table| table.key.is_empty())
        .map(|table| table.label.as_str())
        .collect();
    if !keyless.is_empty() {
        return Err(Error::message(
            Kind::Refused,
            format!(
                "without a primary key changes have no key to be summed up by: {}",
                keyless.join(", ")
            ),
        )
        .hint("`--what all` shows every change; `--table TABLE` chooses other tables"));
    }
    if form != Form::Sql {
        // (A script says it itself.)
        let left_out = left_out(&window.tables);
        let said = |(which, columns)| Gap::of_all(format!("columns {which} are left out: {columns}"));
        window.gaps.extend(left_out.map(said));
    }
    Ok(window)
}

/// Returns which columns are left out of what changes amount to, and why: it cannot be told of those that were not captured when the window
/// began, and of those that are not yet.
fn left_out(tables: &[LoggedTable]) -> impl Iterator<Item = (&'static str, String)> {
    let (mut later, mut never) = (Vec::new(), Vec::new());
    for table in tables {
        let named = |column: &String| format!("{}.{column}", table.label);
        later.extend(
            table
                .columns
                .iter()
                .filter(|column| !column.old)
                .map(|column| named(&column.name)),
        );
        never.extend(table.uncaptured.iter().map(named));
    }
    [("captured since later", later), ("not captured yet", never)]
        .into_iter()
        .filter(|(_, columns)| !columns.is_empty())
        .map(|(which, columns)| (which, columns.join(", ")))
}

fn query(
    renderer: &Renderer,
    window: &Window,
    table: &LoggedTable,
    wanted: &Wanted<'_>,
    form: Form,
    limit: Option<usize>,
) -> Result<String> {
    let (from, until) = window.borders();
    let template = if form == Form::Csv {
        "changes/csv"
    } else {
        "changes/json"
    };
    let values = context! {
        table => Value::from(Serde(table)), what => wanted.what.word(), from, until,
        filter => Value::from(Serde(&wanted.filter)), limit,
    };
    Ok(renderer.render_value(template, values)?)
}
