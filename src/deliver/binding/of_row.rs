//! The entry that another binding makes of a row, meant by the key of that row: what a row gives to it needs no column with its name.
//!
//! Such an entry is known by the row, whatever it is called: a value stays the row's when the entry is renamed, and goes along with it. What it is called is asked when something
//! is delivered, and is what the other binding makes of the row as the sink knows it then: a change of it that is delivered only later does not count yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::value::RawValue;

use super::heir::Found;
use super::{Ask, Asking, Awaited, Bound, Compiled, Envelope, Later, Target};
use crate::deliver::change::Change;
use crate::deliver::row::Row;
use crate::errors::{Error, Kind, Result};
use crate::sink::{EntryTarget, Fault};

/// So many keys of a row are looked up that it got one after the other, at most.
const KEYS: usize = 8;

/// Begins the texts that stand for rows: no filter does.
const ROW: char = '#';

/// Returns what stands for a row of a binding, by its key (as changes have it): a text that is the same when upper and lower case are one.
fn name_of(binding: &str, key: &str) -> String {
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{ROW}{}.{}", hex(binding), hex(key))
}

/// Returns the binding and the key of a row that a text stands for; `None`: it stands for none.
fn row_of(name: &str) -> Option<(String, String)> {
    let text = |hex: &str| {
        let bytes = hex.as_bytes().chunks(2).map(|pair| match pair {
            [_, _] => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
            _ => None,
        });
        String::from_utf8(bytes.collect::<Option<_>>()?).ok()
    };
    let (binding, key) = name.strip_prefix(ROW)?.split_once('.')?;
    Some((text(binding)?, text(key)?))
}

/// Says why what a row gives to the entry of another one is set aside.
pub(in crate::deliver) fn its_row_waits() -> Fault {
    Fault::later("the row whose entry it is for was refused, and waits itself")
}

/// Tells whether a text stands for a row.
pub(super) fn is_row(text: &str) -> bool {
    text.starts_with(ROW)
}

/// Lets the bindings of a sink know which of them others name the entries of, and in which order these hold the columns of the key.
///
/// # Errors
/// [`Kind::Refused`]: a table has another primary key than it had when the bindings were installed.
pub(in crate::deliver) fn know_each_other(all: &mut [Bound]) -> Result<()> {
    let keys: HashMap<String, Vec<String>> = all
        .iter()
        .map(|bound| (bound.name.to_string(), bound.names.key.clone()))
        .collect();
    let mut named = BTreeSet::new();
    for bound in all.iter_mut() {
        let (Compiled::Value { target, .. } | Compiled::Query { target, .. }) = &mut bound.kind else {
            continue;
        };
        let Target::OfRow { binding, key } = target else {
            continue;
        };
        // (The manifest has checked that it is there.)
        let Some(known) = keys.get(binding) else { continue };
        let place = |theirs: &str| known.iter().position(|column| column == theirs);
        if known.len() != key.len() || key.iter().any(|(theirs, _)| place(theirs).is_none()) {
            return Err(Error::message(
                Kind::Refused,
                format!(
                    "binding `{}` names the entries of `{binding}` by another key than the primary key of their table, which is ({})",
                    bound.name,
                    known.join(", ")
                ),
            )
            .hint("write that key in `entry_of`, and `emaj install` the manifest"));
        }
        key.sort_by_key(|(theirs, _)| place(theirs));
        named.insert(binding.clone());
    }
    for bound in all {
        bound.is_named = named.contains(&*bound.name);
    }
    Ok(())
}

/// What a row is before what comes `later` of it.
fn state_before(today: Option<Row>, later: Option<Later>) -> Option<Row> {
    match later {
        None => today,
        Some(later) => later.before(),
    }
}

/// The key that a row holds in columns; `None`: a part of it is null.
fn key_held(columns: &[(String, String)], row: &Row) -> Option<String> {
    let value = |(_, own): &(String, String)| row.column(own).filter(|value| *value != "null");
    let values: Option<Vec<&str>> = columns.iter().map(value).collect();
    Some(format!("[{}]", values?.join(", ")))
}

impl Target {
    /// The entry of the row that a row of this table holds the key of; `None`: it holds none, a part of the key is null.
    pub(super) fn of_row(binding: &str, key: &[(String, String)], row: &Row) -> Option<EntryTarget> {
        key_held(key, row).map(|key| EntryTarget::OfRow {
            row: name_of(binding, &key),
            dn: None,
        })
    }

    /// Returns the columns of the rows that hold the key which a text stands for, each with its value (a JSON text); `None`: it stands for none of the rows that are meant.
    pub(super) fn columns_of(&self, name: &str) -> Option<Vec<(String, BTreeSet<String>)>> {
        let Target::OfRow { binding, key } = self else {
            return None;
        };
        let (_, values) = row_of(name).filter(|(of, _)| of == binding)?;
        let values: Vec<&RawValue> = serde_json::from_str(&values).ok()?;
        let held = key.iter().zip(values);
        Some(
            held.map(|((_, own), value)| (own.clone(), BTreeSet::from([value.get().to_owned()])))
                .collect(),
        )
    }

