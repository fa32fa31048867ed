//! What a binding makes for a directory: the entry of a row, a value of another entry, an attribute that a query gives.

use minijinja::Value;

use super::{ALIKE, Ask, Bound, Compiled, Envelope, Made, Source, Target};
use crate::deliver::row::Row;
use crate::manifest::Event;
use crate::sink::{Action, Attribute, Entry, EntryTarget, Fault, Verdict};

impl Bound {
    /// An attribute from a query belongs to the entry that the row names; when the row names another one now, to both.
    pub(super) fn query(
        &self,
        old: Option<&Row>,
        new: Option<&Row>,
        event: Event,
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
        keys: Vec<String>,
    ) -> Result<Option<Made>, Fault> {
        let Compiled::Query {
            target,
            columns,
            attribute,
            mode,
            query,
        } = &self.kind
        else {
            return Ok(None);
        };
        let (mut attributes, mut entries) = (Vec::new(), Vec::new());
        for row in [old, new].into_iter().flatten() {
            // A row that names no entry concerns none.
            if columns.iter().any(|column| row.column(column) == Some("null")) {
                continue;
            }
            let value = self.context(row, envelope);
            let entry = self.target(target, &value)?;
            if attributes.iter().any(|(known, _)| *known == entry) {
                continue;
            }
            let attribute = Attribute {
                name: attribute.clone(),
                mode: *mode,
                values: self.ask(query, &value, ask)?,
            };
            entries.push(key_of_target(&entry));
            attributes.push((entry, attribute));
        }
        let actions: Vec<(EntryTarget, Attribute)> = attributes;
        Ok((!actions.is_empty()).then_some(Made {
            event: Some(event),
            action: Action::Attributes(actions),
            keys,
            entries,
        }))
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
        }))
    }

    pub(super) fn entry(&self, row: &Row, envelope: &Envelope<'_>, ask: &mut dyn Ask) -> Result<Entry, Fault> {
        let Compiled::Entry {
            dn,
            classes,
            attributes,
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
        })
    }

    /// Which value the row gives to which entry; `None` when it names no entry, or gives nothing.
    pub(super) fn value(&self, row: &Row, envelope: &Envelope<'_>) -> Result<Option<(EntryTarget, String)>, Fault> {
        let Compiled::Value {
            target, value, columns, ..
        } = &self.kind
        else {
            return Ok(None);
        };
        if columns.iter().any(|column| row.column(column) == Some("null")) {
            return Ok(None);
        }
        let context = self.context(row, envelope);
        let text = self.render(value, &context)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        Ok(Some((self.target(target, &context)?, text)))
    }

    /// Whether another row still gives this value to this entry. Rows are looked up as they are now: a change of theirs that is not
    /// delivered yet will be, and says it again.
    pub(super) fn is_given(
        &self,
        row: &Row,
        given: &(EntryTarget, String),
        envelope: &Envelope<'_>,
        ask: &mut dyn Ask,
    ) -> Result<bool, Fault> {
        let Compiled::Value { columns, .. } = &self.kind else {
            return Ok(false);
        };
        let alike: Vec<(String, String)> = columns
            .iter()
            .filter_map(|column| row.column(column).map(|json| (column.clone(), json.to_owned())))
            .collect();
        for skip in (0..).step_by(ALIKE) {
            let others = ask.alike(self.table, &alike, skip)?;
            for other in &others {
                if self.fits(Some(other))?.is_some() && self.value(other, envelope)?.as_ref() == Some(given) {
                    return Ok(true);
                }
            }
            if others.len() < ALIKE {
                break;
            }
        }
        Ok(false)
    }

    pub(super) fn target(&self, target: &Target, value: &Value) -> Result<EntryTarget, Fault> {
        Ok(match target {
            Target::Dn(dn) => EntryTarget::Dn(self.render(dn, value)?),
            Target::Search { base, filter, scope } => EntryTarget::Search {
                base: self.render(base, value)?,
                filter: self.render(filter, value)?,
                scope: *scope,
            },
        })
    }
}

pub(super) fn key_of_target(target: &EntryTarget) -> String {
    match target {
        EntryTarget::Dn(dn) => folded(dn),
        EntryTarget::Search { base, filter, .. } => format!("{}\u{1f}{}", folded(base), folded(filter)),
    }
}

/// Names of a directory are the same in upper and lower case.
pub(super) fn folded(dn: &str) -> String {
    format!("dn\u{1f}{}", dn.to_lowercase())
}
