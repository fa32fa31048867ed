//! Reads the log of a sink's tables, a window at a time, in the order of delivery.
//!
//! A window is everything after one position and visible in a later snapshot. It is read through a cursor of the server, so that
//! its size does not matter; the snapshot is held for [`SLICE`] at most, once the window is sorted. What is left of it then the server keeps beside
//! (`with hold`): sorting a large window takes longer than a slice of it. It may be resumed behind any offset, also by another process: order and offsets follow from the log alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use minijinja::context;
use minijinja::value::{Serde, Value};
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::PgLsn;
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::ask::settle;
use super::change::{Change, Image, net};
use super::row::Row;
use super::sources::Sources;
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, LogColumn, Position, Snapshot};
use crate::pg::{Session, classify};
use crate::render::Renderer;
use crate::sink::Offset;
use crate::words::count;

/// How long a snapshot is held: the application's tables cannot be vacuumed behind it.
const SLICE: Duration = Duration::from_secs(10);
/// How many rows are fetched at once, when they are narrow.
const MOST_ROWS: usize = 4000;
/// How many bytes are fetched at once, about.
const MOST_BYTES: usize = 4 << 20;
/// What is wider than what came before it may be so much more. The rest of the fetch is left then, and read anew; to the end of the window no more rows are
/// fetched at once than there would be room for if all were as wide as the widest so far.
const ROOM: usize = 2 * MOST_BYTES;

/// A log of so many bytes is read faster than its index is asked, and after so many rows one may have become larger.
const SMALL: i64 = 32 << 10;
const GROWN: usize = 20_000;

/// What `stream/window` selects, in its order. (By number: it is read for every change.)
mod column {
    pub(super) const NUMBER: usize = 0;
    pub(super) const TXID: usize = 1;
    pub(super) const POSITION: usize = 2;
    pub(super) const LSN: usize = 3;
    pub(super) const TIME: usize = 4;
    pub(super) const IS_NEW: usize = 5;
    pub(super) const KEY: usize = 6;
    pub(super) const PART: usize = 7;
    pub(super) const IMAGE: usize = 8;
    pub(super) const REKEYED: usize = 9;
    pub(super) const ORDINAL: usize = 10;
    pub(super) const SORTED: usize = 11;
}

/// A window of the log.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub number: i64,
    pub from: Position,
    pub until: Snapshot,
    /// What this sees was delivered before, and is delivered again.
    pub replay: Option<Snapshot>,
}

/// Reads windows over a connection of its own.
#[derive(Debug)]
pub(super) struct Stream {
    session: Session,
    schema: String,
    renderer: Arc<Renderer>,
    /// When the transaction that holds the snapshot began.
    held: Option<Instant>,
    /// The snapshot that is held.
    snapshot: Option<Snapshot>,
    cursor: Option<Reading>,
    /// The server keeps what is left of a window; its snapshot is let go.
    is_kept: bool,
    /// The snapshot is held to the end of a window, however long that takes.
    is_patient: bool,
    probe: Option<Probe>,
    fetch: usize,
    /// Tables in which rows got other keys in this window, or have none; known of a window that is a replay.
    rekeyed: HashSet<usize>,
}

/// The question which logs hold anything new.
#[derive(Debug)]
struct Probe {
    statement: postgres::Statement,
    /// Of so many logs, and so many rows read since it was prepared: logs that were small may have grown.
    logs: usize,
    rows: usize,
}

#[derive(Debug)]
struct Reading {
    window: Window,
    /// The group at the end of the last fetch: more of it may come.
    open: Vec<(Offset, i64, Image)>,
    /// What is delivered already.
    behind: Option<Offset>,
    /// Read, and to be delivered only after what was given out before (see [`one_log_each`]).
    rest: Vec<Placed>,
    /// The widest row so far, in bytes, and whether there was no room for a fetch.
    widest: usize,
    is_careful: bool,
    is_declared: bool,
    is_over: bool,
}

