//! The tables of a group as they were at a mark, for one query.
//!
//! Views of the session are called as the tables are and come before them in every search path: the rows of now, without those that
//! have changed since, and with what they were. All of it is in one transaction that is taken back; nothing is locked but as by any
//! reader. Called by `commands/at`.

use std::collections::HashMap;

use minijinja::context;
use minijinja::value::{Serde, Value};
use postgres::error::SqlState;
use postgres::{SimpleQueryMessage, Transaction};
use serde::Serialize;

use crate::errors::{Error, Kind, Result};
use crate::journal::{self, LoggedTable, Window, WindowWanted};
use crate::names::quote_ident;
use crate::pg::{self, Doing as _, Interrupt, Rows, Session};
use crate::render::Renderer;

/// How many places of rows may stand in a view as constants: a list is hashed, and quicker than a join.
const MOST_PLACES: u64 = 20_000;

/// Types of a key whose values may stand there instead of places, which have to be looked up: they are written as they are compared.
const PLAIN_KEYS: [&str; 4] = ["smallint", "integer", "bigint", "uuid"];

/// Whether a log has been rotated: then a place says where a row is together with its part only. And whether the server hashes a list that a value
/// must not be in, as PostgreSQL does from 15 on.
const HAS_PARTS_AND_HASHES: &str =
    "select exists (select from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhparent
                    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2),
            pg_catalog.current_setting('server_version_num')::integer >= 150000";

/// The columns of those tables that have virtual ones (18), which no log has: these with what computes them, and with what that reads. The type is said: a cast that
/// the declaration implies is not written in the expression.
const COLUMNS_WITH_VIRTUAL: &str =
    "select a.attrelid, a.attname::text,
            case when a.attgenerated = 'v'
                 then pg_catalog.format('(%s)::%s', pg_catalog.pg_get_expr(d.adbin, d.adrelid), pg_catalog.format_type(a.atttypid, a.atttypmod))
                      || coalesce((select pg_catalog.format(' collate %I.%I', n.nspname, c.collname)
                                     from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace
                                    where c.oid = a.attcollation), '') end,
            array(select u.attname::text
                    from pg_catalog.pg_depend p
                    join pg_catalog.pg_attribute u on u.attrelid = p.refobjid and u.attnum = p.refobjsubid
                   where p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass and p.objid = d.oid
                     and p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and p.refobjid = a.attrelid and p.refobjsubid <> a.attnum)
       from pg_catalog.pg_attribute a
       left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid in (select attrelid from pg_catalog.pg_attribute where attrelid = any ($1) and attgenerated = 'v' and not attisdropped)
        and a.attnum > 0
        and not a.attisdropped
      order by a.attrelid, a.attnum";

/// The view that the query itself is made into, to see what it reads.
const QUERY: &str = "emaj: the query";

/// The answer of a query.
pub struct Answer<'a> {
    /// CSV with a heading, or a JSON object a line.
    pub rows: Rows,
    pub take: &'a mut dyn FnMut(&[u8]) -> Result<()>,
}

/// Rows as text, for people.
#[derive(Debug, Default)]
pub struct Found {
    pub columns: Vec<String>,
    /// None is null.
    pub rows: Vec<Vec<Option<String>>>,
}

/// A query that may be asked.
struct Asked<'q> {
    /// Without what ends it.
    query: &'q str,
    columns: Vec<Column>,
}

/// A column of its answer.
#[derive(Serialize)]
struct Column {
    name: String,
    builtin: bool,
}

/// A column that a view shows.
#[derive(Serialize)]
struct Shown {
    bare: String,
    /// What computes it, where it is virtual.
    computed: Option<String>,
}

