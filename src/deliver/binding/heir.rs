//! Who has an entry of a directory that a row gives up, or a key in another table: another row may have been given its name before, because nothing
//! in the table forbids it, or only at the end of a transaction.
//!
//! Whether a row has the name is told by what its template makes; names of entries are compared as a directory does. Rows are looked up as they are now, for all names that a
//! chunk of changes gives up at once ([`Namesakes`]), and held against the log: a row that takes the name only later is none, its own change makes the
//! entry or the row anew. So the answer does not depend on how far the worker has come.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Ask, Bound, Compiled, Envelope, Later};
use crate::deliver::change::Change;
use crate::deliver::row::Row;
use crate::sink::ldap::folded;
use crate::sink::{Entry, Fault, Verdict};

/// Rows that have the names which others give up.
#[derive(Debug)]
pub(in crate::deliver) enum Namesakes {
    /// By binding, as far as they were looked up.
    Known(HashMap<String, Found>),
    /// It makes no difference who has them.
    NoMatter,
}

/// What was looked up for a binding.
#[derive(Debug, Default)]
pub(in crate::deliver) struct Found {
    /// By name: of names that the binding's own rows give up.
    pub(super) rows: HashMap<String, Arc<[Row]>>,
    /// By name: of names that rows of other bindings give up, which are looked up by values that may be spelled otherwise.
    pub(super) beside: HashMap<String, Arc<[Row]>>,
    /// By key: rows whose entries are named by it.
    pub(super) by_key: HashMap<String, Option<Row>>,
    /// The keys that such rows have got instead.
    pub(super) became: HashMap<Awaited, Option<String>>,
    /// What comes later of some of these rows.
    pub(super) later: HashMap<Awaited, Option<Later>>,
}

/// A row of which something may come later than a change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::deliver) struct Awaited {
    pub key: String,
    /// The key and the place of the change.
    pub behind: String,
    pub position: u64,
}

impl Namesakes {
    pub(in crate::deliver) fn add(&mut self, binding: &Bound, found: Found) {
        if let Namesakes::Known(all) = self {
            let known = all.entry(binding.name.to_string()).or_default();
            known.rows.extend(found.rows);
            known.beside.extend(found.beside);
            known.by_key.extend(found.by_key);
            known.became.extend(found.became);
            known.later.extend(found.later);
        }
    }

    /// `None`: it was not looked up.
    pub(super) fn of(&self, binding: &Bound, name: &str) -> Option<Arc<[Row]>> {
        match self {
            Namesakes::Known(all) => all.get(&*binding.name)?.rows.get(name).cloned(),
            Namesakes::NoMatter => Some(Arc::default()),
        }
    }

    /// The same of a name that a row of another binding gives up.
    pub(super) fn beside(&self, binding: &Bound, name: &str) -> Option<Arc<[Row]>> {
        match self {
            Namesakes::Known(all) => all.get(&*binding.name)?.beside.get(name).cloned(),
            Namesakes::NoMatter => Some(Arc::default()),
        }
    }

    /// Returns the row with a key as it is now, and what comes later of it; `None`: that was not looked up.
    pub(super) fn row(&self, binding: &Bound, awaited: &Awaited) -> Option<(Option<Row>, Option<Later>)> {
        let found = match self {
            Namesakes::Known(all) => all.get(&*binding.name)?,
            Namesakes::NoMatter => return Some((None, None)),
        };
        Some((
            found.by_key.get(&awaited.key)?.clone(),
            found.later.get(awaited)?.clone(),
        ))
    }

    /// Returns the key that a row has got; `None`: that was not looked up.
    pub(super) fn became(&self, binding: &Bound, awaited: &Awaited) -> Option<Option<String>> {
        match self {
            Namesakes::Known(all) => all.get(&*binding.name)?.became.get(awaited).cloned(),
            Namesakes::NoMatter => Some(None),
        }
    }

    /// `None`: it was not looked up.
    fn later(&self, binding: &Bound, awaited: &Awaited) -> Option<Option<Later>> {
        match self {
            Namesakes::Known(all) => all.get(&*binding.name)?.later.get(awaited).cloned(),
            Namesakes::NoMatter => Some(None),
        }
    }
}

/// Names that rows give up, and the changes by which they do.
#[derive(Debug, Default)]
pub(in crate::deliver) struct GivenUp<'a>(BTreeMap<String, Vec<&'a Change>>);