/// A change and its offset in the stream.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub offset: Offset,
    /// Its relation in the registry: with transaction and key it makes the id.
    pub relation: i64,
    /// The number of the window in which it is delivered again on request; `None`: it was not delivered before.
    pub replay: Option<i64>,
    pub change: Change,
}

impl Stream {
    /// Takes a connection for reading.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(super) fn new(mut session: Session, schema: &str, renderer: Arc<Renderer>) -> Result<Self> {
        settle(&mut session, &renderer)?;
        session
            .batch_execute(&renderer.render("stream/prepare", ())?)
            .map_err(|error| classify(error, "prepare to read the log"))?;
        Ok(Stream {
            session,
            schema: schema.to_owned(),
            renderer,
            held: None,
            snapshot: None,
            cursor: None,
            is_kept: false,
            is_patient: false,
            probe: None,
            fetch: 500,
            rekeyed: HashSet::new(),
        })
    }

    /// Takes a snapshot and returns it; everything that follows reads in it, until [`Stream::release`].
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(super) fn hold(&mut self) -> Result<Snapshot> {
        self.release()?;
        self.drop_kept()?;
        self.session
            .batch_execute("begin isolation level repeatable read read only")
            .map_err(|error| classify(error, "begin to read"))?;
        self.held = Some(Instant::now());
        let text: String = self
            .session
            .query_one("select pg_current_snapshot()::text", &[])?
            .get(0);
        let snapshot: Snapshot = text.parse().map_err(|error| Error::new(Kind::Failed, error))?;
        self.snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Lets the snapshot go. A window that is under way is read anew, unless the server keeps the rest of it.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(super) fn release(&mut self) -> Result<()> {
        let is_open = self.is_declared() && !self.is_kept;
        if let Some(reading) = self.cursor.as_mut().filter(|_| is_open) {
            reading.is_declared = false;
        }
        self.commit(if is_open { "close emaj_window; commit" } else { "commit" })
    }

    /// Lets the snapshot go, and has the server keep what is left of the window that is under way.
    fn keep(&mut self) -> Result<()> {
        self.is_kept = self.is_declared();
        self.commit("commit")
    }

    fn commit(&mut self, sql: &str) -> Result<()> {
        self.snapshot = None;
        if self.held.take().is_some() {
            self.session
                .batch_execute(sql)
                .map_err(|error| classify(error, "end reading"))?;
        }
        Ok(())
    }

    /// Tells whether the server has a cursor for the window that is under way.
    fn is_declared(&self) -> bool {
        self.cursor
            .as_ref()
            .is_some_and(|reading| reading.is_declared && !reading.is_over)
    }

    /// Has the server drop what it keeps of an earlier window.
    fn drop_kept(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_kept) {
            return Ok(());
        }
        if let Some(reading) = &mut self.cursor {
            reading.is_declared = false;
        }
        self.session
            .batch_execute("close emaj_window")
            .map_err(|error| classify(error, "end reading"))
    }

    /// Holds the snapshot of each window to its end from now on: rows are to be read in it.
    pub(super) fn be_patient(&mut self) {
        self.is_patient = true;
    }

    /// Whether a snapshot is held.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether it is this snapshot that is held.
    pub(super) fn holds(&self, snapshot: &Snapshot) -> bool {
        self.snapshot.as_ref() == Some(snapshot)
    }

    /// Gives the session to those who read beside the window, in the same snapshot.
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Tells what the sink is fed by, in the snapshot that is held.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(super) fn structure(&mut self, sink: &str) -> Result<String> {
        journal::structure_of(&mut *self.session, &self.schema, sink)
    }

    /// Returns which of the logs hold anything after `from`, by their numbers.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(super) fn probe(&mut self, sources: &Sources, from: &Position) -> Result<Vec<usize>> {
        if sources.logs.is_empty() {
            return Ok(Vec::new());
        }
        let statement = match &self.probe {
            Some(probe) if probe.logs == sources.logs.len() && probe.rows < GROWN => probe.statement.clone(),
            _ => {
                let small = journal::small_logs(&mut *self.session, &self.schema, SMALL)?;
                let logs: Vec<ProbedLog<'_>> = sources
                    .logs
                    .iter()
                    .enumerate()
                    .map(|(number, (_, log))| ProbedLog {
                        number,
                        log: &log.log,
                        is_small: small.contains(&log.log),
                    })
                    .collect();
                let sql = self
                    .renderer
                    .render_value("stream/probe", context! { logs => Value::from(Serde(logs)) })?;
                // Planned once: planning a thousand logs costs more than looking into them.
                self.session.batch_execute("set plan_cache_mode = force_generic_plan")?;
                let statement = self.session.prepare(&sql)?;
                self.probe = Some(Probe {
                    statement: statement.clone(),
                    logs: sources.logs.len(),
                    rows: 0,
                });
                statement
            }
        };
        let mut running = from.snapshot.running.clone();
        running.push(from.txid);
        let rows = self
            .session
            .query(&statement, &[&from.snapshot.xmax, &running])
            .map_err(|error| unreadable(error, sources))?;
        Ok(rows.iter().map(|row| row.get::<_, i32>(0) as usize).collect())
    }

    /// Tells whether rows of a table got other keys in the window of a replay, or have none.
    pub(super) fn is_rekeyed(&self, table: usize) -> bool {
        self.rekeyed.contains(&table)
    }

    /// Forgets statements that were made for other sources.
    pub(super) fn sources_changed(&mut self) {
        self.probe = None;
        self.cursor = None;
    }

    /// Begins to read a window, behind `offset` if there is one.
    pub(super) fn read(&mut self, window: Window, offset: Option<Offset>) {
        self.rekeyed.clear();
        self.cursor = Some(Reading {
            window,
            open: Vec::new(),
            behind: offset,
            rest: Vec::new(),
            widest: 1,
            is_careful: false,
            is_declared: false,
            is_over: false,
        });
    }

    /// Tells whether the window has been read to its end.
    pub(super) fn is_over(&self) -> bool {
        self.cursor
            .as_ref()
            .is_none_or(|reading| reading.is_over && reading.rest.is_empty())
    }

    /// Returns the next changes of the window; none when it is over.
    ///
    /// # Errors
    /// Whatever the server answers. The window may be read on from the offset that was delivered last.
    pub(super) fn next(&mut self, sources: &Sources) -> Result<Vec<Placed>> {
        loop {
            if self.is_over() {
                return Ok(Vec::new());
            }
            if let Some(mut placed) = self
                .cursor
                .as_mut()
                .map(|reading| std::mem::take(&mut reading.rest))
                .filter(|rest| !rest.is_empty())
            {
                self.leave_rest(&mut placed);
                return Ok(placed);
            }
            let too_long = !self.is_patient && self.held.is_some_and(|since| since.elapsed() > SLICE);
            if too_long {
                self.keep()?;
            }
            let sorts = self.cursor.as_ref().is_some_and(|reading| !reading.is_declared);
            self.declare(sources)?;
            let mut placed = self.fetch(sources)?;
            if sorts && self.held.is_some() {
                // The first fetch sorts the whole window: what is read of it afterwards counts.
                self.held = Some(Instant::now());
            }
            if !placed.is_empty() {
                self.leave_rest(&mut placed);
                return Ok(placed);
            }
        }
    }

    /// Leaves for later what may only be delivered when all of these has arrived.
    fn leave_rest(&mut self, placed: &mut Vec<Placed>) {
        if let Some(reading) = &mut self.cursor {
            reading.rest = placed.split_off(one_log_each(placed));
        }
    }

    /// Returns how many rows of each table a window can delete at most; of those tables only that `every` has: with `true`, any change of a
    /// row that was there counts. Cheaper than reading the window, which says it exactly.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(super) fn deletes_at_most(
        &mut self,
        sources: &Sources,
        window: &Window,
        every: &HashMap<usize, bool>,
    ) -> Result<HashMap<usize, u64>> {
        let logs: Vec<CountedLog<'_>> = sources
            .logs
            .iter()
            .enumerate()
            .filter_map(|(number, (table, log))| {
                Some(CountedLog {
                    number,
                    log: &log.log,
                    key: &log.key,
                    every: *every.get(table)? || log.key.is_empty(),
                })
            })
            .collect();
        let mut most = HashMap::new();
        if logs.is_empty() {
            return Ok(most);
        }
        let sql = self.renderer.render_value(
            "stream/deletes",
            context! {
                logs => Value::from(Serde(logs)),
                from => window.from.border(),
                until => context! { xmin => window.until.xmin, xmax => window.until.xmax, running => &window.until.running },
            },
        )?;
        let rows = self
            .session
            .query(&sql, &[])
            .map_err(|error| unreadable(error, sources))?;
        for row in &rows {
            let (table, _) = &sources.logs[row.get::<_, i32>(0) as usize];
            *most.entry(*table).or_default() += u64::try_from(row.get::<_, i64>(1)).unwrap_or(0);
        }
        Ok(most)
    }

    fn declare(&mut self, sources: &Sources) -> Result<()> {
        if self.is_declared() && (self.is_kept || self.held.is_some()) {
            return Ok(());
        }
        if self.held.is_none() {
            self.hold()?;
        }
        let Some(reading) = self.cursor.as_mut() else {
            return Ok(());
        };
        reading.is_declared = true;
        reading.open.clear();
        let Window {
            from, until, replay, ..
        } = &reading.window;
        let logs: Vec<ReadLog<'_>> = sources
            .logs
            .iter()
            .enumerate()
            .map(|(number, (_, log))| ReadLog {
                number,
                relation: log.relation,
                log: &log.log,
                columns: &log.columns,
                key: &log.key,
                form: &log.form,
            })
            .collect();
        let resume = reading
            .behind
            .as_ref()
            .and_then(|offset| journal::place_of(&offset.0))
            .map(|lsn| PgLsn::from(lsn).to_string());
        let sql = self.renderer.render_value(
            "stream/window",
            context! {
                logs => Value::from(Serde(logs)),
                from => from.border(),
                until => context! { xmin => until.xmin, xmax => until.xmax, running => &until.running },
                resume => resume,
                replay => replay.is_some(),
                raw => sources.texts.are_raw(),
                hex => sources.texts.are_sorted_otherwise(),
                key_part => journal::key_part("key", sources.texts.are_sorted_otherwise()),
            },
        )?;
        self.session
            .batch_execute(&sql)
            .map_err(|error| unreadable(error, sources))
    }

    fn fetch(&mut self, sources: &Sources) -> Result<Vec<Placed>> {
        let Some(reading) = self.cursor.as_mut() else {
            return Ok(Vec::new());
        };
        let unreadable = |error| unreadable(error, sources);
        // (They are taken one by one: all of them may be more than there is memory for.)
        let mut rows = self
            .session
            .query_raw(&format!("fetch {} from emaj_window", self.fetch), [] as [&str; 0])
            .map_err(unreadable)?;
        let (mut fetched, mut taken, mut bytes) = (0_usize, 0_usize, 0);
        let mut placed = Vec::with_capacity(self.fetch);
        while let Some(row) = rows.next().map_err(unreadable)? {
            fetched += 1;
            if bytes > ROOM && !placed.is_empty() {
                continue;
            }
            taken += 1;
            let number = row.get::<_, i32>(column::NUMBER) as usize;
            let (table, log) = &sources.logs[number];
            if row.get(column::REKEYED) {
                self.rekeyed.insert(*table);
            }
            let position = u64::from(row.get::<_, PgLsn>(column::POSITION));
            let image = Row::read(&row, column::IMAGE, &sources.texts);
            let wide = image.json.len();
            let image = Image {
                table: *table,
                txid: row.get(column::TXID),
                position,
                lsn: u64::from(row.get::<_, PgLsn>(column::LSN)),
                time: row.get::<_, Timestamp>(column::TIME),
                is_new: row.get(column::IS_NEW),
                key: sources.texts.text(&row, column::KEY).0.into(),
                sorted: match sources.texts.are_sorted_otherwise() {
                    true => row.get::<_, Option<&str>>(column::SORTED).map(Arc::from),
                    false => None,
                },
                row: image,
                ordinal: row.get(column::ORDINAL),
            };
            let part = row.get(column::PART);
            let offset = offset(reading.window.number, position, log.relation, image.txid, part);
            // (What was given out before takes no room.)
            if reading.behind.as_ref().is_none_or(|behind| !behind.covers(&offset)) {
                bytes += wide;
                reading.widest = reading.widest.max(wide);
            }
            if reading.open.last().is_some_and(|(open, ..)| *open != offset) {
                close(reading, &mut placed);
            }
            reading.open.push((offset, log.relation, image));
        }
        drop(rows);
        if let Some(probe) = &mut self.probe {
            probe.rows += taken;
        }
        let is_left = taken < fetched;
        if is_left {
            // The rest is read anew, behind what is given out now.
            reading.is_declared = false;
            reading.is_careful = true;
        } else if fetched < self.fetch {
            reading.is_over = true;
            if !reading.open.is_empty() {
                close(reading, &mut placed);
            }
        }
        let wide = match reading.is_careful {
            true => reading.widest,
            false => (bytes / taken.max(1)).max(1),
        };
        if taken > 0 {
            self.fetch = (MOST_BYTES / wide).clamp(1, MOST_ROWS);
        }
        if is_left || reading.is_over {
            // The snapshot stays: rows that were there before are read in it.
            self.is_kept = false;
            self.session.batch_execute("close emaj_window")?;
        }
        if is_left && !self.is_patient {
            self.release()?;
        }
        Ok(placed)
    }
}