/// Streams the answer of `query`, asked of the tables of `group` as they were at `mark`.
///
/// # Errors
/// [`Kind::Refused`] for an unknown group or mark, where the log does not tell all that happened since, and where the query reads a
/// table of the group by another way than its bare name; whatever the server answers.
pub fn stream(
    session: &mut Session,
    schema: &str,
    group: &str,
    mark: &str,
    query: &str,
    answer: Answer<'_>,
) -> Result<()> {
    let Answer { rows, take } = answer;
    within(session, schema, group, mark, query, &mut |transaction, asked| {
        let whole = match rows {
            Rows::Json => Renderer::new(schema).render_value(
                "past/json",
                context! { query => asked.query, columns => Value::from(Serde(&asked.columns)) },
            )?,
            _ => format!("\n{}\n", asked.query),
        };
        pg::copy_out(transaction, &whole, rows, "run the query", take).map(|_| ())
    })
}

/// Like [`stream`], with the whole answer in memory.
///
/// # Errors
/// As [`stream`].
pub fn read(session: &mut Session, schema: &str, group: &str, mark: &str, query: &str) -> Result<Found> {
    let mut found = Found::default();
    within(session, schema, group, mark, query, &mut |transaction, asked| {
        let messages = transaction
            .simple_query(asked.query)
            .doing_in("run the query", asked.query)?;
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    found.columns = columns.iter().map(|column| column.name().to_owned()).collect();
                }
                SimpleQueryMessage::Row(row) => {
                    found
                        .rows
                        .push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
                }
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok(found)
}

fn within(
    session: &mut Session,
    schema: &str,
    group: &str,
    mark: &str,
    query: &str,
    work: &mut dyn FnMut(&mut Transaction<'_>, &Asked<'_>) -> Result<()>,
) -> Result<()> {
    let interrupt = Interrupt::listen(session)?;
    let cause = |error| interrupt.cause(error);
    let wanted = WindowWanted {
        group,
        from: Some(mark),
        ..WindowWanted::default()
    };
    let mut transaction = journal::begin_reading(session, schema, &wanted, true).map_err(cause)?;
    let done = prepare(&mut transaction, schema, &wanted, query)
        .and_then(|asked| work(&mut transaction, &asked))
        .map_err(cause);
    let undone = transaction.rollback().doing("take back the views of the past");
    // (What ended the session is said by the first that heard of it.)
    done.and(undone)
}

/// Makes the views and sees to it that the query reads nothing of the group but by them.
fn prepare<'q>(
    transaction: &mut Transaction<'_>,
    schema: &str,
    wanted: &WindowWanted<'_>,
    query: &'q str,
) -> Result<Asked<'q>> {
    let query = query.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    // Rows that a policy hides would be hidden now, and not in the log.
    transaction
        .batch_execute("set local row_security = off")
        .doing("switch row level security off")?;
    let window = journal::window(transaction, schema, wanted)?;
    // What the log of one table does not tell is no hindrance to a query of the others.
    window.refuse_gaps(READS, |_| false)?;
    let renderer = Renderer::new(schema);
    let (path, tables) = bare(transaction, &window)?;
    let mut shown = with_virtual(transaction, &tables)?;
    let mut shadows = Vec::new();
    for table in tables {
        let shown = shown.remove(&table.oid).unwrap_or_default();
        if shadow(transaction, &renderer, &window, table, &shown)? {
            shadows.push(table.name.as_str());
        }
    }
    // A path may name the place of temporary objects last.
    let path = ["pg_temp", &path].join(if path.is_empty() { "" } else { ", " });
    set_path(transaction, &path)?;
    let names = understand(transaction, query).map_err(|error| {
        let missed: Vec<&str> = window.gaps.iter().map(|gap| gap.what.as_str()).collect();
        let missed = (!missed.is_empty()).then(|| format!("not all of it is in the log: {}", missed.join("; ")));
        let drifted = "tables of the group have drifted from what was installed: `emaj drift` shows them";
        let drifted = (!window.drift.is_empty()).then(|| drifted.to_owned());
        drifted.into_iter().chain(missed).fold(error, Error::hint)
    })?;
    // What follows is ours again.
    set_path(transaction, OUR_PATH)?;
    check(transaction, &renderer, &window, &shadows)?;
    let columns = columns(transaction, names)?;
    set_path(transaction, &path)?;
    transaction
        .batch_execute("set transaction read only")
        .doing("make the transaction read only")?;
    Ok(Asked { query, columns })
}

