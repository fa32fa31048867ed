//! Which keys are one to their table though they are written in two ways: `Bob` and `bob` of a `citext`, one text in two cases under a collation that does
//! not tell them apart, `1 day` and `24:00:00`, a label of an enum that was renamed. What has such a key goes behind what was done to it before, and must
//! not overtake what waits of it.
//!
//! Only the database can say that. It is asked once for all keys of a chunk, of tables that may have such keys; who wants the keys of a change has to
//! bring the answer.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use minijinja::context;
use minijinja::value::{Serde, Value};

use super::Courier;
use crate::deliver::ask::not_now;
use crate::deliver::binding::OneKey;
use crate::deliver::stream::Placed;
use crate::deliver::today::look_at;
use crate::errors::Result;
use crate::sink::{Fault, Verdict, of_source};

/// Which keys of some changes are one, by table; of tables that are not here, those that are written alike.
#[derive(Debug, Default)]
pub(super) struct OneKeys(HashMap<usize, OneKey>);

impl OneKeys {
    /// Returns which keys of a table are one.
    pub(super) fn of(&self, table: usize) -> &OneKey {
        static AS_WRITTEN: LazyLock<OneKey> = LazyLock::new(OneKey::default);
        self.0.get(&table).unwrap_or(&AS_WRITTEN)
    }
}

impl Courier<'_> {
    /// Asks which keys of some changes are one.
    pub(super) fn one_keys(&mut self, chunk: &[Placed]) -> Result<OneKeys> {
        let mut keys: HashMap<usize, BTreeSet<String>> = HashMap::new();
        for placed in chunk {
            let table = placed.change.table;
            let bound = self.fed.bound.iter().find(|bound| bound.table == table);
            if let Some(bound) = bound.filter(|_| self.fed.sources.tables[table].has_loose_key) {
                keys.entry(bound.table)
                    .or_default()
                    .extend(bound.keys_of(&placed.change));
            }
        }
        let mut one = OneKeys::default();
        for (table, keys) in keys {
            one.0.insert(table, self.one_key(table, &keys)?);
        }
        Ok(one)
    }

    /// Asks which keys of a table are one. Where that cannot be said, those are that are written alike.
    pub(super) fn one_key(&mut self, table: usize, keys: &BTreeSet<String>) -> Result<OneKey> {
        match self.ask_one_key(table, keys) {
            Ok(one) => Ok(one),
            Err(fault) if fault.verdict == Verdict::Never => Ok(OneKey::default()),
            Err(fault) => Err(not_now(fault)),
        }
    }

    fn ask_one_key(&mut self, table: usize, keys: &BTreeSet<String>) -> Result<OneKey, Fault> {
        let source = &self.fed.sources.tables[table];
        let (session, renderer) = (&mut self.sessions.asker, &self.orders.renderer);
        let today = look_at(session, renderer, source)?;
        if source.texts.are_raw() || !today.has_loose_key() {
            return Ok(OneKey::default());
        }
        let sql = renderer
            .render_value("stream/one_key", context! { key => Value::from(Serde(today.key())) })
            .map_err(Fault::never)?;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let rows = session
            .query(&sql, &[&keys])
            .map_err(|error| of_source(&error, "compare keys"))?;
        Ok(OneKey(rows.iter().map(|row| (row.get(0), row.get(1))).collect()))
    }
}