    /// The row as it would be if it named the entry that `called` is: the row of that may have got another key.
    pub(super) fn named_anew(&self, row: &Row, called: &EntryTarget) -> Row {
        let columns = match called {
            EntryTarget::OfRow { row: name, .. } => self.columns_of(name).unwrap_or_default(),
            EntryTarget::Dn(_) | EntryTarget::Search { .. } => return row.clone(),
        };
        let value = |column: &str| {
            columns
                .iter()
                .find(|(own, _)| own == column)?
                .1
                .first()
                .map(String::as_str)
        };
        row.with(value)
    }
}

impl Bound {
    /// What stands for a row, where other bindings name its entry by it.
    pub(super) fn name_for_others(&self, row: &Row) -> Option<String> {
        self.is_named.then(|| name_of(&self.name, &self.key_of(row)))
    }

    /// Returns the entry that is meant, with what it is called when `change` is delivered, if it is a row's. `is_former`: it was meant before the change. (What a row that is gone by
    /// then had may be another one's.)
    pub(super) fn called(
        &self,
        target: EntryTarget,
        is_former: bool,
        change: &Change,
        asking: &mut Asking<'_>,
    ) -> Result<EntryTarget, Fault> {
        let EntryTarget::OfRow { row: name, .. } = target else {
            return Ok(target);
        };
        let meant = row_of(&name).and_then(|(binding, key)| {
            let maker = asking.beside.iter().find(|bound| *bound.name == *binding)?;
            Some((maker, key))
        });
        let Some((maker, mut key)) = meant else {
            return Ok(EntryTarget::OfRow { row: name, dn: None });
        };
        let mut row = maker.row_then(&key, change, asking.ask)?;
        // The row may have got other keys meanwhile, and has its entry still.
        for _ in 0..KEYS {
            if row.is_some() || !is_former {
                break;
            }
            let Some(became) = maker.key_instead(&key, change, asking.ask)? else {
                break;
            };
            row = maker.row_then(&became, change, asking.ask)?;
            key = became;
        }
        Ok(EntryTarget::OfRow {
            dn: row.as_ref().and_then(|row| maker.dn_of(row)),
            row: if row.is_some() {
                name_of(&maker.name, &key)
            } else {
                name
            },
        })
    }

    /// Returns the key that the row of a key got before `change`.
    fn key_instead(&self, key: &str, change: &Change, ask: &mut dyn Ask) -> Result<Option<String>, Fault> {
        let awaited = self.await_row(key, change);
        match ask.known().and_then(|known| known.became(self, &awaited)) {
            Some(known) => Ok(known),
            None => Ok(ask.became(self.table, &[awaited])?.pop().flatten()),
        }
    }

    /// The name of the entry of a row; `None`: nothing is made of it.
    fn dn_of(&self, row: &Row) -> Option<String> {
        let row = self.fits((!row.is_unreadable()).then_some(row)).ok().flatten()?;
        match &self.kind {
            Compiled::Entry { dn, .. } => self.render(dn, &self.context(row, &Envelope::NONE)).ok(),
            _ => None,
        }
    }

    /// Returns the row with a key as the sink knows it when `change` is delivered.
    fn row_then(&self, key: &str, change: &Change, ask: &mut dyn Ask) -> Result<Option<Row>, Fault> {
        let awaited = self.await_row(key, change);
        let known = ask.known().and_then(|known| known.row(self, &awaited));
        let (today, later) = match known {
            Some(known) => known,
            None => {
                let keys = BTreeMap::from([(key.to_owned(), vec![awaited])]);
                let mut found = self.rows_of_keys(keys, ask)?;
                let later = found.later.into_values().next().flatten();
                (found.by_key.remove(key).flatten(), later)
            }
        };
        Ok(state_before(today, later))
    }

    /// What is delivered of the row with a key behind `change`: of the row that this is about, what comes after it.
    fn await_row(&self, key: &str, change: &Change) -> Awaited {
        let is_behind_all = self.table != change.table || *key == *change.key;
        Awaited {
            key: key.to_owned(),
            // (So what changes at one place ask for is asked once.)
            behind: if is_behind_all {
                String::new()
            } else {
                change.key.to_string()
            },
            position: change.position + u64::from(is_behind_all),
        }
    }

    /// Notes which rows of `maker` the rows of a change name the entries of.
    pub(in crate::deliver) fn names_rows(
        &self,
        maker: &Bound,
        change: &Change,
        keys: &mut BTreeMap<String, Vec<Awaited>>,
    ) {
        let Some((_, columns)) = self.row_of_target() else {
            return;
        };
        let rows = [&change.old, &change.new].into_iter().flatten();
        for key in rows.filter_map(|row| key_held(columns, row)) {
            let awaited = maker.await_row(&key, change);
            keys.entry(key).or_default().push(awaited);
        }
    }