/// What needs all changes.
const READS: &str = "to read the past";

/// What names that are not qualified mean in our own questions.
const OUR_PATH: &str = "pg_catalog, pg_temp";

fn set_path(transaction: &mut Transaction<'_>, path: &str) -> Result<()> {
    transaction
        .execute("select pg_catalog.set_config('search_path', $1, true)", &[&path])
        .doing("set the search path")?;
    Ok(())
}

/// Makes a view of a table, and says whether it shows the past. What cannot be read as it was is shown as it is now, so that a query of it is known
/// by that: a table that has drifted, or whose log does not tell all; one with heirs, of which a view of its own rows is not the whole; one that has
/// changed and has no key.
fn shadow(
    transaction: &mut Transaction<'_>,
    renderer: &Renderer,
    window: &Window,
    table: &LoggedTable,
    shown: &[Shown],
) -> Result<bool> {
    let has_drifted = window.drift.iter().any(|one| one.relation == table.relation);
    let is_missed = window.gaps.iter().any(|gap| gap.relation == Some(table.relation));
    if table.heirs || has_drifted || is_missed {
        present(transaction, table)?;
        return Ok(false);
    }
    let logged = Value::from(Serde(table));
    let (from, _) = window.borders();
    let question = renderer.render_value("changes/touched", context! { table => &logged, from, until => () })?;
    let touched: bool = transaction
        .query_one(&question, &[])
        .doing_in(&format!("look for changes of {}", table.label), &question)?
        .get(0);
    if touched && table.key.is_empty() {
        present(transaction, table)?;
        return Ok(false);
    }
    let what = if touched {
        changed(transaction, renderer, window, table)?
    } else {
        context! { touched }
    };
    let view = renderer.render_value(
        "past/view",
        context! { table => &logged, shown => Value::from(Serde(shown)), ..what },
    )?;
    transaction
        .batch_execute(&view)
        .doing_in(&format!("make a view of {}", table.label), &view)?;
    Ok(true)
}

/// Makes a view of a table as it is now, unless it is gone: another one may be called as it was.
fn present(transaction: &mut Transaction<'_>, table: &LoggedTable) -> Result<()> {
    if called(transaction, &[&table.label])? != [Some(table.oid)] {
        return Ok(());
    }
    let (name, label) = (quote_ident(&table.name), &table.label);
    transaction
        .batch_execute(&format!("create temporary view {name} as select * from {label}"))
        .doing(&format!("make a view of {label}"))
}

