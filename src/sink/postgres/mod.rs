//! The sink `postgres`: rows of another database, written in sets, each row once.
//!
//! How far it has come stands in the other database and is written with the rows, so that a batch is there whole or not at all, whatever
//! is killed. `copy` takes rows that come as text, `fold` makes sets of a batch, `text` makes texts of values and `lines` of rows, `plan` prepares what is to be said for
//! them, `write` writes them, `shape` knows the tables, `spelling` which texts are one key, `received` the position. One connection: there is one position.
//! `docs/sinks/postgres.md` is the page for people.

mod copy;
mod fold;
mod lines;
mod listing;
mod plan;
mod received;
mod shape;
mod spelling;
mod text;
mod write;

use std::sync::Arc;

use crate::errors::{Kind, Result};
use crate::manifest;
use crate::names::QualifiedName;
use crate::pg::{self, Environment, Given, Prompt, Session, Settings};
use crate::render::Renderer;

use self::fold::Item;
use self::received::{Version, Who};
use self::write::Tables;
use super::resume::arrived;
use super::{Action, Delivery, Existing, Fault, Finding, Offset, Opener, Outcome, RowsAsText, Sink, Verdict};

/// How many rows go in one transaction.
const BATCH: usize = 10_000;

/// What leads to the database of the source, and must not lead the sink there.
const OF_THE_SOURCE: &[&str] = &[
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "PGSERVICE",
    "PGOPTIONS",
    "PGAPPNAME",
    "PGTARGETSESSIONATTRS",
];

/// What a connection does when nobody says otherwise: nothing waits for ever.
const LIMITS: &[(&str, &str)] = &[("connect_timeout", "30"), ("tcp_user_timeout", "60000")];

/// Decides how to connect. What the sink does not say comes from libpq's files, never from the variables that lead to the source.
pub(super) fn opener<'b>(
    name: &str,
    database: &manifest::Database,
    bindings: impl Iterator<Item = &'b manifest::Binding>,
    environment: &Environment,
    source: &str,
) -> Result<Box<dyn Opener>> {
    let mut given = Given::of(database, environment)?;
    for (keyword, value) in LIMITS {
        given
            .settings
            .entry((*keyword).to_owned())
            .or_insert_with(|| (*value).to_owned());
    }
    let mut surroundings = environment.clone();
    surroundings
        .variables
        .retain(|name, _| !name.starts_with("EMAJ_") && !OF_THE_SOURCE.contains(&name.as_str()));
    let settings = pg::resolve(&Given::default(), Some(&given), &surroundings)
        .map_err(|error| error.context(format!("sink `{name}`")))?;
    Ok(Box::new(Database {
        settings: settings.with_application_name(&format!("emaj {name}")),
        who: Who {
            source: source.to_owned(),
            sink: name.to_owned(),
        },
        targets: bindings.filter_map(listing::table_of).cloned().collect(),
    }))
}

#[derive(Debug)]
struct Database {
    settings: Settings,
    who: Who,
    /// The tables that bindings of the sink make rows of.
    targets: Arc<[QualifiedName]>,
}

impl Opener for Database {
    fn open(&self) -> Result<Box<dyn Sink>, Fault> {
        let mut session = self
            .settings
            .connect(Prompt::Never)
            .map_err(|error| match error.kind() {
                Kind::Denied => Fault::refused_login(&error),
                _ => Fault::down(&error),
            })?;
        // A limit that the role or the connection has of its own stays.
        session
            .batch_execute(
                "select set_config(name, value, false)
                   from (values ('lock_timeout', '30s'), ('statement_timeout', '600s'), ('idle_in_transaction_session_timeout', '60s')) v(name, value)
                  where current_setting(name) = '0';
                 set jit = off",
            )
            // Values are read as the source wrote them, and what is listed is the whole value.
            .and_then(|()| session.batch_execute(&pg::same_values("set")))?;
        session
            .by_path_of_role()
            .map_err(|error| Fault::down(format!("{error}")))?;
        Ok(Box::new(PostgresSink {
            session,
            renderer: Renderer::new("emaj"),
            who: self.who.clone(),
            tables: Tables::new(Arc::clone(&self.targets)),
            has_position: false,
            known: None,
        }))
    }

    fn batch(&self) -> usize {
        BATCH
    }

    /// It puts what comes behind a refused change of a row aside by itself, so that whole batches go in sets.
    fn refuses(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }

    fn place(&self) -> String {
        self.settings.place()
    }
}

struct PostgresSink {
    session: Session,
    renderer: Renderer,
    who: Who,
    tables: Tables,
    has_position: bool,
    /// The position as it was read or written last; `None`: it was not asked for.
    known: Option<Version>,
}

/// What every transaction begins with.
const BEGIN: &str = "begin isolation level read committed; set constraints all deferred";

impl PostgresSink {
    fn ensure_position(&mut self) -> Result<(), Fault> {
        if !self.has_position {
            received::ensure(&mut self.session, &self.renderer)?;
            self.has_position = true;
        }
        Ok(())
    }