    /// Tells whether its rows name entries that `maker` makes.
    pub(in crate::deliver) fn names_entries_of(&self, maker: &Bound) -> bool {
        self.row_of_target().is_some_and(|(binding, _)| *binding == *maker.name)
    }

    /// Returns the keys of the rows of other bindings whose entries a change touches: what waits of them has to arrive before. (Nothing of them waits for it: it may be waiting
    /// for the entry.)
    pub(in crate::deliver) fn waits_for(&self, change: &Change, all: &[Bound]) -> Vec<String> {
        let Some((binding, columns)) = self.row_of_target() else {
            return Vec::new();
        };
        let maker = all.iter().filter(|bound| *bound.name == *binding);
        let rows = || [&change.old, &change.new].into_iter().flatten();
        let keys = maker.flat_map(|maker| {
            let keys = rows().filter_map(|row| key_held(columns, row));
            keys.map(|key| maker.every_row() + &key)
        });
        keys.collect()
    }

    /// Returns the binding whose entries are meant, and which columns hold the key of a row of its table.
    fn row_of_target(&self) -> Option<(&str, &[(String, String)])> {
        match &self.kind {
            Compiled::Value {
                target: Target::OfRow { binding, key },
                ..
            }
            | Compiled::Query {
                target: Target::OfRow { binding, key },
                ..
            } => Some((binding, key)),
            _ => None,
        }
    }

    /// Looks up rows by their keys, and what comes later of them.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub(in crate::deliver) fn rows_of_keys(
        &self,
        keys: BTreeMap<String, Vec<Awaited>>,
        ask: &mut dyn Ask,
    ) -> Result<Found, Fault> {
        let parsed: Vec<Vec<&RawValue>> = keys.keys().filter_map(|key| serde_json::from_str(key).ok()).collect();
        let columns: Vec<(String, BTreeSet<String>)> = self
            .names
            .key
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let values = parsed
                    .iter()
                    .filter_map(|values| Some(values.get(at)?.get().to_owned()));
                (column.clone(), values.collect())
            })
            .collect();
        let mut by_key: HashMap<String, Option<Row>> = keys.keys().map(|key| (key.clone(), None)).collect();
        // (Before what comes later: a change between the two is seen there.)
        ask.with_one_of(self.table, &columns, true, &mut |row| {
            if let Some(found) = by_key.get_mut(&self.key_of(row)) {
                *found = Some(row.clone());
            }
            Ok(false)
        })?;
        // Mostly nothing comes later of a row, and that is known by the first place.
        let awaited: BTreeSet<Awaited> = keys.into_values().flatten().collect();
        let mut firsts: BTreeMap<&str, &Awaited> = BTreeMap::new();
        for one in &awaited {
            let first = firsts.entry(&one.key).or_insert(one);
            if one.position < first.position {
                *first = one;
            }
        }
        let firsts: Vec<Awaited> = firsts.into_values().cloned().collect();
        let later = ask.later(self.table, &firsts)?;
        let changes = firsts.iter().zip(&later).filter(|(_, later)| later.is_some());
        let changes: BTreeSet<&str> = changes.map(|(one, _)| one.key.as_str()).collect();
        let (asked, known): (Vec<Awaited>, Vec<Awaited>) = awaited
            .iter()
            .cloned()
            .partition(|one| changes.contains(one.key.as_str()));
        let later = match asked.is_empty() {
            true => Vec::new(),
            false => ask.later(self.table, &asked)?,
        };
        let mut all_later: HashMap<Awaited, Option<Later>> = asked.into_iter().zip(later).collect();
        all_later.extend(known.into_iter().map(|one| (one, None)));
        let is_gone = |one: &&Awaited| {
            let today = by_key.get(&one.key).cloned().flatten();
            state_before(today, all_later[*one].clone()).is_none()
        };
        let gone: Vec<Awaited> = awaited.iter().filter(is_gone).cloned().collect();
        let became = ask.became(self.table, &gone)?;
        Ok(Found {
            by_key,
            became: gone.into_iter().zip(became).collect(),
            later: all_later,
            ..Found::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::ldap::folded;

    #[test]
    fn a_text_stands_for_one_row() {
        for (binding, key) in [("teams", "[5]"), ("Büros", r#"["A.b, c"]"#), ("", "")] {
            let name = name_of(binding, key);
            assert_eq!(row_of(&name), Some((binding.to_owned(), key.to_owned())));
            assert_eq!(folded(&name), name);
        }
        assert_ne!(name_of("a", r#"["X"]"#), name_of("a", r#"["x"]"#));
        for no_row in ["(uid=5)", "cn=a", "#6", "#61.6", "#zz.61"] {
            assert_eq!(row_of(no_row), None, "{no_row}");
        }
    }
}