/// What reading the logs failed with: of which tables they are, and what to do. The server's own words name the log.
fn unreadable(error: postgres::Error, sources: &Sources) -> Error {
    /// So many are named; the server says which log it was.
    const NAMED: usize = 3;
    let mut names: Vec<String> = sources
        .logs
        .iter()
        .take(NAMED)
        .map(|(table, log)| format!("{} (group `{}`)", sources.tables[*table].names.name, log.group))
        .collect();
    match sources.logs.len().saturating_sub(NAMED) {
        0 => {}
        others => names.push(count(others, "other log")),
    }
    let is_too_long = error.code() == Some(&SqlState::PROGRAM_LIMIT_EXCEEDED);
    let error = classify(error, &format!("read the logs of {}", names.join(", ")));
    match error.kind() {
        _ if is_too_long => error.hint(
            "a row in them is longer than 1 GB as JSON, and PostgreSQL cannot say it; how the sink goes on without it stands in docs/delivery.md, under Limits",
        ),
        Kind::Denied => error.hint("connect as the owner of emaj's schema"),
        Kind::Failed => error.hint(
            "`emaj verify` says whether a log is missing or is not what the registry says; `emaj install` mends it",
        ),
        _ => error,
    }
}

/// Nets the group that has come to its end.
fn close(reading: &mut Reading, placed: &mut Vec<Placed>) {
    let group = std::mem::take(&mut reading.open);
    let Some((offset, relation, _)) = group.first() else {
        return;
    };
    if reading.behind.as_ref().is_some_and(|behind| behind.covers(offset)) {
        return;
    }
    let (offset, relation) = (offset.clone(), *relation);
    let images: Vec<Image> = group.into_iter().map(|(.., image)| image).collect();
    let whole = net(&images);
    reading.behind = Some(offset.clone());
    let Window { number, replay, .. } = &reading.window;
    placed.extend(whole.into_iter().map(|change| {
        Placed {
            offset: offset.clone(),
            relation,
            replay: replay
                .as_ref()
                .is_some_and(|before| before.sees(change.txid))
                .then_some(*number),
            change,
        }
    }));
}