    /// Copies rows in, with the position; a refusal of the server is a fault like any other.
    fn copy_in(
        &mut self,
        rows: &RowsAsText,
        text: &mut dyn FnMut() -> Result<Option<Vec<u8>>, Fault>,
    ) -> Result<Option<u64>, Fault> {
        self.ensure_position()?;
        if !copy::fits(self.tables.shape(&mut self.session, &rows.table)?, rows) {
            return Ok(None);
        }
        self.session.batch_execute(BEGIN)?;
        received::lock(&mut self.session, &self.who, self.known.as_ref())?;
        let number = copy::write(&mut self.session, &self.renderer, rows, text)?;
        if self.tables.is_altered(&mut self.session, &rows.table)? {
            self.session.batch_execute("rollback")?;
            self.tables.forget(&mut self.session)?;
            return Ok(None);
        }
        let version = received::write(&mut self.session, &self.who, &rows.offset)?;
        self.session.batch_execute("commit")?;
        self.known = Some(version);
        Ok(Some(number))
    }

    /// Carries out a batch; once more where a table is no longer what it was when it was looked at.
    fn carry_out(&mut self, batch: &[Delivery]) -> Result<Vec<Outcome>, Fault> {
        if let Some(outcomes) = self.carried_out(batch)? {
            return Ok(outcomes);
        }
        self.tables.forget(&mut self.session)?;
        self.carried_out(batch)?
            .ok_or_else(|| Fault::down("a table of the other database is altered again and again"))
    }

    /// `None`: a table was altered since it was looked at, and nothing is written.
    fn carried_out(&mut self, batch: &[Delivery]) -> Result<Option<Vec<Outcome>>, Fault> {
        let mut outcomes = vec![None; batch.len()];
        let mut items = Vec::with_capacity(batch.len());
        for (at, delivery) in batch.iter().enumerate() {
            match Item::read(at, delivery) {
                Ok(item) => items.push(item),
                Err(fault) => outcomes[at] = Some(Outcome::Failed(fault)),
            }
        }
        self.ensure_position()?;
        self.tables.prepare(&mut self.session, &self.renderer, &items)?;
        self.session.batch_execute(BEGIN)?;
        received::lock(&mut self.session, &self.who, self.known.as_ref())?;
        self.tables.write(&mut self.session, &mut items, &mut outcomes)?;
        if self.tables.are_altered(&mut self.session, &items)? {
            self.session.batch_execute("rollback")?;
            return Ok(None);
        }
        let missing = || Outcome::Failed(Fault::later("it was not tried"));
        let outcomes: Vec<Outcome> = outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(missing))
            .collect();
        let version = match arrived(batch, &outcomes) {
            Some(offset) => Some(received::write(&mut self.session, &self.who, offset)?),
            None => None,
        };
        self.session.batch_execute("commit")?;
        self.known = version.or(self.known.take());
        Ok(Some(outcomes))
    }
}

impl Sink for PostgresSink {
    fn deliver(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        if batch.is_empty() {
            return Vec::new();
        }
        self.carry_out(batch).unwrap_or_else(|fault| {
            // Nothing of the batch is there; the server has usually gone, so what it says to this does not matter.
            _ = self.session.batch_execute("rollback");
            vec![Outcome::Failed(Fault::down(fault))]
        })
    }

    fn copy(
        &mut self,
        rows: &RowsAsText,
        text: &mut dyn FnMut() -> Result<Option<Vec<u8>>, Fault>,
    ) -> Result<Option<u64>, Fault> {
        let copied = self.copy_in(rows, text);
        if copied.is_err() {
            // The server has gone, or there is something to be taken back.
            _ = self.session.batch_execute("rollback");
        }
        match copied {
            // A row is there already, or is refused for another reason: which one it is shows when they go one by one.
            Err(fault) if fault.verdict != Verdict::Down => Ok(None),
            copied => copied,
        }
    }

    fn resume(&mut self) -> Result<Option<Offset>, Fault> {
        self.ensure_position()?;
        let (offset, version) = received::take(&mut self.session, &self.who)?;
        self.known = Some(version);
        Ok(offset)
    }

    fn probe(&mut self) -> Result<Vec<Finding>, Fault> {
        listing::probe(&mut self.session)
    }

    fn preview(&mut self, batch: &[Delivery]) -> Result<Vec<String>, Fault> {
        batch
            .iter()
            .enumerate()
            .map(|(at, delivery)| {
                let item = Item::read(at, delivery)?;
                let shape = self.tables.shape(&mut self.session, &item.change.table)?;
                listing::preview(&item, shape, &self.renderer)
            })
            .collect()
    }

    fn identities(&mut self, batch: &[Delivery]) -> Result<Vec<Option<String>>, Fault> {
        listing::identities(&mut self.session, &self.renderer, &mut self.tables, batch)
    }

    fn may_make(&self, binding: &manifest::Binding, existing: &Existing) -> bool {
        match &existing.remove {
            Action::Row(change) => listing::table_of(binding).is_none_or(|table| *table == change.table),
            _ => false,
        }
    }

    fn existing(&mut self, binding: &manifest::Binding, visit: &mut dyn FnMut(Existing)) -> Result<(), Fault> {
        listing::existing(&mut self.session, &self.renderer, &self.tables, binding, visit)
    }
}