impl GivenUp<'_> {
    pub(in crate::deliver) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::deliver) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Bound {
    /// Tells whether it makes things with names that another row may have after one: entries, and rows that are kept, and not known by the primary key.
    pub(in crate::deliver) fn names_change_hands(&self) -> bool {
        match &self.kind {
            Compiled::Entry { .. } => true,
            Compiled::Row { key_sources, .. } => {
                let primary = &self.names.key;
                self.keeps_rows && (primary.is_empty() || !primary.iter().all(|column| key_sources.contains(column)))
            }
            _ => false,
        }
    }

    /// Notes the name that a change gives up, if it does.
    pub(in crate::deliver) fn gives_up<'a>(&self, change: &'a Change, names: &mut GivenUp<'a>) {
        let Some(old) = &change.old else { return };
        let Some(name) = self.name_of(old) else { return };
        if change.new.as_ref().and_then(|new| self.name_of(new)).as_ref() != Some(&name) {
            names.0.entry(name).or_default().push(change);
        }
    }

    /// Looks up which rows have names that others give up, and whether they had them then. `beside` are rows as the sink has them, which may have given such a
    /// name up since.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(in crate::deliver) fn namesakes<'r>(
        &self,
        names: &GivenUp<'_>,
        beside: impl Iterator<Item = &'r Row>,
        ask: &mut dyn Ask,
    ) -> Result<Found, Fault> {
        let mut rows = self.rows_with(names, ask)?;
        for row in beside {
            let of_name = self.name_of(row).and_then(|name| rows.get_mut(&name));
            if let Some(rows) = of_name.filter(|rows| rows.iter().all(|known| self.key_of(known) != self.key_of(row))) {
                rows.push(row.clone());
            }
        }
        let mut awaited: Vec<Awaited> = Vec::new();
        for (name, changes) in &names.0 {
            // (Mostly there is one other row at most.)
            let first = |change: &&Change| {
                self.others(change, &rows[name])
                    .next()
                    .map(|other| self.await_of(change, other))
            };
            awaited.extend(changes.iter().copied().filter_map(|change| first(&change)));
        }
        if self.names.key.is_empty() {
            awaited.clear();
        }
        awaited.sort();
        awaited.dedup();
        let later = match awaited.is_empty() {
            true => Vec::new(),
            false => ask.later(self.table, &awaited)?,
        };
        Ok(Found {
            rows: rows.into_iter().map(|(name, rows)| (name, rows.into())).collect(),
            later: awaited.into_iter().zip(later).collect(),
            ..Found::default()
        })
    }

    fn rows_with(&self, names: &GivenUp<'_>, ask: &mut dyn Ask) -> Result<HashMap<String, Vec<Row>>, Fault> {
        let mut found: HashMap<String, Vec<Row>> = names.0.keys().map(|name| (name.clone(), Vec::new())).collect();
        let (columns, is_exact): (&[String], bool) = match &self.kind {
            Compiled::Entry { columns, .. } => (columns, false),
            Compiled::Row { key_sources, .. } => (key_sources, true),
            _ => return Ok(HashMap::new()),
        };
        let given: Vec<(String, BTreeSet<&str>)> = columns
            .iter()
            .map(|column| {
                let rows = names.0.values().flatten().filter_map(|change| change.old.as_ref());
                (column.clone(), rows.filter_map(|row| row.column(column)).collect())
            })
            .collect();
        ask.namesakes(self.table, &self.names.key, &given, is_exact, &mut |row| {
            if let Some(rows) = self.name_of(row).and_then(|name| found.get_mut(&name)) {
                rows.push(row.clone());
            }
            Ok(false)
        })?;
        Ok(found)
    }

    /// Returns what another row makes of the entry `dn`, which a row gives up with `change`; `None`: nobody has it then.
    pub(super) fn heir(
        &self,
        change: &Change,
        dn: &str,
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
    ) -> Result<Option<Entry>, Fault> {
        let all = self.all_with(change, &folded(dn), ask)?;
        self.first_entry(change, self.others(change, &all), dn, envelope, ask)
    }

    /// Returns what the first one of `rows` makes of the entry `dn` that they have now, and had when `change` was made; rather one that spells it in the same
    /// way, since a directory may tell the others apart.
    pub(super) fn first_entry<'r>(
        &self,
        change: &Change,
        rows: impl Iterator<Item = &'r Row>,
        dn: &str,
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
    ) -> Result<Option<Entry>, Fault> {
        let (name, mut nearly) = (folded(dn), None);
        for row in rows {
            if !self.had(change, row, &name, ask)? {
                continue;
            }
            match self.entry(row, envelope, ask) {
                // Of that row no entry was ever made.
                Err(fault) if fault.verdict == Verdict::Never => {}
                Ok(entry) if entry.dn != dn => nearly = nearly.or(Some(entry)),
                made => return made.map(Some),
            }
        }
        Ok(nearly)
    }

    /// Returns what is made of another row that has the key in another table which the row `row` gives up with `change`; `None`: nobody has it then.
    pub(super) fn row_instead(
        &self,
        change: &Change,
        row: &Row,
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
    ) -> Result<Option<Row>, Fault> {
        let Some(name) = self.name_of(row) else {
            return Ok(None);
        };
        let all = self.all_with(change, &name, ask)?;
        let having = self.others(change, &all).filter_map(|other| {
            let had = self.had(change, other, &name, ask);
            had.map(|had| had.then_some(other)).transpose()
        });
        self.first_row(having, envelope)
    }

    /// Returns what is made, in the other table, of the first one of `rows` of which something can be. If they all are unfit, what gives their key up waits: something may have
    /// been made of them before, and they may be corrected, or go.
    pub(super) fn first_row<'r>(
        &self,
        rows: impl Iterator<Item = Result<&'r Row, Fault>>,
        envelope: &Envelope<'_>,
    ) -> Result<Option<Row>, Fault> {
        let Compiled::Row { columns, .. } = &self.kind else {
            return Ok(None);
        };
        let mut unmade = None;
        for row in rows {
            match self.columns(row?, columns, envelope) {
                Err(fault) if fault.verdict == Verdict::Never => unmade = Some(fault),
                made => return made.map(Some),
            }
        }
        unmade.map_or(Ok(None), |fault| {
            Err(Fault::later(format!(
                "another row has this key by now, and nothing can be made of that one: {}",
                fault.reason
            )))
        })
    }

    /// Returns the rows that have the name `name`, which a row gives up with `change`.
    fn all_with(&self, change: &Change, name: &str, ask: &mut dyn Ask) -> Result<Arc<[Row]>, Fault> {
        match ask.known().and_then(|known| known.of(self, name)) {
            Some(known) => Ok(known),
            None => {
                let names = GivenUp([(name.to_owned(), vec![change])].into());
                Ok(self.rows_with(&names, ask)?.remove(name).unwrap_or_default().into())
            }
        }
    }

    /// Returns which of `rows` are others than the one that `change` is about.
    fn others<'r>(&self, change: &Change, rows: &'r [Row]) -> impl Iterator<Item = &'r Row> {
        let own = match self.names.key.is_empty() {
            true => Vec::new(),
            false => self.keys_of(change),
        };
        rows.iter()
            .filter(move |other| own.is_empty() || !own.contains(&self.key_of(other)))
    }

    /// Returns the name of what a row makes: of an entry, folded, or the key in another table; `None`: it makes none.
    pub(super) fn name_of(&self, row: &Row) -> Option<String> {
        if row.is_unreadable() {
            return None;
        }
        let row = self.fits(Some(row)).ok().flatten()?;
        match &self.kind {
            Compiled::Entry { dn, .. } => {
                let name = self.render(dn, &self.context(row, &Envelope::NONE)).ok()?;
                Some(folded(&name))
            }
            _ => self.key_there(row).ok().flatten(),
        }
    }

    /// Tells whether the row `other`, which has the name, may have it at the place when `change` is delivered: it has not got it since. (Of what is
    /// delivered again: it got it by something that was delivered before.)
    fn had(&self, change: &Change, other: &Row, name: &str, ask: &mut dyn Ask) -> Result<bool, Fault> {
        if self.names.key.is_empty() {
            return Ok(true);
        }
        let awaited = self.await_of(change, other);
        let later = match ask.known().and_then(|known| known.later(self, &awaited)) {
            Some(known) => known,
            None => ask.later(self.table, &[awaited])?.pop().flatten(),
        };
        Ok(match later {
            None => true,
            Some(later) => later
                .before()
                .is_some_and(|row| self.name_of(&row).as_deref() == Some(name)),
        })
    }

    /// What is delivered of another row behind `change`.
    fn await_of(&self, change: &Change, other: &Row) -> Awaited {
        // In another table it may have been delivered.
        let is_elsewhere = self.table != change.table;
        Awaited {
            key: self.key_of(other),
            behind: change.key.to_string(),
            position: change.position + u64::from(is_elsewhere),
        }
    }
}
