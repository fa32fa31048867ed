//! What bindings ask the database beside the row: queries of the manifest, and rows that are alike.

use std::collections::BTreeSet;

use minijinja::context;
use minijinja::value::{Serde, Value};
use postgres::SimpleQueryMessage;
use postgres::error::SqlState;
use postgres::types::PgLsn;
use serde::Serialize;

use super::binding::{Ask, Awaited, Later, Look, Namesakes};
use super::escape::Statement;
use super::raw::Texts;
use super::row::Row;
use super::sources::{SourceTable, Sources};
use super::today::{Column, Today, look_at};
use crate::errors::{Error, Kind};
use crate::journal::{LogColumn, Position};
use crate::pg::{self, OWN_PATH, PATH_OF_ROLE, Session, classify};
use crate::render::Renderer;
use crate::sink::{Fault, Verdict, of_source};

/// Asks over a connection of its own.
pub(super) struct Asker<'a> {
    pub session: &'a mut Session,
    pub renderer: &'a Renderer,
    pub sources: &'a Sources,
    /// How far the sink has come; `None`: rows are sent, and the log is none of their business.
    pub passed: Option<Passed<'a>>,
    /// Who has names that rows give up, where that was asked for all of them; `None`: it is asked for each.
    pub namesakes: Option<&'a Namesakes>,
}

impl<'a> Asker<'a> {
    /// Asks for each name when it is needed. `passed` is how far the sink has come; `None`: rows are sent.
    pub(super) fn new(
        session: &'a mut Session,
        renderer: &'a Renderer,
        sources: &'a Sources,
        passed: Option<Passed<'a>>,
    ) -> Self {
        Asker {
            session,
            renderer,
            sources,
            passed,
            namesakes: None,
        }
    }
}

/// How far a sink has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed<'a> {
    /// Everything before was delivered, perhaps long ago.
    pub from: &'a Position,
    /// Of a window behind that, which is under way, what stands before this place in the WAL; `None`: nothing of what comes after is delivered.
    pub place: Option<u64>,
}

/// Prepares a connection for asking: values are printed as the log prints them, what may not be seen is an error instead of a
/// wrong answer, and it may take its time.
///
/// # Errors
/// Whatever the server answers.
pub(super) fn settle(session: &mut Session, renderer: &Renderer) -> Result<(), Error> {
    session.without_limits()?;
    session
        .batch_execute(&renderer.render_value("stream/settle", context! { same_values => pg::same_values("set") })?)
        .map_err(|error| classify(error, "prepare to ask the database"))
}

