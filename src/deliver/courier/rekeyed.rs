//! Keeps what waits known by the keys of today: a table may have got another primary key since it was set aside.
//!
//! Later changes come with the new key, and must not overtake it. Where the new key cannot be said of it, because its rows are from a time when they had not
//! all columns of it, all later changes of its binding wait.

use std::collections::BTreeSet;

use serde_json::json;

use super::Courier;
use super::parked::Parked;
use crate::deliver::binding::every_row_of;
use crate::deliver::set_aside::read;
use crate::errors::Result;
use crate::journal::{self, Known};

impl Courier<'_> {
    /// Looks whether what waits is known by the keys of today, and mends that. Two queues that have something of one row become one.
    pub(super) fn rekey(&mut self) -> Result<()> {
        let (schema, name) = (self.orders.schema.as_str(), self.orders.sink.name.value.as_str());
        let mut waiting = journal::known(&mut *self.sessions.keeper, schema, name)?;
        let mut changed = Vec::new();
        for known in &mut waiting {
            changed.extend(self.rekeyed(known)?.then_some(known.id));
        }
        if changed.is_empty() {
            return Ok(());
        }
        let mut transaction = self.sessions.keeper.transaction()?;
        let (mut parked, mut joined) = (Parked::default(), BTreeSet::new());
        for known in &waiting {
            if changed.contains(&known.id) {
                journal::known_anew(&mut transaction, schema, known)?;
            }
            parked.begin(&known.queue, &[format!("queue {}", known.queue)]);
        }
        for known in &waiting {
            let mut keys = known.keys.clone();
            keys.push(format!("queue {}", known.queue));
            if let Some((into, parts)) = parked.park(&keys) {
                for part in parts {
                    journal::join(&mut transaction, schema, name, &part, &into)?;
                }
                joined.insert(into);
            }
        }
        for queue in joined {
            journal::one_front(&mut transaction, schema, name, &queue)?;
        }
        transaction.commit()?;
        self.parked_mark = None;
        Ok(())
    }

    /// Gives a change the keys of today. `false`: it has them.
    fn rekeyed(&mut self, known: &mut Known) -> Result<bool> {
        let Some(at) = self.fed.bound.iter().position(|bound| *bound.name == *known.binding) else {
            return Ok(false);
        };
        let table = self.fed.bound[at].table;
        let source = &self.fed.sources.tables[table];
        let key_columns = json!(source.key_numbers());
        if key_columns == known.key_columns {
            return Ok(false);
        }
        known.key_columns = key_columns;
        let schema = self.orders.schema.as_str();
        let change = journal::change_of(&mut *self.sessions.keeper, schema, known.id)?;
        let Some(mut placed) = change.and_then(|change| read(&change, table, source)) else {
            return Ok(false);
        };
        let bound = &self.fed.bound[at];
        let rows = [&placed.change.new, &placed.change.old];
        let keys: Option<Vec<String>> = rows.into_iter().flatten().map(|row| bound.key_today(row)).collect();
        let first = keys.and_then(|keys| keys.into_iter().next());
        let every = bound.every_row();
        // (Of its message it keeps the key: that is as it was told.)
        match first {
            Some(key) => {
                if !source.names.key.is_empty() {
                    placed.change.key = key.as_str().into();
                    known.key = key;
                }
                known.keys.retain(|key| every_row_of(key).is_none());
                let keys = bound.keys_of(&placed.change).into_iter().collect();
                let one = self.one_key(table, &keys)?;
                known.keys.extend(self.fed.bound[at].row_keys(&placed.change, &one));
            }
            None => {
                known.keys.retain(|key| *key != every);
                known.keys.push(every);
            }
        }
        Ok(true)
    }
}
