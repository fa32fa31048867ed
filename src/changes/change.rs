//! One change as people are shown it: who did what, when, and the row before and after with every value as the server wrote it.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::names::QualifiedName;

/// A change, as `changes/json` writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change {
    pub schema: String,
    pub table: String,
    /// `INS`, `UPD`, `DEL` or `TRU`.
    pub verb: String,
    pub txid: i64,
    /// A place in the WAL.
    pub lsn: String,
    pub time: String,
    pub user: String,
    pub old: Option<Values>,
    pub new: Option<Values>,
}

impl Change {
    pub fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.table)
    }

    /// Returns the place in the WAL as a number.
    pub(super) fn place(&self) -> u64 {
        self.lsn.parse::<postgres::types::PgLsn>().map_or(0, u64::from)
    }
}

/// The columns of a row and their values, as JSON text: no digit is lost.
#[derive(Debug, Clone)]
pub struct Values(pub Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the columns of a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Values(columns))
            }
        }
        deserializer.deserialize_map(Columns)
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
