//! Whose values stood at an entry that came: it may have been there before, and what others had given to it went with it. Each row that refers to
//! it by a value, a flag or a query is told anew, as it is now, if the sink knows that it refers to it: a row that comes or gets there only later is told by its own
//! change. One whose own change told that behind the entry is not told.
//!
//! Called for all entries that came with a chunk of changes. An entry that is found by `search` is known by filters of one comparison
//! (`(uid={{ row.login }})`); of others it cannot be said here what they find. What stands for a row (`of_row`) finds the entry that is made of it, like a filter.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Ask, Awaited, Bound, Compiled, Form, Later, Target, of_row};
use crate::deliver::change::Change;
use crate::deliver::row::Row;
use crate::manifest::Mode;
use crate::sink::ldap::{filter_of, filters_of, folded};
use crate::sink::{self, Action, Attribute, Delivery, EntryChange, EntryTarget, Fault, ValueChange};

/// Filters by their folded texts, each with the ways in which it was written.
type Filters = BTreeMap<String, BTreeSet<String>>;

/// Entries that came.
#[derive(Debug, Default)]
pub(in crate::deliver) struct Come {
    /// By folded name.
    entries: HashMap<String, Entry>,
    /// Which of them filters find, and found.
    index: Index,
    /// Filters that found entries which rows gave up, by folded name: they may stand there, and become other rows'.
    left: HashMap<String, Filters>,
    /// Rows as they were, by binding, that gave something to an entry that is found by `search`.
    gave: HashMap<Arc<str>, Vec<Row>>,
}

/// The folded names of entries, by folded text.
#[derive(Debug, Default)]
struct Index {
    /// Of those that a filter finds.
    now: HashMap<String, BTreeSet<String>>,
    /// Of those that it found, or that had this name, while they were other rows'.
    before: HashMap<String, BTreeSet<String>>,
}

impl Index {
    /// Notes that a filter does not find an entry any more.
    fn finds_no_more(&mut self, filter: &str, name: &str) {
        if let Some(names) = self.now.get_mut(filter) {
            names.remove(name);
        }
        self.before
            .entry(filter.to_owned())
            .or_default()
            .insert(name.to_owned());
    }
}