/// Returns how many changes are, of each table, of one log. What the next one of the table holds comes after all that this one does, and may write the same key otherwise:
/// nothing else would say then that it has to wait.
fn one_log_each(placed: &[Placed]) -> usize {
    let mut logs: HashMap<usize, i64> = HashMap::new();
    let is_of_another = |one: &Placed| *logs.entry(one.change.table).or_insert(one.relation) != one.relation;
    placed.iter().position(is_of_another).unwrap_or(placed.len())
}

/// The text of an offset: parts of one width each, so that texts are in the order of delivery.
fn offset(window_number: i64, position: u64, relation: i64, txid: i64, part: &str) -> Offset {
    Offset(format!(
        "{window_number:016x}/{position:016x}/{relation:016x}/{txid:016x}/{part}"
    ))
}

/// The offset of the `number`th row that is sent by `init` behind the changes of a window.
pub(super) fn init_offset(window_number: i64, number: i64) -> Offset {
    Offset(format!("{window_number:016x}/ffffffffffffffff/{number:016x}"))
}

/// Returns an offset as it is when its window has this number.
pub(super) fn in_window(number: i64, offset: &Offset) -> Offset {
    let (_, place) = offset.0.split_once('/').unwrap_or_default();
    Offset(format!("{number:016x}/{place}"))
}

