//! Whose values stood at an entry that came: it may have been there before, and what others had given to it went with it. Each row that refers to
//! it by a value, a flag or a query is told anew, as it is now; one whose own change told that behind it is not.
//!
//! Called for all entries that came with a chunk of changes. An entry that is found by `search` is known by filters of one comparison
//! (`(uid={{ row.login }})`); of others it cannot be said here what they find.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Ask, Awaited, Bound, Compiled, Form, Target};
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
    /// The filters as they are.
    filters: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    dn: String,
    /// The place of the change by which it came.
    position: u64,
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
            Action::Entry(entry) => self.note_entry(entry, change.position),
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

    fn note_entry(&mut self, change: &EntryChange, position: u64) {
        let old = change.old.as_ref().map(|old| folded(&old.dn));
        let name = change.new.as_ref().map(|new| folded(&new.dn));
        if old == name {
            return;
        }
        // It went again.
        if let Some(old) = &old {
            self.entries.remove(old);
        }
        let (Some(new), Some(name)) = (&change.new, name) else {
            return;
        };
        for filter in filters_of(new) {
            self.found_by.entry(folded(&filter)).or_default().push(name.clone());
            self.filters.push(filter);
        }
        let entry = Entry {
            dn: new.dn.clone(),
            position,
            given: HashMap::new(),
        };
        self.entries.insert(name, entry);
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
    /// Returns the rows that refer to entries which came, but for those that were told behind it, or come later themselves.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(in crate::deliver) fn referring(&self, come: &Come, ask: &mut dyn Ask) -> Result<Vec<Row>, Fault> {
        let (target, form, texts): (&Target, &Form, Vec<&String>) = match &self.kind {
            Compiled::Value { target, forms, .. } | Compiled::Query { target, forms, .. } => match (target, &forms[..])
            {
                (Target::Dn(_), [form, ..]) => (target, form, come.entries.values().map(|entry| &entry.dn).collect()),
                (Target::Search { .. }, [_, form, ..]) => (target, form, come.filters.iter().collect()),
                _ => return Ok(Vec::new()),
            },
            _ => return Ok(Vec::new()),
        };
        let texts: Vec<&String> = texts.into_iter().filter(|text| form.may_be_name(text)).collect();
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows: Vec<(Row, u64)> = Vec::new();
        ask.with_one_of(self.table, &shown(form, &texts), false, &mut |row| {
            let entry = self.refers_to(row, target).and_then(|target| come.meant(&target));
            if let Some(entry) = entry.filter(|entry| !entry.has(&self.name, &self.key_of(row))) {
                rows.push((row.clone(), entry.position));
            }
            Ok(false)
        })?;
        if rows.is_empty() || self.names.key.is_empty() {
            return Ok(rows.into_iter().map(|(row, _)| row).collect());
        }
        let awaited = |(row, position): &(Row, u64)| Awaited {
            key: self.key_of(row),
            behind: String::new(),
            position: position + 1,
        };
        let awaited: Vec<Awaited> = rows.iter().map(awaited).collect();
        let later = ask.later(self.table, &awaited)?;
        let is_there = |later: &Option<super::Later>| later.as_ref().is_none_or(|later| !later.is_new);
        let rows = rows.into_iter().zip(later);
        Ok(rows
            .filter(|(_, later)| is_there(later))
            .map(|((row, _), _)| row)
            .collect())
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
