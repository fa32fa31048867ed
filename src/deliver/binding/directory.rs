//! What a binding makes for a directory: the entry of a row, a value of another entry, an attribute that a query gives.

use std::collections::BTreeSet;

use minijinja::Value;

use super::{Ask, Asking, Bound, Compiled, Envelope, Source, Target, Told};
use crate::deliver::row::Row;
use crate::manifest::Mode;
use crate::sink::ldap::folded;
use crate::sink::{Attribute, Entry, EntryChange, EntryTarget, Fault, ValueChange, Verdict};

/// Who else gives a value to an entry.
pub(super) enum Giver {
    Nobody,
    /// Another row.
    Another,
    /// Another row, in a spelling (this one) that may be the same to the directory.
    Nearly(String),
}

impl Giver {
    /// Notes that somebody gives `value`.
    fn or_gives(&mut self, value: &(EntryTarget, String), given: &(EntryTarget, String)) {
        if !matches!(self, Giver::Another) && is_nearly(value, given) {
            *self = match value.1 == given.1 {
                true => Giver::Another,
                false => Giver::Nearly(value.1.clone()),
            };
        }
    }
}

impl Bound {
    /// Makes what becomes of the entry of a row; `entries`: the names of those that it touches.
    pub(super) fn make_entry(
        &self,
        told: &Told<'_>,
        asking: &mut Asking<'_>,
        entries: &mut Vec<String>,
    ) -> Result<Option<EntryChange>, Fault> {
        let envelope = asking.envelope;
        let old = match told.old {
            Some(row) => self.former_entry(row, envelope, asking.ask)?,
            None => None,
        };
        let new = told.new.map(|row| self.entry(row, envelope, asking.ask)).transpose()?;
        // What is asked for may have changed though the row has not.
        if old == new && (new.is_none() || !self.asks() && !told.is_moved) {
            return Ok(None);
        }
        entries.extend([&old, &new].into_iter().flatten().map(|entry| folded(&entry.dn)));
        let given_up = old
            .as_ref()
            .map(|entry| entry.dn.as_str())
            .filter(|dn| new.as_ref().is_none_or(|new| folded(&new.dn) != folded(dn)));
        let heir = match (given_up, &told.change.old) {
            (Some(dn), Some(_)) => match self.heir(told.change, dn, envelope, asking.ask)? {
                None => self.entry_beside(told.change, dn, asking)?,
                heir => heir,
            },
            _ => None,
        };
        let others = match (&old, heir.as_ref().or(new.as_ref())) {
            (Some(old), Some(next)) => self.others_values(old, next, asking)?,
            _ => Vec::new(),
        };
        Ok(Some(EntryChange { old, new, heir, others }))
    }

    /// Makes what becomes of the value that a row gives to an entry; `entries`: the names of those that it touches.
    pub(super) fn make_value(
        &self,
        told: &Told<'_>,
        asking: &mut Asking<'_>,
        entries: &mut Vec<String>,
    ) -> Result<Option<ValueChange>, Fault> {
        let Compiled::Value { attribute, .. } = &self.kind else {
            return Ok(None);
        };
        let old = self.value_called(told.old, true, told, asking)?;
        let new = self
            .value_called(told.new, false, told, asking)?
            .filter(|(target, _)| target.may_be_there());
        if old == new && !told.change.is_init && !(told.is_moved && new.is_some()) {
            return Ok(None);
        }
        let given = [&old, &new].into_iter().flatten();
        entries.extend(given.map(|(target, _)| name_of_target(target)));
        let renamed = self.renamed(told, old.as_ref(), new.as_ref(), asking)?;
        let (mut remove, mut instead) = (None, None);
        if let (Some(row), Some(value)) = (told.old, old.filter(|value| Some(value) != new.as_ref())) {
            match self.giver(&[row], &value, asking)? {
                Giver::Nobody => remove = Some(value),
                Giver::Nearly(other) => {
                    // (What comes may be the same to the directory as well, and stays then.)
                    instead = (!new.as_ref().is_some_and(|new| is_nearly(new, &value))).then_some(other);
                    remove = Some(value);
                }
                Giver::Another => {}
            }
        }
        if new.is_none() && remove.is_none() && renamed.is_none() {
            return Ok(None);
        }
        Ok(Some(ValueChange {
            attribute: attribute.clone(),
            add: new,
            remove,
            instead,
            renamed,
        }))
    }

