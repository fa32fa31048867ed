//! Whose values stood at an entry that came: it may have been there before, and what others had given to it went with it. Each row that refers to
//! it by a value, a flag or a query is told anew, as it is now, if the sink knows that it refers to it: a row that comes or gets there only later is told by its own
//! change. One whose own change told that behind the entry is not told.
//!
//! Called for all entries that came with a chunk of changes. An entry that is found by `search` is known by filters of one comparison
//! (`(uid={{ row.login }})`); of others it cannot be said here what they find.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Ask, Awaited, Bound, Compiled, Form, Later, Target};
use crate::deliver::change::Change;
use crate::deliver::row::Row;
use crate::sink::ldap::{filters_of, folded};
use crate::sink::{Action, Delivery, EntryChange, EntryTarget, Fault};

/// Entries that came.
#[derive(Debug, Default)]
pub(in crate::deliver) struct Come {
    /// By folded name.
    entries: HashMap<String, Entry>,
    /// The folded names of those that a filter finds, by its folded text.
    found_by: HashMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Entry {
    dn: String,
    /// Filters that find it.
    filters: Vec<String>,
    /// What was given to it since: the keys of the rows, by binding.
    given: HashMap<Arc<str>, HashSet<Arc<str>>>,
}

impl Come {
    pub(in crate::deliver) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Notes what arrived of a change: that an entry came, or what was given to one. (Rows that were there before are sent by `init`, those of all bindings.)
    pub(in crate::deliver) fn note(&mut self, delivery: &Delivery, change: &Change) {
        match &delivery.action {
            _ if delivery.event.is_none() => {}
            Action::Entry(entry) => self.note_entry(entry),
            Action::Value(value) => {
                let targets = value.add.iter().map(|(target, _)| target);
                self.note_given(targets, &delivery.binding, &change.key);
            }
            Action::Attributes(all) => {
                self.note_given(all.iter().map(|(target, _)| target), &delivery.binding, &change.key);
            }
            Action::Message(_) | Action::Row(_) => {}
        }
    }

    fn note_entry(&mut self, change: &EntryChange) {
        let old = change.old.as_ref().map(|old| folded(&old.dn));
        let name = change.new.as_ref().map(|new| folded(&new.dn));
        if old == name {
            return;
        }
        if let Some(old) = old.filter(|_| change.heir.is_none()) {
            self.goes(&old);
        }
        let (Some(new), Some(name)) = (&change.new, name) else {
            return;
        };
        let filters = filters_of(new);
        for filter in &filters {
            self.found_by.entry(folded(filter)).or_default().push(name.clone());
        }
        let come = self.entries.entry(name).or_insert_with(|| Entry {
            dn: new.dn.clone(),
            filters: Vec::new(),
            given: HashMap::new(),
        });
        come.filters.extend(filters);
    }

    /// Notes that an entry went again.
    fn goes(&mut self, name: &str) {
        let Some(entry) = self.entries.remove(name) else { return };
        for filter in &entry.filters {
            if let Some(found) = self.found_by.get_mut(&folded(filter)) {
                found.retain(|found| found != name);
            }
        }
    }

    fn note_given<'t>(&mut self, targets: impl Iterator<Item = &'t EntryTarget>, binding: &Arc<str>, key: &Arc<str>) {
        if self.is_empty() {
            return;
        }
        for target in targets {
            if let Some(entry) = self.name_of(target).and_then(|name| self.entries.get_mut(&name)) {
                entry
                    .given
                    .entry(Arc::clone(binding))
                    .or_default()
                    .insert(Arc::clone(key));
            }
        }
    }

    /// Returns the folded name of the entry that a target means, if it came.
    fn name_of(&self, target: &EntryTarget) -> Option<String> {
        match target {
            EntryTarget::Dn(dn) => Some(folded(dn)),
            EntryTarget::Search { base, filter, .. } => {
                let (base, names) = (folded(base), self.found_by.get(&folded(filter))?);
                names.iter().find(|name| name.ends_with(&base)).cloned()
            }
        }
    }

