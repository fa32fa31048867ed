//! A directory that is read and never written: what would be written is noted as LDIF, and counts as done for what comes after.

use std::cell::RefCell;
use std::collections::HashMap;

use super::super::Delivery;
use super::super::fault::{self, Fault, Verdict};
use super::change::{Change, Kind, Mod, Values, Verb};
use super::directory::{Directory, Found, Live, Trouble};
use super::dn::{Dn, Rdn};
use super::entry::identity;
use super::ldif;
use super::schema::Schema;
use super::taken::Taken;
use super::work::Work;
use crate::manifest::Scope;

/// Returns what a batch would write: one text for each delivery that writes something, or that would fail.
pub(super) async fn preview(live: &Live, schema: &Schema, batch: &[Delivery]) -> Result<Vec<String>, Fault> {
    let dry = Dry {
        live,
        schema,
        entries: RefCell::default(),
        records: RefCell::default(),
    };
    let taken = Taken::default();
    let work = Work::new(&dry, schema, &taken);
    let mut texts = Vec::new();
    for place in 0..batch.len() {
        let result = work.carry_out(batch, place).await;
        let mut records = dry.records.take();
        match result {
            Err(fault) if fault.verdict == Verdict::Down => return Err(fault),
            Err(fault) => records.push(format!("# {}\n", fault.reason.replace(['\n', '\r'], " "))),
            Ok(_) => {}
        }
        if !records.is_empty() {
            texts.push(records.join("\n"));
        }
    }
    Ok(texts)
}

struct Dry<'a> {
    live: &'a Live,
    schema: &'a Schema,
    /// What was looked at or changed, by the identity of its name; `None`: no such entry.
    entries: RefCell<HashMap<String, Option<Found>>>,
    records: RefCell<Vec<String>>,
}

impl Directory for Dry<'_> {
    async fn read(&self, dn: &str, _: &[String]) -> Result<Option<Found>, Trouble> {
        self.load(dn).await
    }

    async fn find(&self, base: &str, scope: Scope, filter: &str) -> Result<Vec<String>, Trouble> {
        // An entry that would only come with this run is not found: the delivery is shown as one that waits.
        let mut found = self.live.find(base, scope, filter).await?;
        let entries = self.entries.borrow();
        found.retain(|dn| !matches!(entries.get(&self.identity(dn)), Some(None)));
        Ok(found)
    }

    async fn write(&self, change: &Change) -> Result<(), Trouble> {
        let entry = self.load(&change.dn).await?;
        match (&change.kind, entry) {
            (Kind::Add(_), Some(_)) => return Err(refuse(fault::ENTRY_ALREADY_EXISTS, "")),
            (Kind::Add(attributes), None) => {
                self.needs_parent(&parent(&change.dn)).await?;
                let keyed = |(name, values): &(String, Values)| (self.schema.name(name), values.clone());
                self.put(
                    &change.dn,
                    Some(Found {
                        dn: change.dn.clone(),
                        attributes: attributes.iter().map(keyed).collect(),
                    }),
                );
            }
            (_, None) => return Err(refuse(fault::NO_SUCH_OBJECT, "there is no such entry")),
            (Kind::Delete, Some(_)) => self.put(&change.dn, None),
            (Kind::Modify(mods), Some(mut entry)) => {
                for one in mods {
                    self.apply(&mut entry, one)?;
                }
                self.put(&change.dn, Some(entry));
            }
            (
                Kind::Rename {
                    rdn,
                    delete_old,
                    superior,
                },
                Some(entry),
            ) => {
                self.rename(&change.dn, rdn, *delete_old, superior.as_deref(), entry)
                    .await?
            }
        }
        self.records.borrow_mut().push(ldif::record(change));
        Ok(())
    }
}

impl Dry<'_> {
    async fn load(&self, dn: &str) -> Result<Option<Found>, Trouble> {
        if let Some(known) = self.entries.borrow().get(&self.identity(dn)) {
            return Ok(known.clone());
        }
        // (A manifest may name operational attributes.)
        let found = self.live.read(dn, &["*".to_owned(), "+".to_owned()]).await?;
        self.put(dn, found.clone());
        Ok(found)
    }

    fn identity(&self, dn: &str) -> String {
        identity(self.schema, dn)
    }

    fn put(&self, dn: &str, entry: Option<Found>) {
        self.entries.borrow_mut().insert(self.identity(dn), entry);
    }

    async fn needs_parent(&self, parent: &str) -> Result<(), Trouble> {
        match parent.is_empty() || self.load(parent).await?.is_some() {
            true => Ok(()),
            false => Err(refuse(fault::NO_SUCH_OBJECT, "there is no entry above it")),
        }
    }

    fn apply(&self, entry: &mut Found, one: &Mod) -> Result<(), Trouble> {
        let rule = self.schema.rule(&one.name);
        let values = entry.attributes.entry(self.schema.name(&one.name)).or_default();
        let place =
            |values: &Values, value: &Vec<u8>| values.iter().position(|known| rule.equal(known) == rule.equal(value));
        match one.verb {
            Verb::Replace => values.clone_from(&one.values),
            Verb::Delete if one.values.is_empty() => values.clear(),
            Verb::Delete => {
                for value in &one.values {
                    match place(values, value) {
                        Some(at) => _ = values.remove(at),
                        None => return Err(refuse(fault::NO_SUCH_ATTRIBUTE, "")),
                    }
                }
            }
            Verb::Add => {
                for value in &one.values {
                    match place(values, value) {
                        Some(_) => return Err(refuse(fault::ATTRIBUTE_OR_VALUE_EXISTS, "")),
                        None => values.push(value.clone()),
                    }
                }
            }
        }
        Ok(())
    }

    async fn rename(
        &self,
        dn: &str,
        rdn: &str,
        delete_old: bool,
        superior: Option<&str>,
        mut entry: Found,
    ) -> Result<(), Trouble> {
        let parent = superior.map_or_else(|| parent(dn), str::to_owned);
        self.needs_parent(&parent).await?;
        let new = if parent.is_empty() {
            rdn.to_owned()
        } else {
            format!("{rdn},{parent}")
        };
        if self.identity(dn) != self.identity(&new) && self.load(&new).await?.is_some() {
            return Err(refuse(fault::ENTRY_ALREADY_EXISTS, ""));
        }
        let old = Dn::parse(dn).ok().and_then(|dn| dn.0.into_iter().next());
        for (rdn, verb) in [
            (old.filter(|_| delete_old), Verb::Delete),
            (Rdn::parse(rdn).ok(), Verb::Add),
        ] {
            for part in rdn.map(|rdn| rdn.parts).unwrap_or_default() {
                // What is not there, or is there already, is as it is to be.
                _ = self.apply(&mut entry, &Mod::new(verb, &part.name, vec![part.value]));
            }
        }
        entry.dn.clone_from(&new);
        self.put(dn, None);
        self.put(&new, Some(entry));
        Ok(())
    }
}

fn parent(dn: &str) -> String {
    Dn::parse(dn).map(|dn| dn.parent()).unwrap_or_default()
}

fn refuse(code: u32, text: &str) -> Trouble {
    Trouble::Refused {
        code,
        text: text.to_owned(),
        is_elsewhere: false,
    }
}