#[derive(Debug)]
struct Entry {
    dn: String,
    /// Filters that find it: several rows may make it together.
    filters: Filters,
    /// Filters that found it before.
    former: Filters,
    /// The same of its object classes.
    classes: BTreeSet<String>,
    /// The name that it had, and another row has: what was given to it by that one moved along.
    moved_from: Option<String>,
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
            Action::Entry(entry) => self.note_entry(entry, delivery.replay.is_some()),
            Action::Value(value) => {
                let targets = value.add.iter().map(|(target, _)| target);
                self.note_given(targets, &delivery.binding, &change.key);
                let removed = value.remove.iter().map(|(target, _)| target);
                self.note_gave(removed, &delivery.binding, change);
            }
            Action::Attributes(all) => {
                self.note_given(all.iter().map(|(target, _)| target), &delivery.binding, &change.key);
                self.note_gave(all.iter().map(|(target, _)| target), &delivery.binding, change);
            }
            Action::Message(_) | Action::Row(_) => {}
        }
    }

    /// `is_again`: it was delivered before, and the entry may have gone the row's way from under a name that another row has.
    fn note_entry(&mut self, change: &EntryChange, is_again: bool) {
        let name = |entry: &sink::Entry| folded(&entry.dn);
        if change.old.as_ref().map(name) == change.new.as_ref().map(name) {
            if let (Some(old), Some(new)) = (&change.old, &change.new) {
                self.gets_another_key(old, new);
            }
            return;
        }
        match (&change.old, &change.heir) {
            (Some(old), Some(heir)) => {
                self.handed_on(old, heir, &change.others);
                self.left_under_another_key(old, change.new.as_ref());
            }
            (Some(old), None) => self.goes(old),
            (None, _) => {}
        }
        let Some(new) = &change.new else { return };
        self.comes(new);
        if let (Some(old), Some(_), true) = (&change.old, &change.heir, is_again) {
            self.moved(&folded(&new.dn), old);
        }
    }

    /// Notes that the row of an entry may have got another key: what was given to it by the former one is no more, and other rows may name it by the new one.
    fn gets_another_key(&mut self, old: &sink::Entry, new: &sink::Entry) {
        let (Some(before), Some(row)) = (&old.row, &new.row) else {
            return;
        };
        if before == row {
            return;
        }
        let come = self.comes(new);
        come.filters.remove(before);
        put(&mut come.former, [before.clone()]);
        self.index.finds_no_more(before, &folded(&new.dn));
    }

    /// Notes that a row which gave an entry up to another one has another key since: what is known to be given by that was given to the entry.
    fn left_under_another_key(&mut self, old: &sink::Entry, new: Option<&sink::Entry>) {
        let name = folded(&old.dn);
        let row = new
            .and_then(|new| new.row.as_ref())
            .filter(|row| old.row.as_ref() != Some(*row));
        if let (Some(row), Some(come)) = (row, self.entries.get_mut(&name)) {
            put(&mut come.former, [row.clone()]);
            self.index.before.entry(row.clone()).or_default().insert(name);
        }
    }

    /// Notes that an entry came, or is this row's now, alone or with others.
    fn comes(&mut self, made: &sink::Entry) -> &mut Entry {
        let name = folded(&made.dn);
        let left = self.left.remove(&name);
        let come = self.entries.entry(name.clone()).or_insert_with(|| Entry {
            dn: made.dn.clone(),
            filters: Filters::new(),
            former: left.unwrap_or_default(),
            classes: BTreeSet::new(),
            moved_from: None,
            given: HashMap::new(),
        });
        let filters = found_by(made);
        for key in come.overwritten(made, &filters) {
            self.index.finds_no_more(&key, &name);
            if let Some(texts) = come.filters.remove(&key) {
                come.former.entry(key).or_default().extend(texts);
            }
        }
        for filter in &filters {
            self.index.now.entry(folded(filter)).or_default().insert(name.clone());
        }
        put(&mut come.filters, filters);
        let classes = made.object_classes.iter();
        come.classes
            .extend(classes.map(|class| folded(&filter_of("objectClass", class))));
        come
    }

    /// Notes that a row gave up an entry which another row has: what it alone gave is no more.
    fn handed_on(&mut self, old: &sink::Entry, heir: &sink::Entry, others: &[(String, String)]) {
        let name = folded(&old.dn);
        let others = others.iter().map(|(attribute, value)| filter_of(attribute, value));
        let stays: BTreeSet<String> = others.chain(found_by(heir)).map(|filter| folded(&filter)).collect();
        let mut gone = found_by(old);
        gone.retain(|filter| !stays.contains(&folded(filter)));
        let keys: Vec<String> = gone.iter().map(|filter| folded(filter)).collect();
        let come = self.comes(heir);
        come.given.clear();
        for key in &keys {
            come.filters.remove(key);
        }
        put(&mut come.former, gone);
        for key in keys {
            self.index.finds_no_more(&key, &name);
        }
    }

    /// Notes that an entry may have come from under a name that stays another row's.
    fn moved(&mut self, name: &str, old: &sink::Entry) {
        let Some(come) = self.entries.get_mut(name) else { return };
        come.moved_from = Some(old.dn.clone());
        let names = self.index.before.entry(folded(&old.dn)).or_default();
        names.insert(name.to_owned());
    }

    /// Notes that an entry went, unless another row takes it over.
    fn goes(&mut self, old: &sink::Entry) {
        let name = folded(&old.dn);
        let mut gone = found_by(old);
        if let Some(entry) = self.entries.remove(&name) {
            gone.extend(entry.filters.into_values().flatten());
            self.left.insert(name.clone(), entry.former);
        }
        for filter in &gone {
            self.index.finds_no_more(&folded(filter), &name);
        }
        put(self.left.entry(name).or_default(), gone);
    }

    /// Notes that a row gave something, before its change, to an entry that is found by `search`, or by a row.
    fn note_gave<'t>(
        &mut self,
        mut targets: impl Iterator<Item = &'t EntryTarget>,
        binding: &Arc<str>,
        change: &Change,
    ) {
        if let Some(old) = &change.old
            && targets.any(|target| !matches!(target, EntryTarget::Dn(_)))
        {
            self.gave.entry(Arc::clone(binding)).or_default().push(old.clone());
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
            EntryTarget::OfRow { row, .. } => self.index.now.get(row)?.first().cloned(),
            EntryTarget::Search { base, filter, .. } => {
                let (base, names) = (folded(base), self.index.now.get(&folded(filter))?);
                names.iter().find(|name| name.ends_with(&base)).cloned()
            }
        }
    }

    /// Returns the entry that a target means, if it came.
    fn meant(&self, target: &EntryTarget) -> Option<&Entry> {
        self.entries.get(&self.name_of(target)?)
    }

    /// Returns the entries that a target meant while they were other rows', and means no more.
    fn meant_before(&self, target: &EntryTarget) -> impl Iterator<Item = &Entry> {
        let text = match target {
            EntryTarget::Dn(dn) => dn,
            EntryTarget::Search { filter, .. } => filter,
            EntryTarget::OfRow { row, .. } => row,
        };
        let names = self.index.before.get(&folded(text)).into_iter().flatten();
        let entries = names.filter_map(|name| self.entries.get(name));
        entries.filter(move |entry| match target {
            EntryTarget::Dn(dn) => entry.moved_from.as_deref().map(folded) == Some(folded(dn)),
            EntryTarget::OfRow { row, .. } => entry.was_found_by(row),
            EntryTarget::Search { base, filter, .. } => {
                folded(&entry.dn).ends_with(&folded(base)) && entry.was_found_by(filter)
            }
        })
    }
}