    /// Returns the entry that a target means, if it came.
    fn meant(&self, target: &EntryTarget) -> Option<&Entry> {
        self.entries.get(&self.name_of(target)?)
    }
}

impl Entry {
    /// Tells whether what a row of a binding gives was told behind it.
    fn has(&self, binding: &str, key: &str) -> bool {
        self.given.get(binding).is_some_and(|keys| keys.contains(key))
    }
}

impl Bound {
    /// Returns the rows that refer to entries which came, and do for the sink as well, but for those that were told behind it. `last` is the last change
    /// that it knows of the window that is under way; `None`: none is.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(in crate::deliver) fn referring(
        &self,
        come: &Come,
        last: Option<&Change>,
        ask: &mut dyn Ask,
    ) -> Result<Vec<Row>, Fault> {
        let (target, form, texts): (&Target, &Form, Vec<&String>) = match &self.kind {
            Compiled::Value { target, forms, .. } | Compiled::Query { target, forms, .. } => match (target, &forms[..])
            {
                (Target::Dn(_), [form, ..]) => (target, form, come.entries.values().map(|entry| &entry.dn).collect()),
                (Target::Search { .. }, [_, form, ..]) => {
                    let filters = come.entries.values().flat_map(|entry| &entry.filters);
                    (target, form, filters.collect())
                }
                _ => return Ok(Vec::new()),
            },
            _ => return Ok(Vec::new()),
        };
        let texts: Vec<&String> = texts.into_iter().filter(|text| form.may_be_name(text)).collect();
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let is_told = |row: &Row| {
            let entry = self.refers_to(row, target).and_then(|target| come.meant(&target));
            entry.is_some_and(|entry| !entry.has(&self.name, &self.key_of(row)))
        };
        let mut rows: Vec<Row> = Vec::new();
        ask.with_one_of(self.table, &shown(form, &texts), false, &mut |row| {
            if is_told(row) {
                rows.push(row.clone());
            }
            Ok(false)
        })?;
        if rows.is_empty() || self.names.key.is_empty() {
            return Ok(rows);
        }
        let awaited: Vec<Awaited> = rows.iter().map(|row| self.await_behind(last, row)).collect();
        let later = ask.later(self.table, &awaited)?;
        let known = |(row, later)| match later {
            None => Some(row),
            // It comes itself, or gets there itself.
            Some(Later { is_new: true, .. }) => None,
            Some(Later { row: known, .. }) => is_told(&known).then_some(row),
        };
        Ok(rows.into_iter().zip(later).filter_map(known).collect())
    }

    /// What is delivered of a row behind `last`, whichever row that was of; `None`: behind all that is delivered.
    fn await_behind(&self, last: Option<&Change>, row: &Row) -> Awaited {
        let key = self.key_of(row);
        let Some(last) = last else {
            return Awaited {
                key,
                behind: String::new(),
                position: 0,
            };
        };
        let is_behind_all = self.table != last.table || *key == *last.key;
        Awaited {
            key,
            behind: last.key.to_string(),
            position: last.position + u64::from(is_behind_all),
        }
    }

    /// Returns the entry that a row refers to; `None`: none, or that cannot be said.
    fn refers_to(&self, row: &Row, target: &Target) -> Option<EntryTarget> {
        let row = self.fits((!row.is_unreadable()).then_some(row)).ok().flatten()?;
        self.target(target, &self.context(row, &super::Envelope::NONE))
            .ok()
            .flatten()
    }
}

/// Returns the column, with its texts, of the rows of which a template makes one of `texts`; nothing when it may be any row.
fn shown(form: &Form, texts: &[&String]) -> Vec<(String, BTreeSet<String>)> {
    let mut columns: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for text in texts {
        let Some((column, values)) = form.shown(text) else {
            return Vec::new();
        };
        columns.entry(column).or_default().extend(values);
    }
    columns.into_iter().collect()
}
