//! Makes of a batch in its order what can be written in sets: of each row only its last state, table by table.
//!
//! Pure. A row is told by the text of its key: two texts of one key (`1.0`, `1.00`) make the set fail, and it is then halved until each
//! delivery stands alone.

use std::collections::HashMap;
use std::sync::Arc;

use super::text::{Member, members};
use crate::names::QualifiedName;
use crate::sink::{Action, Delivery, Fault, RowChange};

/// A delivery of a batch, read as far as its keys.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// Its place in the batch.
    pub(super) at: usize,
    pub(super) change: &'a RowChange,
    pub(super) delete: Option<Row<'a>>,
    pub(super) upsert: Option<Row<'a>>,
    /// Nobody had this row before.
    pub(super) is_new: bool,
}

/// One row: its members, and its key as text, a JSON array.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) key: Arc<str>,
    pub(super) members: Vec<Member<'a>>,
}

impl<'a> Item<'a> {
    pub(super) fn read(at: usize, delivery: &'a Delivery) -> Result<Item<'a>, Fault> {
        let Action::Row(change) = &delivery.action else {
            return Err(Fault::never(
                "a database takes rows only; this delivery is of another kind",
            ));
        };
        let row = |json: &'a Option<Arc<str>>| json.as_deref().map(|json| Row::read(json, &change.key)).transpose();
        Ok(Item {
            at,
            change,
            delete: row(&change.delete)?,
            upsert: row(&change.upsert)?,
            is_new: delivery
                .event
                .is_none_or(|event| event == crate::manifest::Event::Insert),
        })
    }

    /// Returns the keys it touches.
    pub(super) fn keys(&self) -> impl Iterator<Item = (QualifiedName, Arc<str>)> + '_ {
        [&self.delete, &self.upsert]
            .into_iter()
            .flatten()
            .map(|row| (self.change.table.clone(), row.key.clone()))
    }
}

impl<'a> Row<'a> {
    fn read(json: &'a str, key: &[String]) -> Result<Row<'a>, Fault> {
        let members = members(json).map_err(|_| Fault::never("the row is no JSON object"))?;
        let key = key_text(&members, key)?;
        Ok(Row { key, members })
    }
}

/// Returns the values of the key's columns as a JSON array.
pub(super) fn key_text(members: &[Member<'_>], key: &[String]) -> Result<Arc<str>, Fault> {
    let mut text = String::with_capacity(24);
    for (at, column) in key.iter().enumerate() {
        let value = members
            .iter()
            .find(|(name, _)| name == column)
            .map(|(_, value)| value.get());
        match value {
            Some(value) if value != "null" => {
                text.push(if at == 0 { '[' } else { ',' });
                text.push_str(value);
            }
            Some(_) => return Err(Fault::never(format!("the key's column `{column}` is null"))),
            None => {
                return Err(Fault::never(format!(
                    "the row has no value for the key's column `{column}`"
                )));
            }
        }
    }
    text.push(']');
    Ok(text.into())
}

/// What is to be done to one table: rows of the same columns, each once.
#[derive(Debug)]
pub(super) struct Group<'i, 'a> {
    pub(super) table: &'a QualifiedName,
    pub(super) key: &'a [String],
    /// The deleted row, and its delivery's place.
    pub(super) deletes: Vec<(usize, &'i Row<'a>)>,
    pub(super) upserts: Vec<(usize, &'i Row<'a>)>,
    /// All of them are new, and none is deleted.
    pub(super) all_new: bool,
    /// Deletes make room for upserts; otherwise they may wait until the rows that referred to them are written anew.
    pub(super) deletes_first: bool,
}

/// Puts the deliveries of one table together, in the order in which the tables come first.
pub(super) fn groups<'i, 'a>(items: &[&'i Item<'a>]) -> Vec<Group<'i, 'a>> {
    enum Last<'i, 'a> {
        Gone(&'i Row<'a>),
        There(&'i Row<'a>),
    }
    struct Table<'i, 'a> {
        item: &'i Item<'a>,
        order: Vec<(usize, Last<'i, 'a>)>,
        by_key: HashMap<&'i str, usize>,
        all_new: bool,
        deletes_first: bool,
    }
    let mut tables: Vec<Table<'i, 'a>> = Vec::new();
    for item in items {
        let same = |table: &Table<'_, '_>| {
            table.item.change.table == item.change.table && table.item.change.key == item.change.key
        };
        let at = tables.iter().position(same).unwrap_or_else(|| {
            tables.push(Table {
                item,
                order: Vec::with_capacity(items.len()),
                by_key: HashMap::with_capacity(items.len()),
                all_new: true,
                deletes_first: false,
            });
            tables.len() - 1
        });
        let table = &mut tables[at];
        table.all_new &= item.is_new && item.delete.is_none();
        table.deletes_first |= item.delete.is_some() && item.upsert.is_some();
        let mut note = |row: &'i Row<'a>, last: Last<'i, 'a>| match table.by_key.get(&*row.key) {
            Some(place) => {
                table.all_new = false;
                table.order[*place] = (item.at, last);
            }
            None => {
                table.by_key.insert(&row.key, table.order.len());
                table.order.push((item.at, last));
            }
        };
        if let Some(row) = &item.delete {
            note(row, Last::Gone(row));
        }
        if let Some(row) = &item.upsert {
            note(row, Last::There(row));
        }
    }
    let mut groups = Vec::with_capacity(tables.len());
    for table in tables {
        let (mut deletes, mut upserts) = (Vec::new(), Vec::new());
        for (at, last) in table.order {
            match last {
                Last::Gone(row) => deletes.push((at, row)),
                Last::There(row) => upserts.push((at, row)),
            }
        }
        groups.push(Group {
            table: &table.item.change.table,
            key: &table.item.change.key,
            deletes,
            upserts,
            all_new: table.all_new,
            deletes_first: table.deletes_first,
        });
    }
    groups
}