/// Returns the number of the window an offset belongs to.
pub(super) fn window_number_of(offset: &Offset) -> Option<i64> {
    i64::from_str_radix(offset.0.split('/').next()?, 16).ok()
}

#[derive(Serialize)]
struct ProbedLog<'a> {
    number: usize,
    log: &'a str,
    is_small: bool,
}

#[derive(Serialize)]
struct CountedLog<'a> {
    number: usize,
    log: &'a str,
    key: &'a [String],
    every: bool,
}

#[derive(Serialize)]
struct ReadLog<'a> {
    number: usize,
    relation: i64,
    log: &'a str,
    columns: &'a [LogColumn],
    key: &'a [String],
    form: &'a str,
}

/// Has the ends of logs summarised, so that looking for new rows stays cheap between two vacuums. Best effort: it takes the right
/// to the index.
pub(super) fn summarise(session: &mut Session, schema: &str, renderer: &Renderer, sources: &Sources) {
    let Ok(sql) = renderer.render("stream/summarise", ()) else {
        return;
    };
    for (_, log) in &sources.logs {
        let name = format!("{}.{}", escape_identifier(schema), escape_identifier(&log.log));
        let _ = session.execute(&sql, &[&name]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_a_window_are_those_of_its_template() {
        use column::*;
        let columns = [
            (NUMBER, "number"),
            (TXID, "emaj_txid"),
            (POSITION, "position"),
            (LSN, "emaj_gid"),
            (TIME, "emaj_changed"),
            (IS_NEW, "emaj_tuple = 'NEW'"),
            (KEY, "key"),
            (PART, "part"),
            (IMAGE, "image"),
            (REKEYED, "rekeyed"),
            (ORDINAL, "emaj_ord"),
            (SORTED, "sorted"),
        ];
        for raw in [false, true] {
            let none: [u8; 0] = [];
            let values = context! { logs => none, resume => (), replay => false, hex => true, raw };
            let sql = Renderer::new("emaj").render_value("stream/window", values).unwrap();
            let (_, list) = sql.split_once("select ").unwrap();
            let (list, _) = list.split_once("\n  from (").unwrap();
            let list = list.replace("pg_catalog.convert_to(", "").replace(", 'SQL_ASCII')", "");
            let selected: Vec<(usize, &str)> = list.split(',').map(str::trim).enumerate().collect();
            assert_eq!(selected, columns);
        }
    }
}
