//! Whose values stood at an entry that comes: it may have been there before, and what others had given to it went with it. Each row that refers to
//! it by a value, a flag or a query is told anew, as it is now.
//!
//! Called for all entries that come with a chunk of changes. An entry that is found by `search` is known by filters of one comparison
//! (`(uid={{ row.login }})`); of others it cannot be said here what they find.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Ask, Awaited, Bound, Compiled, Form, Target};
use crate::deliver::row::Row;
use crate::sink::ldap::{filters_of, folded};
use crate::sink::{Action, Delivery, EntryTarget, Fault};

/// Entries that come.
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
    /// The place of the change by which it comes.
    position: u64,
}

impl Come {
    pub(in crate::deliver) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Notes the entry that comes with a delivery of a change, if one does. (Rows that were there before are sent by `init`, those of all bindings.)
    pub(in crate::deliver) fn note(&mut self, delivery: &Delivery, position: u64) {
        let (Action::Entry(change), Some(_)) = (&delivery.action, delivery.event) else {
            return;
        };
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
        let dn = new.dn.clone();
        self.entries.insert(name, Entry { dn, position });
    }

    /// Returns the entry that a target means.
    fn meant(&self, target: &EntryTarget) -> Option<&Entry> {
        match target {
            EntryTarget::Dn(dn) => self.entries.get(&folded(dn)),
            EntryTarget::Search { base, filter, .. } => {
                let (base, names) = (folded(base), self.found_by.get(&folded(filter))?);
                let name = names.iter().find(|name| name.ends_with(&base))?;
                self.entries.get(name)
            }
        }
    }
}

impl Bound {
    /// Returns the rows that refer to entries which come, but for those that come later themselves.
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
            if let Some(entry) = self.refers_to(row, target).and_then(|target| come.meant(&target)) {
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
