//! The JSON Schema of a manifest, made from the same `keys` that the parser goes by.
//!
//! `emaj schema` prints it, editors complete and check with it. It knows structure and the look of single texts; what
//! ties two places together only `load` can say.

use serde_json::{Map, Value, json};

use super::keys::MANIFEST;
use super::shape::{Record, Shape};

/// Returns the JSON Schema (draft 2020-12) of manifest version 1.
pub fn schema() -> Value {
    let Value::Object(body) = of(&MANIFEST) else {
        return Value::Null;
    };
    let mut schema = Map::new();
    schema.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    schema.insert("title".to_owned(), json!("emaj manifest, version 1"));
    schema.extend(body);
    Value::Object(schema)
}

fn of(shape: &Shape) -> Value {
    match shape {
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Null => json!({ "type": "null" }),
        Shape::Integer { min, max } if min == max => json!({ "const": min }),
        Shape::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Word(words) => json!({ "enum": words }),
        Shape::Text(kind) => match kind.regex {
            Some(regex) => json!({ "type": "string", "description": kind.what, "pattern": regex }),
            None => json!({ "type": "string", "description": kind.what }),
        },
        Shape::List { of: items, least } => json!({ "type": "array", "items": of(items), "minItems": least }),
        Shape::Map {
            name,
            of: values,
            least,
        } => json!({
            "type": "object",
            "propertyNames": { "pattern": name.regex.unwrap_or("") },
            "additionalProperties": of(values),
            "minProperties": least,
        }),
        Shape::Record(record) => of_record(record),
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(of).collect::<Vec<_>>() }),
    }
}

fn of_record(record: &Record) -> Value {
    let mut properties = Map::new();
    for key in record.keys {
        let mut value = of(&key.shape);
        if let Value::Object(value) = &mut value {
            value.insert("description".to_owned(), json!(key.doc));
        }
        properties.insert(key.name.to_owned(), value);
    }
    let required: Vec<&str> = record
        .keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    if !record.one_of.is_empty() {
        object["oneOf"] = record.one_of.iter().map(|name| json!({ "required": [name] })).collect();
    }
    object
}

/// Returns every key of the manifest as a path, `groups.*.tables`; for the test that the documentation has them all.
pub fn key_paths() -> Vec<String> {
    let mut paths = Vec::new();
    collect(&MANIFEST, "", &mut paths);
    paths
}

fn collect(shape: &Shape, prefix: &str, paths: &mut Vec<String>) {
    match shape {
        Shape::Record(record) => {
            for key in record.keys {
                let path = if prefix.is_empty() {
                    key.name.to_owned()
                } else {
                    format!("{prefix}.{}", key.name)
                };
                collect(&key.shape, &path, paths);
                paths.push(path);
            }
        }
        Shape::Map { of, .. } => collect(of, &format!("{prefix}.*"), paths),
        Shape::List { of, .. } => collect(of, prefix, paths),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| collect(shape, prefix, paths)),
        _ => {}
    }
}