impl Entry {
    /// Tells whether what a row of a binding gives was told behind it, and is there still.
    fn has(&self, binding: &str, key: &str) -> bool {
        let is_told = self.given.get(binding).is_some_and(|keys| keys.contains(key));
        is_told && self.filters_gone().next().is_none() && self.moved_from.is_none()
    }

    /// Returns the folded filters that find it no more when a row writes it that gives values of their attributes, and allows no others beside them.
    fn overwritten(&self, made: &sink::Entry, filters: &[String]) -> Vec<String> {
        let own: BTreeSet<String> = filters.iter().map(|filter| folded(filter)).collect();
        let forced = made.attributes.iter().filter(|given| given.mode == Mode::Force);
        let keys = forced.flat_map(|attribute| of_attribute(&self.filters, &attribute.name));
        keys.filter(|key| !own.contains(*key)).cloned().collect()
    }

    /// Returns the filters that found it before, and find it no more.
    fn filters_gone(&self) -> impl Iterator<Item = &String> {
        let gone = self.former.iter().filter(|(key, _)| !self.filters.contains_key(*key));
        gone.flat_map(|(_, texts)| texts)
    }

    /// Tells whether a filter found it before, and finds it no more.
    fn was_found_by(&self, filter: &str) -> bool {
        let key = folded(filter);
        self.former.contains_key(&key) && !self.filters.contains_key(&key)
    }

    /// Tells whether its rows give it a value of an attribute; `None`: any.
    fn has_own(&self, attribute: &str, value: Option<&str>) -> bool {
        match value {
            Some(value) => {
                let key = folded(&filter_of(attribute, value));
                self.filters.contains_key(&key) || self.classes.contains(&key)
            }
            None => {
                let is_class = folded(attribute) == folded("objectClass") && !self.classes.is_empty();
                is_class || of_attribute(&self.filters, attribute).next().is_some()
            }
        }
    }
}

/// Returns the filters that find an entry, and what stands for the row that it is of.
fn found_by(made: &sink::Entry) -> Vec<String> {
    filters_of(made).into_iter().chain(made.row.clone()).collect()
}

/// Returns the folded filters that compare an attribute.
fn of_attribute<'f>(filters: &'f Filters, attribute: &str) -> impl Iterator<Item = &'f String> {
    let begins = folded(&format!("({attribute}="));
    let behind = filters.range(begins.clone()..);
    behind
        .map(|(key, _)| key)
        .take_while(move |key| key.starts_with(&begins))
}

fn put(filters: &mut Filters, more: impl IntoIterator<Item = String>) {
    for filter in more {
        filters.entry(folded(&filter)).or_default().insert(filter);
    }
}

/// What a row gave to an entry that is another row's by now.
pub(in crate::deliver) struct LeftBehind {
    pub row: Row,
    /// The entry.
    pub dn: String,
    /// Takes it away there.
    pub action: Action,
}

