//! A row as the server printed it: JSON, kept as text, so that nothing is lost on the way.
//!
//! Templates see values ([`Row::value`]); messages and rows of another table get the text itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::Serde;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A row: the names of its columns and their values, in the table's order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    /// The whole object.
    pub json: Arc<str>,
}

impl Row {
    pub fn new(json: impl Into<Arc<str>>) -> Self {
        Row { json: json.into() }
    }

    /// Returns each column with its value as JSON text.
    pub fn columns(&self) -> Vec<(String, &str)> {
        serde_json::from_str::<Columns<'_>>(&self.json).map_or_else(|_| Vec::new(), |columns| columns.0)
    }

    /// Returns the row as templates see it: `row.login`.
    pub fn value(&self) -> Value {
        let columns: BTreeMap<String, Value> = self
            .columns()
            .into_iter()
            .map(|(name, json)| (name, value(json)))
            .collect();
        Value::from(columns)
    }

    /// Returns the JSON text of one column.
    pub fn column(&self, name: &str) -> Option<&str> {
        self.columns()
            .into_iter()
            .find(|(column, _)| column == name)
            .map(|(_, json)| json)
    }
}

/// The value of a JSON text. Numbers keep their value: what neither an integer nor a float can hold exactly stays text.
fn value(json: &str) -> Value {
    match json.as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => number(json),
        Some(b'n') => Value::from(()),
        _ => serde_json::from_str::<serde_json::Value>(json)
            .map_or_else(|_| Value::from(json), |value| Value::from(Serde(value))),
    }
}

fn number(text: &str) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return Value::from(whole);
    }
    if let Ok(whole) = text.parse::<i128>() {
        return Value::from(whole);
    }
    match text.parse::<f64>() {
        Ok(float) if exact(text, float) => Value::from(float),
        _ => Value::from(text),
    }
}

/// Whether the shortest text of `float` says the same number as `text`.
fn exact(text: &str, float: f64) -> bool {
    let plain = |text: &str| match text.contains(['e', 'E']) {
        true => None,
        false if text.contains('.') => Some(text.trim_end_matches('0').trim_end_matches('.').to_owned()),
        false => Some(text.to_owned()),
    };
    match (plain(text), plain(&float.to_string())) {
        (Some(text), Some(float)) => text == float,
        // With an exponent it was a float from the start.
        _ => text.contains(['e', 'E']),
    }
}

struct Columns<'a>(Vec<(String, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Columns<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut columns = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    columns.push((name, value.get()));
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_value() {
        let row = Row::new(
            r#"{"a":1,"b":10.50,"c":123456789012345678901234567890.25,"d":170141183460469231731687303715884105727,"e":1e300,"f":"x","g":null,"h":[1,2],"i":true,"j":0.1}"#,
        );
        assert_eq!(row.columns().len(), 10);
        let value = row.value();
        let text = |name: &str| value.get_attr(name).unwrap().to_string();
        assert_eq!(text("a"), "1");
        assert_eq!(text("b"), "10.5");
        assert_eq!(text("c"), "123456789012345678901234567890.25");
        assert_eq!(text("d"), "170141183460469231731687303715884105727");
        assert_eq!(text("j"), "0.1");
        assert!(value.get_attr("g").unwrap().is_none());
        assert!(value.get_attr("i").unwrap().is_true());
        assert_eq!(row.column("b"), Some("10.50"));
    }
}