impl Ask for Asker<'_> {
    fn values(&mut self, query: &Statement) -> Result<Vec<String>, Fault> {
        let messages = match query.values.as_slice() {
            [] => self.session.simple_query(&by_path_of_role(&query.text)),
            _ => with_values(self.session, self.renderer, query).map_err(Fault::never)?,
        };
        Ok(messages
            .map_err(|error| of_query(&error))?
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect())
    }

    fn namesakes(
        &mut self,
        table: usize,
        key: &[String],
        columns: &[(String, BTreeSet<&str>)],
        exact: bool,
        look: Look<'_>,
    ) -> Result<(), Fault> {
        let source = &self.sources.tables[table];
        let today = look_at(self.session, self.renderer, source)?;
        let given: Vec<OneOf> = columns
            .iter()
            .filter_map(|(column, values)| {
                let texts = values.iter().filter_map(|json| plain(json));
                OneOf::of(today.columns.iter().find(|today| today.log == *column)?, texts, exact)
            })
            .collect();
        let is_said = |column: &String| given.iter().any(|given| given.log == *column && !given.folded);
        if !key.is_empty() && key.iter().all(is_said) {
            return Ok(());
        }
        self.show_alike(table, &today, &given, look)
    }

    fn with_one_of(
        &mut self,
        table: usize,
        columns: &[(String, BTreeSet<String>)],
        exact: bool,
        look: Look<'_>,
    ) -> Result<(), Fault> {
        let today = look_at(self.session, self.renderer, &self.sources.tables[table])?;
        let mut given = Vec::new();
        for (column, values) in columns {
            let Some(column) = today.columns.iter().find(|today| today.log == *column) else {
                continue;
            };
            let texts: Vec<String> = values.iter().filter_map(|json| plain(json)).collect();
            if texts.iter().any(|text| may_hold(column, text).is_none()) {
                continue;
            }
            let texts = texts.into_iter().filter(|text| may_hold(column, text) == Some(true));
            match OneOf::of(column, texts, exact) {
                Some(one) => given.push(one),
                // No row can have one of them.
                None => return Ok(()),
            }
        }
        self.show_alike(table, &today, &given, look)
    }

    fn known(&self) -> Option<&Namesakes> {
        self.namesakes
    }

    fn later(&mut self, table: usize, awaited: &[Awaited]) -> Result<Vec<Option<Later>>, Fault> {
        let mut later = vec![None; awaited.len()];
        let Some(passed) = self.passed else {
            return Ok(later);
        };
        let source = &self.sources.tables[table];
        let logs = self.searched_logs(table);
        if logs.is_empty() {
            return Ok(later);
        }
        let context = context! {
            logs => Value::from(Serde(logs)),
            from => passed.from.border(),
            raw => source.texts.are_raw(),
        };
        let sql = self
            .renderer
            .render_value("stream/later", context)
            .map_err(Fault::never)?;
        let keys: Vec<&str> = awaited.iter().map(|one| one.key.as_str()).collect();
        let behind: Vec<&str> = awaited.iter().map(|one| one.behind.as_str()).collect();
        let later_by = |n: u64| -> Vec<PgLsn> {
            let place = |one: &Awaited| passed.place.map_or(0, |place| (one.position + n).max(place));
            awaited.iter().map(|one| PgLsn::from(place(one))).collect()
        };
        let rows = self
            .session
            .query(&sql, &[&keys, &behind, &later_by(0), &later_by(1)])
            .map_err(|error| unread_log(&error))?;
        for row in &rows {
            let number = row.get::<_, i64>(0) as usize - 1;
            later[number] = Some(Later {
                is_new: row.get(1),
                is_moved: row.get(2),
                row: Row::read(row, 3, &source.texts),
            });
        }
        Ok(later)
    }

    fn became(&mut self, table: usize, awaited: &[Awaited]) -> Result<Vec<Option<String>>, Fault> {
        let mut became = vec![None; awaited.len()];
        let logs = self.searched_logs(table);
        // (Where rows are sent, their keys are those of today. Of texts that may be in any encoding the keys are not compared here.)
        let is_raw = self.sources.tables[table].texts.are_raw();
        if logs.is_empty() || awaited.is_empty() || self.passed.is_none() || is_raw {
            return Ok(became);
        }
        let context = context! { logs => Value::from(Serde(logs)) };
        let sql = self
            .renderer
            .render_value("stream/became", context)
            .map_err(Fault::never)?;
        let keys: Vec<&str> = awaited.iter().map(|one| one.key.as_str()).collect();
        let places: Vec<PgLsn> = awaited.iter().map(|one| PgLsn::from(one.position)).collect();
        let rows = self.session.query(&sql, &[&keys, &places]);
        for row in &rows.map_err(|error| unread_log(&error))? {
            became[row.get::<_, i64>(0) as usize - 1] = row.get(1);
        }
        Ok(became)
    }
}

impl Asker<'_> {
    /// The logs of a table, where rows are looked for by their keys.
    fn searched_logs(&self, table: usize) -> Vec<SearchedLog<'_>> {
        let logs = self.sources.logs.iter();
        logs.filter(|(number, log)| *number == table && !log.key.is_empty())
            .map(|(_, log)| SearchedLog {
                log: &log.log,
                columns: &log.columns,
                key: &log.key,
            })
            .collect()
    }

    /// Shows the rows of a table that may have in each column one of the texts that are given of it.
    fn show_alike(&mut self, table: usize, today: &Today, given: &[OneOf], look: Look<'_>) -> Result<(), Fault> {
        let source = &self.sources.tables[table];
        let context = context! {
            table => Value::from(Serde(&today.table)),
            columns => Value::from(Serde(&today.columns)),
            given => Value::from(Serde(given)),
            raw => source.texts.are_raw(),
        };
        let sql = self
            .renderer
            .render_value("stream/alike", context)
            .map_err(Fault::never)?;
        self.show(&sql, source, look)
    }

    /// Shows the rows of a table that a query gives, until `look` has seen enough.
    fn show(&mut self, sql: &str, source: &SourceTable, look: Look<'_>) -> Result<(), Fault> {
        match shown(self.session, sql, &source.texts, look) {
            Ok(looked) => looked,
            Err(error) => Err(unread(self.session, &error, source)),
        }
    }
}