    /// Which value a row gives, and to which entry, by the name that this has when the change is delivered.
    fn value_called(
        &self,
        row: Option<&Row>,
        is_former: bool,
        told: &Told<'_>,
        asking: &mut Asking<'_>,
    ) -> Result<Option<(EntryTarget, String)>, Fault> {
        let given = row.map(|row| self.value(row, asking.envelope)).transpose()?.flatten();
        let Some((target, value)) = given else {
            return Ok(None);
        };
        Ok(Some((self.called(target, is_former, told.change, asking)?, value)))
    }

    /// What the row gives now, where it gave the former value: a directory that keeps references itself has written the entry's new name there. `None`: it is no
    /// such value, or another row gives it there.
    fn renamed(
        &self,
        told: &Told<'_>,
        old: Option<&(EntryTarget, String)>,
        new: Option<&(EntryTarget, String)>,
        asking: &mut Asking<'_>,
    ) -> Result<Option<(EntryTarget, String)>, Fault> {
        let Compiled::Value { value, .. } = &self.kind else {
            return Ok(None);
        };
        let (Some((target, former)), Some(before), Some(after)) = (old, told.old, &told.change.new) else {
            return Ok(None);
        };
        if !target.may_be_there()
            || !former.contains('=')
            || new.is_some_and(|(now, _)| name_of_target(now) == name_of_target(target))
        {
            return Ok(None);
        }
        let text = self.render_whole(value, &self.context(after, asking.envelope))?;
        let Some(text) = text.filter(|text| folded(text) != folded(former) && text.contains('=')) else {
            return Ok(None);
        };
        let given = (target.clone(), text);
        let giver = self.giver(&[before, after], &given, asking)?;
        Ok(matches!(giver, Giver::Nobody).then_some(given))
    }

    /// Makes the attribute that a query gives: it belongs to the entry that the row names; when the row names another one now, to both. `entries`: their names.
    pub(super) fn make_attributes(
        &self,
        told: &Told<'_>,
        asking: &mut Asking<'_>,
        entries: &mut Vec<String>,
    ) -> Result<Option<Vec<(EntryTarget, Attribute)>>, Fault> {
        let Compiled::Query {
            target,
            attribute,
            mode,
            query,
            ..
        } = &self.kind
        else {
            return Ok(None);
        };
        let mut attributes: Vec<(EntryTarget, Attribute)> = Vec::new();
        // (Where both rows name one entry, the query is that of the new one.)
        for (row, is_former) in [(told.new, false), (told.old, true)] {
            let Some(row) = row else { continue };
            let value = self.context(row, asking.envelope);
            // A row that names no entry concerns none.
            let Some(entry) = self.target(target, row, &value)? else {
                continue;
            };
            let entry = self.called(entry, is_former, told.change, asking)?;
            if attributes.iter().any(|(known, _)| *known == entry) {
                continue;
            }
            let attribute = Attribute {
                name: attribute.clone(),
                mode: *mode,
                values: match entry.may_be_there() {
                    true => {
                        let row = target.named_anew(row, &entry);
                        self.ask(query, &self.context(&row, asking.envelope), asking.ask)?
                    }
                    false => Vec::new(),
                },
            };
            entries.push(name_of_target(&entry));
            attributes.push((entry, attribute));
        }
        Ok((!attributes.is_empty()).then_some(attributes))
    }

    /// The entry of a row as it was. From a row that no name can be made of none was ever made; and where only an attribute of
    /// it cannot be made, the name is enough to find the entry.
    pub(super) fn former_entry(
        &self,
        row: &Row,
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
    ) -> Result<Option<Entry>, Fault> {
        match self.entry(row, envelope, ask) {
            Err(fault) if fault.verdict == Verdict::Never => {}
            other => return other.map(Some),
        }
        let Compiled::Entry { dn, classes, .. } = &self.kind else {
            return Ok(None);
        };
        Ok(self.render(dn, &self.context(row, envelope)).ok().map(|dn| Entry {
            dn,
            object_classes: classes.clone(),
            attributes: Vec::new(),
            row: self.name_for_others(row),
        }))
    }