/// Notes what the rows of a table were that have changed; returns how its view finds them.
fn changed(
    transaction: &mut Transaction<'_>,
    renderer: &Renderer,
    window: &Window,
    table: &LoggedTable,
) -> Result<Value> {
    let row = transaction
        .query_one(HAS_PARTS_AND_HASHES, &[&renderer.schema(), &table.log])
        .doing(&format!("look at the log of {}", table.label))?;
    let (parts, hashes): (bool, bool) = (row.get(0), row.get(1));
    let name = format!("emaj: past {}", table.relation);
    let by_key = matches!(table.key.as_slice(), [only] if PLAIN_KEYS.contains(&only.r#type.as_str()));
    let (from, _) = window.borders();
    let values = context! { table => Value::from(Serde(table)), name => &name, from, parts, by_key, touched => true };
    let states = renderer.render_value("past/states", values.clone())?;
    // To compile what compares a few rows takes longer than to compare them. And it compares images as text; the query itself is answered in the
    // settings of the role.
    let states = [
        "set local jit = off;\n",
        &pg::same_values("set local"),
        &states,
        ";\n",
        &pg::values_of_role(),
    ]
    .concat();
    let doing = format!("find what rows of {} were", table.label);
    let done = transaction.simple_query(&states).doing_in(&doing, &states)?;
    let count = done.iter().map(rows_of).max();
    let constants = count.unwrap_or(0) <= MOST_PLACES && !table.partitioned && hashes;
    if constants {
        let arrays = renderer.render_value("past/arrays", values.clone())?;
        transaction.batch_execute(&arrays).doing_in(&doing, &arrays)?;
    } else {
        let analyze = format!("analyze pg_temp.{}", quote_ident(&name));
        transaction.batch_execute(&analyze).doing(&doing)?;
    }
    transaction.batch_execute("reset jit").doing(&doing)?;
    Ok(context! { constants, ..values })
}

/// Returns how many rows a statement was about.
fn rows_of(message: &SimpleQueryMessage) -> u64 {
    match message {
        SimpleQueryMessage::CommandComplete(rows) => *rows,
        _ => 0,
    }
}

/// Returns the search path of the role, and the tables that a bare name means by it: of several with one name the one that it finds first.
fn bare<'w>(transaction: &mut Transaction<'_>, window: &'w Window) -> Result<(String, Vec<&'w LoggedTable>)> {
    let doing = "read the search path of the role";
    transaction
        .batch_execute("set local search_path to default")
        .doing(doing)?;
    let path: String = transaction
        .query_one("select pg_catalog.current_setting('search_path')", &[])
        .doing(doing)?
        .get(0);
    let mut tables: Vec<&LoggedTable> = window.tables.iter().collect();
    // What was captured anew is among them twice.
    tables.dedup_by_key(|table| table.oid);
    let names: Vec<String> = tables.iter().map(|table| quote_ident(&table.name)).collect();
    let found = called(transaction, &names)?;
    set_path(transaction, OUR_PATH)?;
    let is_meant = |table: &LoggedTable, found: Option<u32>| {
        let is_other = |other: &LoggedTable| other.name == table.name && other.schema != table.schema;
        found == Some(table.oid) || found.is_none() && !window.tables.iter().any(is_other)
    };
    let meant = tables
        .into_iter()
        .zip(found)
        .filter(|(table, found)| is_meant(table, *found));
    Ok((path, meant.map(|(table, _)| table).collect()))
}

/// Returns the columns of those tables that have virtual ones, in their order; none that was not there at the mark, or that is computed with such a one.
fn with_virtual(transaction: &mut Transaction<'_>, tables: &[&LoggedTable]) -> Result<HashMap<u32, Vec<Shown>>> {
    let logged: HashMap<u32, &LoggedTable> = tables.iter().map(|table| (table.oid, *table)).collect();
    let oids: Vec<u32> = logged.keys().copied().collect();
    let rows = transaction
        .query(COLUMNS_WITH_VIRTUAL, &[&oids])
        .doing("read the virtual columns of the tables")?;
    let mut shown: HashMap<u32, Vec<Shown>> = HashMap::new();
    for row in &rows {
        let (oid, bare, computed): (u32, String, Option<String>) = (row.get(0), row.get(1), row.get(2));
        let mut reads: Vec<String> = row.get(3);
        if computed.is_none() {
            reads = vec![bare.clone()];
        }
        let was_there = |name: &String| {
            logged[&oid]
                .columns
                .iter()
                .any(|column| column.old && column.bare == *name)
        };
        if reads.iter().all(was_there) {
            shown.entry(oid).or_default().push(Shown { bare, computed });
        }
    }
    Ok(shown)
}

/// Returns the relations that names mean.
fn called(transaction: &mut Transaction<'_>, names: &[impl AsRef<str>]) -> Result<Vec<Option<u32>>> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let rows = transaction
        .query(
            "select pg_catalog.to_regclass(name)::pg_catalog.oid
               from pg_catalog.unnest($1::pg_catalog.text[]) with ordinality as n(name, place) order by place",
            &[&names],
        )
        .doing("look up names of tables")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What can be asked.
const ASK: &str = "one `select` (or `with … select`, `values`, `table`) can be asked of the past";

fn no_query() -> Error {
    Error::message(
        Kind::Refused,
        "this is no query that returns rows, and the past can only be asked",
    )
    .hint(ASK)
}

/// Makes the query a view, which runs nothing and says what it would read; returns what the columns of its answer are called.
fn understand(transaction: &mut Transaction<'_>, query: &str) -> Result<Vec<String>> {
    let statement = transaction.prepare(query).map_err(|error| match error.code() {
        // A view of the past stands in the place of the table, and cannot be written to.
        Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => no_query(),
        _ => pg::classify_in(error, "understand the query", query),
    })?;
    let names: Vec<String> = statement
        .columns()
        .iter()
        .map(|column| column.name().to_owned())
        .collect();
    let places: Vec<String> = (1..=names.len()).map(|at| format!("c{at}")).collect();
    let list = if places.is_empty() {
        String::new()
    } else {
        format!(" ({})", places.join(", "))
    };
    transaction
        .execute(
            &format!("create temporary view {}{list} as\n{query}", quote_ident(QUERY)),
            &[],
        )
        .map_err(|error| {
            // (Rows without columns may be asked for. What is no statement here was one: one that is no query, as `explain`.)
            if names.is_empty() || error.code() == Some(&SqlState::SYNTAX_ERROR) {
                return no_query();
            }
            pg::classify(error, "understand the query").hint(ASK)
        })?;
    Ok(names)
}

/// Returns the columns of the query's view, as they are called in the answer.
fn columns(transaction: &mut Transaction<'_>, names: Vec<String>) -> Result<Vec<Column>> {
    let rows = transaction
        .query(
            &format!(
                "select {} from pg_catalog.pg_attribute a
                  where a.attrelid = pg_catalog.to_regclass($1) and a.attnum > 0 order by a.attnum",
                journal::is_builtin("a.atttypid")
            ),
            &[&format!("pg_temp.{}", quote_ident(QUERY))],
        )
        .doing("read the columns of the answer")?;
    let builtin = rows.iter().map(|row| row.get(0));
    Ok(names
        .into_iter()
        .zip(builtin)
        .map(|(name, builtin)| Column { name, builtin })
        .collect())
}

/// Refuses a query that would read a table of the group otherwise than by a view of the past.
fn check(transaction: &mut Transaction<'_>, renderer: &Renderer, window: &Window, shadows: &[&str]) -> Result<()> {
    let labels: Vec<&str> = window.tables.iter().map(|table| table.label.as_str()).collect();
    // Another table may be called as one that is gone.
    let mut oids: Vec<u32> = called(transaction, &labels)?.into_iter().flatten().collect();
    oids.extend(window.tables.iter().map(|table| table.oid));
    let uses = renderer.render_value(
        "past/uses",
        context! {
            query => quote_ident(QUERY), shadows => Value::from(Serde(shadows)), tables => Value::from(Serde(&oids)), mark => window.from.id,
        },
    )?;
    let used = transaction
        .query(&uses, &[])
        .doing_in("find what the query reads", &uses)?;
    let used: Vec<String> = used.iter().map(|row| row.get(0)).collect();
    if used.is_empty() {
        return Ok(());
    }
    let is_read = |relation: i64| {
        let of_it = |table: &LoggedTable| table.relation == relation && used.contains(&table.label);
        window.tables.iter().any(of_it)
    };
    window.refuse_gaps(READS, is_read)?;
    window.refuse_drift(is_read)?;
    let unreadable = window
        .tables
        .iter()
        .any(|table| (table.heirs || table.key.is_empty()) && used.contains(&table.label));
    let error = Error::message(
        Kind::Refused,
        format!("the query would read as they are now: {}", used.join(", ")),
    );
    Err(if unreadable {
        error.hint("a table that others inherit from, or that has no primary key, cannot be read as it was")
    } else {
        error.hint(
            "name tables of the group without their schema, and not by a view; of two with one name the search path finds the first: \
             PGOPTIONS='-c search_path=SCHEMA,pg_catalog' sets it",
        )
    })
}