/// Says that a log cannot be read.
fn unread_log(error: &postgres::Error) -> Fault {
    match error.code() {
        // An install has it follow its table, while the rest of a window is kept beside: then all is looked up anew.
        Some(&SqlState::UNDEFINED_COLUMN | &SqlState::UNDEFINED_TABLE) => {
            Fault::of_source(Kind::Failed, "a log was changed by an installation")
        }
        _ => of_source(error, "the log"),
    }
}

/// Shows the rows that a query gives, until `look` has seen enough; within is what `look` failed with.
fn shown(
    session: &mut Session,
    sql: &str,
    texts: &Texts,
    look: Look<'_>,
) -> Result<Result<(), Fault>, postgres::Error> {
    let mut transaction = session.transaction()?;
    let portal = transaction.bind(sql, &[])?;
    // The first is mostly enough.
    for most in std::iter::once(10).chain(std::iter::repeat(1_000)) {
        let rows = transaction.query_portal(&portal, most)?;
        for row in &rows {
            match look(&Row::read(row, 0, texts)) {
                Ok(false) => {}
                Ok(true) => return Ok(Ok(())),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        if rows.len() < most as usize {
            break;
        }
    }
    Ok(Ok(()))
}

/// A log in which a row is looked for.
#[derive(Serialize)]
struct SearchedLog<'a> {
    log: &'a str,
    columns: &'a [LogColumn],
    key: &'a [String],
}

/// What names nothing that is there, cannot be read, or may not be asked: of the text of a query it is said whatever row it is asked for.
const OF_THE_TEXT: &[SqlState] = &[
    SqlState::SYNTAX_ERROR,
    SqlState::UNDEFINED_TABLE,
    SqlState::UNDEFINED_COLUMN,
    SqlState::UNDEFINED_FUNCTION,
    SqlState::INSUFFICIENT_PRIVILEGE,
];

/// Returns what an error of a query causes. (What a function within it stumbles over has a context, and may be about this row.)
fn of_query(error: &postgres::Error) -> Fault {
    let fault = of_source(error, "query");
    match error.as_db_error() {
        Some(server) if server.where_().is_none() && OF_THE_TEXT.contains(server.code()) => {
            let kind = match *server.code() == SqlState::INSUFFICIENT_PRIVILEGE {
                true => Kind::Denied,
                false => Kind::Failed,
            };
            Fault::of_source(kind, fault.reason)
        }
        _ => fault,
    }
}

/// Has a query go by the path of the role, and what is asked after it by emaj's own. When it fails, that is as it was: it is one transaction.
fn by_path_of_role(query: &str) -> String {
    // (It may end with a comment.)
    format!("{PATH_OF_ROLE}; {query}\n; {OWN_PATH}")
}

/// Asks a query with parameters; the answer comes as text, as it does without parameters. A parameter is of the type that the server
/// finds for it, like a bare literal, and a text where it finds none.
fn with_values(
    session: &mut Session,
    renderer: &Renderer,
    query: &Statement,
) -> Result<Result<Vec<SimpleQueryMessage>, postgres::Error>, Error> {
    let mut types = vec!["unknown"; query.values.len()];
    loop {
        let prepare = renderer.render_value("query/prepare", context! { types => &types, text => &query.text })?;
        let Err(error) = session.batch_execute(&format!("{PATH_OF_ROLE}; {prepare}")) else {
            break;
        };
        match without_type(&error).and_then(|number| types.get_mut(number)) {
            Some(found) if *found == "unknown" => *found = "text",
            _ => return Ok(Err(error)),
        }
    }
    let ask = renderer.render_value("query/ask", context! { values => &query.values })?;
    let answer = session.simple_query(&ask);
    let forget = renderer.render("query/forget", ())?;
    let forgotten = session.batch_execute(&format!("{forget}; {OWN_PATH}"));
    Ok(answer.and_then(|messages| forgotten.map(|()| messages)))
}

/// Returns which parameter, counted from 0, the server finds no type for.
fn without_type(error: &postgres::Error) -> Option<usize> {
    let server = error.as_db_error()?;
    if *server.code() != SqlState::INDETERMINATE_DATATYPE {
        return None;
    }
    // (The words around it are in the server's language.)
    let (_, after) = server.message().split_once('$')?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse::<usize>().ok()?.checked_sub(1)
}

/// What it means to a courier that there is no answer: a lost connection mends itself, and whatever else is in the way is put on record.
pub(super) fn unasked(fault: Fault) -> Error {
    let kind = fault.of_source.unwrap_or(match fault.verdict {
        Verdict::Down => Kind::Unreachable,
        _ => Kind::Failed,
    });
    Error::message(kind, fault.reason)
}

/// Like [`unasked`], of a question about a whole chunk: whatever may pass by itself is waited for.
pub(super) fn not_now(fault: Fault) -> Error {
    unasked(match fault.verdict {
        Verdict::Later => Fault {
            verdict: Verdict::Down,
            ..fault
        },
        _ => fault,
    })
}

/// What follows when the rows of a bound table cannot be read. Where the worker's role may not, that is about every change for which they are asked:
/// the sink waits until it may.
pub(super) fn unread(session: &mut Session, error: &postgres::Error, source: &SourceTable) -> Fault {
    let is_denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    match is_denied.then(|| Rights::of(session, source.oid)).flatten() {
        Some(rights) => Fault::of_source(Kind::Denied, rights.told()),
        None => of_source(error, "the table"),
    }
}

/// What the worker's role may do with a bound table; names are quoted.
struct Rights {
    role: String,
    schema: String,
    table: String,
    usage: bool,
    select: bool,
}

impl Rights {
    fn of(session: &mut Session, oid: u32) -> Option<Self> {
        let sql = "select pg_catalog.quote_ident(current_user), pg_catalog.quote_ident(n.nspname), pg_catalog.quote_ident(c.relname),
                          pg_catalog.has_schema_privilege(n.oid, 'usage'), pg_catalog.has_table_privilege(c.oid, 'select')
                     from pg_catalog.pg_class c
                     join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                    where c.oid = $1";
        let row = session.query_opt(sql, &[&oid]).ok()??;
        Some(Rights {
            role: row.get(0),
            schema: row.get(1),
            table: row.get(2),
            usage: row.get(3),
            select: row.get(4),
        })
    }

    /// Says what is missing, and the statement that gives it.
    fn told(&self) -> String {
        let Rights {
            role, schema, table, ..
        } = self;
        let table = format!("{schema}.{table}");
        let usage = (!self.usage).then(|| format!("grant usage on schema {schema} to {role}"));
        let select = (!self.select).then(|| format!("grant select on {table} to {role}"));
        let grants: Vec<String> = usage.into_iter().chain(select).collect();
        let (lacks, mend) = match grants.is_empty() {
            true => (
                "sees not all rows of it (row-level security)",
                format!("alter role {role} bypassrls"),
            ),
            false => ("may not", grants.join("; ")),
        };
        format!("table {table} has to be read to know what its other rows give, and role {role} {lacks}: `{mend}`")
    }
}

/// Tells whether a text may be that of a value of a column; `None`: of this type that is not known here.
fn may_hold(column: &Column, text: &str) -> Option<bool> {
    match column.r#type.as_str() {
        _ if column.is_text => Some(true),
        "smallint" => Some(text.parse::<i16>().is_ok()),
        "integer" => Some(text.parse::<i32>().is_ok()),
        "bigint" => Some(text.parse::<i64>().is_ok()),
        "uuid" => Some(is_uuid(text)),
        _ => None,
    }
}