    pub(super) fn entry(&self, row: &Row, envelope: &Envelope<'_>, ask: &mut dyn Ask) -> Result<Entry, Fault> {
        let Compiled::Entry {
            dn,
            classes,
            attributes,
            ..
        } = &self.kind
        else {
            return Err(Fault::never("not an entry"));
        };
        let value = self.context(row, envelope);
        let mut made = Vec::with_capacity(attributes.len());
        for (name, mode, source) in attributes {
            let values = match source {
                Source::Templates(templates) => {
                    let mut values = Vec::with_capacity(templates.len());
                    for template in templates {
                        let text = self.render(template, &value)?;
                        if !text.trim().is_empty() && !values.contains(&text) {
                            values.push(text);
                        }
                    }
                    values
                }
                Source::Query(query) => self.ask(query, &value, ask)?,
            };
            made.push(Attribute {
                name: name.clone(),
                mode: *mode,
                values,
            });
        }
        Ok(Entry {
            dn: self.render(dn, &value)?,
            object_classes: classes.clone(),
            attributes: made,
            row: self.name_for_others(row),
        })
    }

    /// Which value the row gives to which entry; `None` when it names no entry, or gives nothing.
    pub(super) fn value(&self, row: &Row, envelope: &Envelope<'_>) -> Result<Option<(EntryTarget, String)>, Fault> {
        let Compiled::Value { target, value, .. } = &self.kind else {
            return Ok(None);
        };
        let context = self.context(row, envelope);
        let text = self.render_whole(value, &context)?;
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            return Ok(None);
        };
        Ok(self.target(target, row, &context)?.map(|target| (target, text)))
    }

    /// Says which other row still gives this value to this entry, by this binding or another one of the sink; `rows`: those of whose columns entry and value are made. Rows are looked up as they are now: a change of theirs that is not
    /// delivered yet will be, and says it again.
    pub(super) fn giver(
        &self,
        rows: &[&Row],
        given: &(EntryTarget, String),
        asking: &mut Asking<'_>,
    ) -> Result<Giver, Fault> {
        let Compiled::Value {
            columns,
            attribute,
            target,
            ..
        } = &self.kind
        else {
            return Ok(Giver::Nobody);
        };
        if !given.0.may_be_there() {
            return Ok(Giver::Nobody);
        }
        // (The entry may be that of a row with another key by now.)
        let of_row = match &given.0 {
            EntryTarget::OfRow { row, .. } => target.columns_of(row).unwrap_or_default(),
            EntryTarget::Dn(_) | EntryTarget::Search { .. } => Vec::new(),
        };
        let held = |column: &String| of_row.iter().find(|(held, _)| held == column)?.1.first();
        let alike: Vec<(String, BTreeSet<&str>)> = columns
            .iter()
            .filter_map(|column| {
                let texts: Option<BTreeSet<&str>> = match held(column) {
                    Some(value) => Some(BTreeSet::from([value.as_str()])),
                    None => rows.iter().map(|row| row.column(column)).collect(),
                };
                Some((column.clone(), texts?))
            })
            .collect();
        let mut giver = Giver::Nobody;
        // (Without a key none is left out.)
        let envelope = asking.envelope;
        asking.ask.namesakes(self.table, &[], &alike, false, &mut |other| {
            Ok(self.gives(other, given, envelope, &mut giver))
        })?;
        match giver {
            Giver::Another => Ok(giver),
            giver => self.giver_beside(giver, attribute, given, asking),
        }
    }

    /// The same of rows of other bindings; `giver` is known of those of this one.
    fn giver_beside(
        &self,
        mut giver: Giver,
        attribute: &str,
        given: &(EntryTarget, String),
        asking: &mut Asking<'_>,
    ) -> Result<Giver, Fault> {
        let envelope = asking.envelope;
        for bound in asking.beside.iter().filter(|bound| bound.name != self.name) {
            if let Some(texts) = bound.texts_of(attribute, given) {
                asking.ask.with_one_of(bound.table, &texts, false, &mut |other| {
                    Ok(bound.gives(other, given, envelope, &mut giver))
                })?;
            }
            for text in bound.texts_at(attribute, &given.0, envelope, asking.ask)? {
                giver.or_gives(&(given.0.clone(), text), given);
            }
            if matches!(giver, Giver::Another) {
                break;
            }
        }
        Ok(giver)
    }

    /// Returns what entries of this binding's rows have as values of an attribute, at one entry.
    fn texts_at(
        &self,
        attribute: &str,
        target: &EntryTarget,
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
    ) -> Result<Vec<String>, Fault> {
        let is_class = attribute.eq_ignore_ascii_case("objectClass");
        let may_give = match &self.kind {
            Compiled::Entry { attributes, .. } => {
                is_class || attributes.iter().any(|(name, ..)| name.eq_ignore_ascii_case(attribute))
            }
            _ => false,
        };
        let (EntryTarget::Dn(dn) | EntryTarget::OfRow { dn: Some(dn), .. }) = target else {
            return Ok(Vec::new());
        };
        let mut texts = Vec::new();
        for row in if may_give { self.rows_at(dn, ask)? } else { Vec::new() } {
            match self.entry(&row, envelope, ask) {
                // Of that row no entry was ever made.
                Err(fault) if fault.verdict == Verdict::Never => {}
                made => {
                    let made = made?;
                    let named = made.attributes.into_iter();
                    let named = named.filter(|made| made.name.eq_ignore_ascii_case(attribute));
                    texts.extend(named.flat_map(|made| made.values));
                    texts.extend(made.object_classes.into_iter().filter(|_| is_class));
                }
            }
        }
        Ok(texts)
    }

    /// Returns the values that a row gave to an entry beside those of others, and gives no more, but another binding gives: they stay. (Of an attribute that is the
    /// row's alone nothing stays.)
    pub(super) fn others_values(
        &self,
        old: &Entry,
        next: &Entry,
        asking: &mut Asking<'_>,
    ) -> Result<Vec<(String, String)>, Fault> {
        let mut others = Vec::new();
        for attribute in old.attributes.iter().filter(|attribute| attribute.mode == Mode::Merge) {
            let next_values = next.attributes.iter().find(|next| next.name == attribute.name);
            let goes = |value: &&String| next_values.is_none_or(|next| !next.values.contains(value));
            for value in attribute.values.iter().filter(goes) {
                let target = match &next.row {
                    Some(row) => EntryTarget::OfRow {
                        row: row.clone(),
                        dn: Some(next.dn.clone()),
                    },
                    None => EntryTarget::Dn(next.dn.clone()),
                };
                let given = (target, value.clone());
                let giver = self.giver_beside(Giver::Nobody, &attribute.name, &given, asking)?;
                if !matches!(giver, Giver::Nobody) {
                    others.push((attribute.name.clone(), value.clone()));
                }
            }
        }
        Ok(others)
    }

    /// Looks whether a row gives a value to an entry, and tells whether it does in this very spelling.
    fn gives(&self, row: &Row, given: &(EntryTarget, String), envelope: &Envelope<'_>, giver: &mut Giver) -> bool {
        // (A row of which nothing can be made gives nothing.)
        let value = match self.fits(Some(row)) {
            Ok(Some(row)) => self.value(row, envelope).ok().flatten(),
            _ => None,
        };
        if let Some(value) = value {
            giver.or_gives(&value, given);
        }
        matches!(giver, Giver::Another)
    }

    /// Returns what is in columns of rows that may give a value of `attribute` (JSON text each); `None`: this binding never gives it.
    fn texts_of(&self, attribute: &str, given: &(EntryTarget, String)) -> Option<Vec<(String, BTreeSet<String>)>> {
        let Compiled::Value {
            attribute: own,
            target,
            forms,
            ..
        } = &self.kind
        else {
            return None;
        };
        let texts = match (&given.0, target) {
            (EntryTarget::OfRow { row, .. }, Target::OfRow { .. }) => {
                let mut columns = target.columns_of(row)?;
                let form = forms
                    .first()
                    .filter(|form| own.eq_ignore_ascii_case(attribute) && form.may_be(&given.1))?;
                columns.extend(form.shown(&given.1));
                return Some(columns);
            }
            (EntryTarget::Dn(dn) | EntryTarget::OfRow { dn: Some(dn), .. }, Target::Dn(_)) => vec![dn, &given.1],
            (EntryTarget::Search { base, filter, .. }, Target::Search { .. }) => vec![base, filter, &given.1],
            _ => return None,
        };
        let parts = || forms.iter().zip(&texts);
        let may_give = own.eq_ignore_ascii_case(attribute) && parts().all(|(form, text)| form.may_be(text));
        may_give.then(|| parts().filter_map(|(form, text)| form.shown(text)).collect())
    }

    /// Tells whether what a row made in a directory while it was `old` may be where it was to be while it was `between`, though that never arrived: another
    /// row renamed the entry above it, or the one that has the value. And a value that was to come may be there, because only the one that was to go
    /// was refused.
    pub(in crate::deliver) fn may_be_taken_along(&self, old: &Row, between: &Row) -> bool {
        if ![old, between].into_iter().all(|row| self.makes_something(row)) {
            return false;
        }
        match &self.kind {
            Compiled::Entry { .. } => {
                let (old, between) = (self.name_of(old), self.name_of(between));
                let own = |name: &Option<String>| Some(name.as_ref()?.split(',').next()?.to_owned());
                old != between && own(&old).is_some() && own(&old) == own(&between)
            }
            Compiled::Value { .. } => match (self.given_by(old), self.given_by(between)) {
                (Some(old), Some(between)) => old != between,
                _ => false,
            },
            Compiled::Query { .. } => self.meant_by(old) != self.meant_by(between),
            Compiled::Message { .. } | Compiled::Row { .. } => false,
        }
    }

    /// Which value the row gives to which entry; `None`: none, or that cannot be said.
    pub(super) fn given_by(&self, row: &Row) -> Option<(EntryTarget, String)> {
        self.value(row, &Envelope::NONE).ok().flatten()
    }

    /// The entry of which the row says that a query gives an attribute of it; `None`: none, or that cannot be said.
    pub(super) fn meant_by(&self, row: &Row) -> Option<EntryTarget> {
        let Compiled::Query { target, .. } = &self.kind else {
            return None;
        };
        self.target(target, row, &self.context(row, &Envelope::NONE))
            .ok()
            .flatten()
    }

    /// The entry that is meant by a row, which templates see in `value`; `None`: it names none.
    pub(super) fn target(&self, target: &Target, row: &Row, value: &Value) -> Result<Option<EntryTarget>, Fault> {
        Ok(match target {
            Target::OfRow { binding, key } => Target::of_row(binding, key, row),
            Target::Dn(dn) => self.render_whole(dn, value)?.map(EntryTarget::Dn),
            Target::Search { base, filter, scope } => {
                let (base, filter) = (self.render_whole(base, value)?, self.render_whole(filter, value)?);
                base.zip(filter).map(|(base, filter)| EntryTarget::Search {
                    base,
                    filter,
                    scope: *scope,
                })
            }
        })
    }
}