/// What rows give to entries that came, which are told anew: that is not taken away there before.
#[derive(Debug, Default)]
pub(in crate::deliver) struct GivenAnew {
    /// How values are spelt, by name of the entry, attribute and value, all folded.
    values: HashMap<(String, String, String), BTreeSet<String>>,
    /// Names of entries and their attributes of which a query gives all values.
    attributes: HashSet<(String, String)>,
}

impl GivenAnew {
    /// Returns what is still to be taken away; `None`: nothing.
    pub(in crate::deliver) fn spares(&self, mut left: LeftBehind) -> Option<LeftBehind> {
        let key = |attribute: &str| (folded(&left.dn), folded(attribute));
        match &mut left.action {
            Action::Value(change) => {
                let (dn, attribute) = key(&change.attribute);
                let (_, value) = change.remove.as_ref()?;
                if let Some(spelt) = self.values.get(&(dn, attribute, folded(value))) {
                    if spelt.contains(value) {
                        return None;
                    }
                    change.instead = spelt.first().cloned();
                }
            }
            Action::Attributes(all) => {
                all.retain(|(_, attribute)| !self.attributes.contains(&key(&attribute.name)));
                if all.is_empty() {
                    return None;
                }
            }
            Action::Entry(_) | Action::Message(_) | Action::Row(_) => {}
        }
        Some(left)
    }
}

impl Bound {
    /// Notes what rows of this binding give to entries that came.
    pub(in crate::deliver) fn note_anew(&self, rows: &[Row], come: &Come, anew: &mut GivenAnew) {
        let Some(target) = self.entry_meant() else {
            return;
        };
        for row in rows {
            let meant = self.refers_to(row, target);
            let Some(entry) = meant.and_then(|target| come.meant(&target)) else {
                continue;
            };
            let dn = folded(&entry.dn);
            match &self.kind {
                Compiled::Value { attribute, .. } => {
                    if let Some((_, value)) = self.given_by(row) {
                        let key = (dn, folded(attribute), folded(&value));
                        anew.values.entry(key).or_default().insert(value);
                    }
                }
                Compiled::Query {
                    attribute,
                    mode: Mode::Force,
                    ..
                } => {
                    anew.attributes.insert((dn, folded(attribute)));
                }
                _ => {}
            }
        }
    }

    /// Returns what rows gave to entries that became other rows' where they stand, and that no search finds there now. `last` as for [`Bound::referring`].
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(in crate::deliver) fn left_behind(
        &self,
        come: &Come,
        last: Option<&Change>,
        ask: &mut dyn Ask,
    ) -> Result<Vec<LeftBehind>, Fault> {
        let Some(target) = self.entry_meant() else {
            return Ok(Vec::new());
        };
        let entries = come.entries.values();
        let texts: Vec<&String> = match target {
            Target::Dn(_) => entries.filter_map(|entry| entry.moved_from.as_ref()).collect(),
            Target::Search { .. } | Target::OfRow { .. } => entries.flat_map(Entry::filters_gone).collect(),
        };
        let is_meant = |row: &Row| {
            let target = self.refers_to(row, target);
            target.is_some_and(|target| come.meant_before(&target).next().is_some())
        };
        let rows = self.rows_of(target, &texts, &is_meant, last, ask)?;
        let known = rows.into_iter().map(|(_, known)| known);
        let known = known.chain(come.gave.get(&self.name).into_iter().flatten().cloned());
        let mut left = Vec::new();
        for row in known {
            let Some(meant) = self.refers_to(&row, target) else {
                continue;
            };
            for entry in come.meant_before(&meant) {
                if let Some(action) = self.taken_back(&row, entry) {
                    let (row, dn) = (row.clone(), entry.dn.clone());
                    left.push(LeftBehind { row, dn, action });
                }
            }
        }
        Ok(left)
    }

