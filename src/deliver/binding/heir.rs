//! Who has an entry of a directory that a row gives up, or a key in another table: another row may have been given its name before, because nothing
//! in the table forbids it, or only at the end of a transaction.
//!
//! Whether a row has the name is told by what its template makes; names of entries are compared as a directory does. Rows are looked up as they are now, for all names that a
//! chunk of changes gives up at once ([`Namesakes`]), and held against the log: a row that takes the name only later is none, its own change makes the
//! entry anew. So the answer does not depend on how far the worker has come. (In another table nothing is made of the other row's values: its own change
//! writes them. So it does not matter there whether that has come already.)

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
    /// By binding and name, as far as they were looked up.
    Known(HashMap<String, HashMap<String, Arc<[Row]>>>),
    /// It makes no difference who has them.
    NoMatter,
}

impl Namesakes {
    pub(in crate::deliver) fn add(&mut self, binding: &Bound, rows: HashMap<String, Vec<Row>>) {
        if let Namesakes::Known(all) = self {
            let rows = rows.into_iter().map(|(name, rows)| (name, rows.into())).collect();
            all.entry(binding.name.to_string())
                .or_default()
                .extend::<HashMap<_, _>>(rows);
        }
    }

    /// `None`: it was not looked up.
    pub(super) fn of(&self, binding: &Bound, name: &str) -> Option<Arc<[Row]>> {
        match self {
            Namesakes::Known(all) => all.get(&*binding.name)?.get(name).cloned(),
            Namesakes::NoMatter => Some(Arc::default()),
        }
    }
}

/// Names that rows give up, and these rows.
#[derive(Debug, Default)]
pub(in crate::deliver) struct GivenUp<'a>(BTreeMap<String, Vec<&'a Row>>);

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
            names.0.entry(name).or_default().push(old);
        }
    }

    /// Looks up which rows have names that others give up.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(in crate::deliver) fn namesakes(
        &self,
        names: &GivenUp<'_>,
        ask: &mut dyn Ask,
    ) -> Result<HashMap<String, Vec<Row>>, Fault> {
        let mut found: HashMap<String, Vec<Row>> = names.0.keys().map(|name| (name.clone(), Vec::new())).collect();
        let (columns, is_exact) = match &self.kind {
            Compiled::Entry { columns, .. } => (columns, false),
            Compiled::Row { key_sources, .. } => (key_sources, true),
            _ => return Ok(found),
        };
        let given: Vec<(String, BTreeSet<&str>)> = columns
            .iter()
            .map(|column| {
                let rows = names.0.values().flatten();
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

    /// Returns what another row makes of the entry `name`, which the row `row` gives up with `change`; `None`: nobody has it then.
    pub(super) fn heir(
        &self,
        change: &Change,
        row: &Row,
        name: &str,
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
    ) -> Result<Option<Entry>, Fault> {
        let others = self.others(change, row, name, ask)?;
        self.first_entry(change, &others, name, envelope, ask)
    }

    /// Returns what the first one of `rows` makes of the entry `name` that they have now, and had when `change` was made.
    pub(super) fn first_entry(
        &self,
        change: &Change,
        rows: &[Row],
        name: &str,
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
    ) -> Result<Option<Entry>, Fault> {
        for row in rows {
            if !self.names.key.is_empty() && !self.had(change, &self.key_of(row), name, ask)? {
                continue;
            }
            match self.entry(row, envelope, ask) {
                // Of that row no entry was ever made.
                Err(fault) if fault.verdict == Verdict::Never => {}
                made => return made.map(Some),
            }
        }
        Ok(None)
    }

    /// Tells whether another row has the key in another table that the row `row` gives up with `change`.
    pub(super) fn is_taken(&self, change: &Change, row: &Row, ask: &mut dyn Ask) -> Result<bool, Fault> {
        Ok(match self.name_of(row) {
            Some(name) => !self.others(change, row, &name, ask)?.is_empty(),
            None => false,
        })
    }

    /// Returns the other rows that have the name `name`, which the row `row` gives up with `change`.
    fn others(&self, change: &Change, row: &Row, name: &str, ask: &mut dyn Ask) -> Result<Vec<Row>, Fault> {
        let all = match ask.known().and_then(|known| known.of(self, name)) {
            Some(known) => known,
            None => {
                let names = GivenUp([(name.to_owned(), vec![row])].into());
                self.namesakes(&names, ask)?.remove(name).unwrap_or_default().into()
            }
        };
        let own = [self.key_of(row), change.key.to_string()];
        let is_other = |other: &&Row| self.names.key.is_empty() || !own.contains(&self.key_of(other));
        Ok(all.iter().filter(is_other).cloned().collect())
    }

    /// Returns the name of what a row makes: of an entry, folded, or the key in another table; `None`: it makes none.
    pub(super) fn name_of(&self, row: &Row) -> Option<String> {
        if row.is_unreadable() {
            return None;
        }
        let envelope = Envelope {
            id: "",
            time: "",
            source: "",
        };
        let row = self.fits(Some(row)).ok().flatten()?;
        match &self.kind {
            Compiled::Entry { dn, .. } => {
                let name = self.render(dn, &self.context(row, &envelope)).ok()?;
                Some(folded(&name))
            }
            _ => self.key_there(row, &envelope).ok().flatten(),
        }
    }

    /// Tells whether the row with this key, which has the name now, had it when `change` was made: it has not got it since.
    fn had(&self, change: &Change, key: &str, name: &str, ask: &mut dyn Ask) -> Result<bool, Fault> {
        // What one statement did is delivered in the order of the keys; in another table it may have been delivered.
        let place = change.position + u64::from(self.table != change.table || key < &*change.key);
        Ok(match ask.later(self.table, key, place)? {
            None => true,
            Some(Later { is_new: true, .. }) => false,
            Some(Later { is_new: false, row }) => self.name_of(&row).as_deref() == Some(name),
        })
    }
}