/// Tells whether a text is a UUID as PostgreSQL prints it.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

/// Returns the text of a value that is given as JSON; `None` for null.
fn plain(json: &str) -> Option<String> {
    (json != "null").then(|| serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()))
}

/// A column with the texts of which rows are to have one.
#[derive(Serialize)]
struct OneOf {
    name: String,
    log: String,
    texts: BTreeSet<String>,
    /// Upper and lower case make no difference: the texts are in lower case, and ASCII.
    folded: bool,
    /// A text with letters beyond ASCII may be one of them too: of these the database may not know the other case.
    beyond: bool,
    collation: Option<Vec<String>>,
}

impl OneOf {
    /// `None`: there are none, or of this type it cannot be said which values are printed alike.
    fn of(column: &Column, texts: impl IntoIterator<Item = String>, exact: bool) -> Option<Self> {
        if !column.is_text && !column.is_plain {
            return None;
        }
        let folded = column.is_text && !exact;
        let (mut all, mut beyond) = (BTreeSet::new(), false);
        for mut text in texts {
            if folded && !text.is_ascii() {
                beyond = true;
                continue;
            }
            if folded {
                text.make_ascii_lowercase();
            }
            if column.is_text {
                // (As `character(n)` is as text.)
                all.insert(text.trim_end_matches(' ').to_owned());
            }
            all.insert(text);
        }
        (beyond || !all.is_empty()).then(|| OneOf {
            name: column.name.clone(),
            log: column.log.clone(),
            texts: all,
            folded,
            beyond,
            collation: column.collation.clone(),
        })
    }
}