    /// Returns what takes away what a row gave to an entry; `None`: nothing, or it stays.
    fn taken_back(&self, row: &Row, entry: &Entry) -> Option<Action> {
        let target = EntryTarget::Dn(entry.dn.clone());
        match &self.kind {
            Compiled::Value { attribute, .. } => {
                let (_, value) = self.given_by(row)?;
                (!entry.has_own(attribute, Some(&value))).then(|| {
                    Action::Value(ValueChange {
                        attribute: attribute.clone(),
                        add: None,
                        remove: Some((target, value)),
                        instead: None,
                        renamed: None,
                    })
                })
            }
            // (What was written only where there was nothing may be anybody's.)
            Compiled::Query {
                attribute,
                mode: Mode::Force,
                ..
            } => (!entry.has_own(attribute, None)).then(|| {
                let attribute = Attribute {
                    name: attribute.clone(),
                    mode: Mode::Force,
                    values: Vec::new(),
                };
                Action::Attributes(vec![(target, attribute)])
            }),
            _ => None,
        }
    }

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
        let Some(target) = self.entry_meant() else {
            return Ok(Vec::new());
        };
        let entries = come.entries.values();
        let texts: Vec<&String> = match target {
            Target::Dn(_) => entries.map(|entry| &entry.dn).collect(),
            Target::Search { .. } | Target::OfRow { .. } => {
                entries.flat_map(|entry| entry.filters.values().flatten()).collect()
            }
        };
        let is_told = |row: &Row| {
            let entry = self.refers_to(row, target).and_then(|target| come.meant(&target));
            entry.is_some_and(|entry| !entry.has(&self.name, &self.key_of(row)))
        };
        let rows = self.rows_of(target, &texts, &is_told, last, ask)?;
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }

    /// Returns which entry a value, a flag or a query is for.
    fn entry_meant(&self) -> Option<&Target> {
        match &self.kind {
            Compiled::Value { target, .. } | Compiled::Query { target, .. } => Some(target),
            _ => None,
        }
    }

    /// Returns the columns, with their texts, of the rows that may mean an entry by one of `texts`: its name, a filter, or what stands for a row; nothing when it may be
    /// any row. `None`: no row does.
    fn columns_meaning(&self, target: &Target, texts: &[&String]) -> Option<Vec<(String, BTreeSet<String>)>> {
        let of_kind = |is_row: bool| texts.iter().copied().filter(move |text| of_row::is_row(text) == is_row);
        let (Compiled::Value { forms, .. } | Compiled::Query { forms, .. }) = &self.kind else {
            return None;
        };
        if let Target::OfRow { .. } = target {
            let columns = of_kind(true).filter_map(|name| target.columns_of(name)).flatten();
            let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            columns.for_each(|(column, values)| all.entry(column).or_default().extend(values));
            return (!all.is_empty()).then(|| all.into_iter().collect());
        }
        let form = forms.get(usize::from(matches!(target, Target::Search { .. })))?;
        let texts: Vec<&String> = of_kind(false).filter(|text| form.may_be_name(text)).collect();
        (!texts.is_empty()).then(|| shown(form, &texts))
    }

    /// Returns the rows that mean an entry by one of `texts` and that are `wanted`, as they are now and as the sink knows them.
    fn rows_of(
        &self,
        target: &Target,
        texts: &[&String],
        is_wanted: &dyn Fn(&Row) -> bool,
        last: Option<&Change>,
        ask: &mut dyn Ask,
    ) -> Result<Vec<(Row, Row)>, Fault> {
        let Some(columns) = self.columns_meaning(target, texts) else {
            return Ok(Vec::new());
        };
        let mut rows: Vec<Row> = Vec::new();
        let is_exact = matches!(target, Target::OfRow { .. });
        ask.with_one_of(self.table, &columns, is_exact, &mut |row| {
            if is_wanted(row) {
                rows.push(row.clone());
            }
            Ok(false)
        })?;
        let later = match rows.is_empty() || self.names.key.is_empty() {
            true => vec![None; rows.len()],
            false => {
                let awaited: Vec<Awaited> = rows.iter().map(|row| self.await_behind(last, row)).collect();
                ask.later(self.table, &awaited)?
            }
        };
        let known = |(row, later): (Row, Option<Later>)| match later {
            None => Some((row.clone(), row)),
            // It comes itself, or gets there itself.
            Some(Later { is_new: true, .. }) => None,
            Some(Later { row: known, .. }) => is_wanted(&known).then_some((row, known)),
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
        self.target(target, row, &self.context(row, &super::Envelope::NONE))
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
