//! What other bindings of the sink make under a name that a row gives up: two bindings may make rows of one table by the same key, or entries of one name. It is
//! left to them, and what stands there is then what they make of their row.
//!
//! Rows are looked up as they are now: a change of theirs that is not delivered yet will be, and says it again. For rows of another table all keys
//! are asked at once that a chunk of changes gives up ([`Namesakes`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::heir::Found;
use super::{Ask, Asking, Bound, Compiled, Given, Namesakes};
use crate::deliver::change::Change;
use crate::deliver::row::Row;
use crate::sink::ldap::folded;
use crate::sink::{Entry, Fault};

impl Bound {
    /// Returns those of `all` bindings of the sink that make rows of the same table, by the same key.
    pub(in crate::deliver) fn beside<'b>(&'b self, all: &'b [Bound]) -> impl Iterator<Item = &'b Bound> {
        all.iter().filter(|other| match (&self.kind, &other.kind) {
            (
                Compiled::Row { table, key, .. },
                Compiled::Row {
                    table: of_other,
                    key: by_other,
                    ..
                },
            ) => self.keeps_rows && self.name != other.name && table == of_other && key == by_other,
            _ => false,
        })
    }

    /// Looks up the rows that have `names`, which rows of another binding give up.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(in crate::deliver) fn rows_named<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        ask: &mut dyn Ask,
    ) -> Result<Found, Fault> {
        let mut found: HashMap<String, Vec<Row>> = names.map(|name| (name.to_owned(), Vec::new())).collect();
        let keys: Vec<Vec<&RawValue>> = found
            .keys()
            .filter_map(|name| serde_json::from_str(name).ok())
            .collect();
        let given: Vec<(String, BTreeSet<String>)> = self
            .columns_of_key()
            .map(|(at, column)| {
                let values = keys.iter().filter_map(|values| Some(values.get(at)?.get().to_owned()));
                (column.to_owned(), values.collect())
            })
            .collect();
        let mut rows = Vec::new();
        ask.with_one_of(self.table, &given, true, &mut |row| {
            if let Some(name) = self.name_of(row).filter(|name| found.contains_key(name)) {
                rows.push((name, row.clone()));
            }
            Ok(false)
        })?;
        for (name, row) in rows {
            found.entry(name).or_default().push(row);
        }
        Ok(Found {
            beside: found.into_iter().map(|(name, rows)| (name, rows.into())).collect(),
            ..Found::default()
        })
    }

    /// Returns the columns of the table that are columns of the other table's key as they are, each with its place in that key.
    fn columns_of_key(&self) -> impl Iterator<Item = (usize, &str)> {
        let (key, columns) = match &self.kind {
            Compiled::Row { key, columns, .. } => (key.as_slice(), columns.as_slice()),
            _ => (&[][..], &[][..]),
        };
        key.iter().enumerate().filter_map(move |(at, name)| {
            if columns.is_empty() {
                return Some((at, name.as_str()));
            }
            match &columns.iter().find(|(column, _)| column == name)?.1 {
                Given::Column(source, _) => Some((at, source.as_str())),
                Given::Made(_) => None,
            }
        })
    }

    /// Returns what another binding makes of a row with the key in another table that `row` gives up.
    pub(super) fn row_beside(&self, row: &Row, asking: &mut Asking<'_>) -> Result<Option<Row>, Fault> {
        let Some(name) = self.name_of(row) else {
            return Ok(None);
        };
        for other in self.beside(asking.beside) {
            let rows: Arc<[Row]> = match asking.ask.known().and_then(|known| known.beside(other, &name)) {
                Some(known) => known,
                None => other
                    .rows_named([name.as_str()].into_iter(), asking.ask)?
                    .beside
                    .remove(&name)
                    .unwrap_or_default(),
            };
            if let Some(made) = other.first_row(rows.iter().map(Ok), asking.envelope)? {
                return Ok(Some(made));
            }
        }
        Ok(None)
    }

    /// Returns what another binding makes of a row with the entry `dn`, which a row gives up with `change`.
    pub(super) fn entry_beside(
        &self,
        change: &Change,
        dn: &str,
        asking: &mut Asking<'_>,
    ) -> Result<Option<Entry>, Fault> {
        if matches!(asking.ask.known(), Some(Namesakes::NoMatter)) {
            return Ok(None);
        }
        for other in asking.beside.iter().filter(|other| other.name != self.name) {
            let rows = other.rows_at(dn, asking.ask)?;
            if let Some(entry) = other.first_entry(change, rows.iter(), dn, asking.envelope, asking.ask)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Returns the rows of which this binding makes the entry `dn`.
    pub(super) fn rows_at(&self, dn: &str, ask: &mut dyn Ask) -> Result<Vec<Row>, Fault> {
        let form = match &self.kind {
            Compiled::Entry { form, .. } if form.may_be_name(dn) => form,
            _ => return Ok(Vec::new()),
        };
        let texts: Vec<(String, BTreeSet<String>)> = form.shown(dn).into_iter().collect();
        let (name, mut rows) = (folded(dn), Vec::new());
        ask.with_one_of(self.table, &texts, false, &mut |row| {
            if self.name_of(row).as_deref() == Some(&*name) {
                rows.push(row.clone());
            }
            Ok(false)
        })?;
        Ok(rows)
    }
}