/// Tells whether two values of two entries may be one value of one entry to a directory.
pub(super) fn is_nearly(one: &(EntryTarget, String), other: &(EntryTarget, String)) -> bool {
    let is_same_entry = match (&one.0, &other.0) {
        (EntryTarget::OfRow { row: one, .. }, EntryTarget::OfRow { row: other, .. }) => one == other,
        (
            EntryTarget::Dn(one) | EntryTarget::OfRow { dn: Some(one), .. },
            EntryTarget::Dn(other) | EntryTarget::OfRow { dn: Some(other), .. },
        ) => folded(one) == folded(other),
        (
            EntryTarget::Search { base, filter, .. },
            EntryTarget::Search {
                base: other_base,
                filter: other_filter,
                ..
            },
        ) => folded(base) == folded(other_base) && folded(filter) == folded(other_filter),
        _ => false,
    };
    is_same_entry && folded(&one.1) == folded(&other.1)
}

/// Returns the name under which deliveries that touch an entry know each other. One that is searched for may be any below the base, and the base itself.
pub(super) fn name_of_target(target: &EntryTarget) -> String {
    match target {
        EntryTarget::Dn(dn) => folded(dn),
        EntryTarget::Search { base, .. } => folded(base),
        EntryTarget::OfRow { row, dn } => dn.as_deref().map_or_else(|| row.clone(), folded),
    }
}
