//! The JSON that `emaj_export_groups_configuration` and `emaj_export_parameters_configuration` write.
//!
//! Both objects may stand in one file. Keys that begin with `_` are comments; others that are not known here are noted and not taken over.

use serde_json::{Map, Value};

use super::{Configuration, Group, Kinds, Note, Relation, shown};
use crate::errors::{Error, Kind, Result};
use crate::names::listed;

pub(super) fn read(name: &str, text: &str) -> Result<Configuration> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        Error::message(
            Kind::Manifest,
            format!("{name}:{line}:{column}: this is no JSON: {what}"),
        )
        .hint("`psql -X -A -t` writes what the function returns, and nothing else")
    })?;
    let reader = Reader { file: name };
    reader.file(&value)
}

struct Reader<'a> {
    file: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, place: &str, expected: &str, found: Option<&Value>) -> Error {
        let found = match found {
            None => "nothing",
            Some(Value::Null) => "null",
            Some(Value::Bool(_)) => "true or false",
            Some(Value::Number(_)) => "a number",
            Some(Value::String(_)) => "a text",
            Some(Value::Array(_)) => "a list",
            Some(Value::Object(_)) => "an object",
        };
        Error::message(
            Kind::Manifest,
            format!("{}: {place}: expected {expected}, found {found}", self.file),
        )
    }

    fn file(&self, value: &Value) -> Result<Configuration> {
        let map = self.object("the whole file", Some(value))?;
        let mut made = Configuration::default();
        let (groups, parameters) = (map.get("tables_groups"), map.get("parameters"));
        if groups.is_none() && parameters.is_none() {
            let found = match map.is_empty() {
                true => "nothing".to_owned(),
                false => listed(map.keys().take(5).map(|key| shown(key))),
            };
            return Err(Error::message(
                Kind::Manifest,
                format!("{}: this is no configuration of E-Maj: it holds {found}", self.file),
            )
            .hint("expected `tables_groups`, as `emaj_export_groups_configuration` writes it, or `parameters`, as `emaj_export_parameters_configuration` does"));
        }
        self.unknown(map, &["tables_groups", "parameters"], "the file", &mut made.notes);
        for (number, group) in self.list("`tables_groups`", groups)?.iter().enumerate() {
            let group = self.group(number, group, &mut made.notes)?;
            if made.groups.iter().any(|known: &Group| known.name == group.name) {
                return Err(Error::message(
                    Kind::Manifest,
                    format!("{}: group `{}` is there twice", self.file, shown(&group.name)),
                ));
            }
            made.groups.push(group);
        }
        if parameters.is_some() {
            made.parameters = Some(self.parameters(parameters)?);
        }
        Ok(made)
    }

    fn group(&self, number: usize, value: &Value, notes: &mut Vec<Note>) -> Result<Group> {
        let place = format!("`tables_groups[{number}]`");
        let map = self.object(&place, Some(value))?;
        let name = self.text(&format!("{place}, `group`"), map.get("group"))?;
        let place = format!("group `{}`", shown(&name));
        let known = ["group", "is_rollbackable", "comment", "tables", "sequences"];
        self.unknown(map, &known, &place, notes);
        let rollback = match map.get("is_rollbackable") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(is)) => Some(*is),
            other => return Err(self.wrong(&format!("{place}, `is_rollbackable`"), "true or false", other)),
        };
        let comment = match map.get("comment") {
            None | Some(Value::Null) => None,
            given => Some(self.text(&format!("{place}, `comment`"), given)?),
        };
        let mut relations = Vec::new();
        for (key, one) in [("tables", "table"), ("sequences", "sequence")] {
            for (number, value) in self
                .list(&format!("{place}, `{key}`"), map.get(key))?
                .iter()
                .enumerate()
            {
                relations.push(self.relation(&place, one, number, value, notes)?);
            }
        }
        Ok(Group {
            name,
            rollback,
            comment,
            is_idle: false,
            relations,
        })
    }

    fn relation(
        &self,
        group: &str,
        one: &str,
        number: usize,
        value: &Value,
        notes: &mut Vec<Note>,
    ) -> Result<Relation> {
        let place = format!("{group}, `{one}s[{number}]`");
        let map = self.object(&place, Some(value))?;
        let mut relation = Relation {
            schema: self.text(&format!("{place}, `schema`"), map.get("schema"))?,
            name: self.text(&format!("{place}, `{one}`"), map.get(one))?,
            kind: Kinds::Sequence,
            ..Relation::default()
        };
        let place = format!("{group}, {one} {}", shown(&super::translate::written(&relation)));
        if one == "sequence" {
            self.unknown(map, &["schema", "sequence"], &place, notes);
            return Ok(relation);
        }
        relation.kind = Kinds::Table;
        const TABLESPACES: [&str; 2] = ["log_data_tablespace", "log_index_tablespace"];
        let known = [
            "schema",
            "table",
            "priority",
            TABLESPACES[0],
            TABLESPACES[1],
            "ignored_triggers",
        ];
        self.unknown(map, &known, &place, notes);
        relation.priority = match map.get("priority") {
            None | Some(Value::Null) => None,
            Some(given) => match given.as_i64() {
                Some(number) => Some(number),
                None => return Err(self.wrong(&format!("{place}, `priority`"), "a whole number", Some(given))),
            },
        };
        for key in TABLESPACES {
            match map.get(key) {
                None | Some(Value::Null) => {}
                given => relation
                    .tablespaces
                    .push(self.text(&format!("{place}, `{key}`"), given)?),
            }
        }
        let key = format!("{place}, `ignored_triggers`");
        for trigger in self.list(&key, map.get("ignored_triggers"))? {
            // A list of names, or of objects with the name in them, as the version has it.
            let name = match trigger {
                Value::Object(one) => one.get("trigger"),
                other => Some(other),
            };
            relation.ignored_triggers.push(self.text(&key, name)?);
        }
        Ok(relation)
    }

    fn parameters(&self, value: Option<&Value>) -> Result<Vec<(String, Option<String>)>> {
        let mut all: Vec<(String, Option<String>)> = Vec::new();
        for (number, one) in self.list("`parameters`", value)?.iter().enumerate() {
            let place = format!("`parameters[{number}]`");
            let map = self.object(&place, Some(one))?;
            let key = self.text(&format!("{place}, `key`"), map.get("key"))?;
            let value = match map.get("value") {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(other @ (Value::Bool(_) | Value::Number(_))) => Some(other.to_string()),
                other => return Err(self.wrong(&format!("parameter `{}`", shown(&key)), "a text", other)),
            };
            if all.iter().any(|(known, _)| *known == key) {
                return Err(Error::message(
                    Kind::Manifest,
                    format!("{}: parameter `{}` is there twice", self.file, shown(&key)),
                ));
            }
            all.push((key, value));
        }
        Ok(all)
    }

    fn unknown(&self, map: &Map<String, Value>, known: &[&str], place: &str, notes: &mut Vec<Note>) {
        for key in map.keys() {
            if !known.contains(&key.as_str()) && !key.starts_with('_') {
                notes.push(Note::missing(place, format!("`{}` is not known here", shown(key))));
            }
        }
    }

    fn object<'v>(&self, place: &str, value: Option<&'v Value>) -> Result<&'v Map<String, Value>> {
        match value {
            Some(Value::Object(map)) => Ok(map),
            other => Err(self.wrong(place, "an object", other)),
        }
    }

    fn list<'v>(&self, place: &str, value: Option<&'v Value>) -> Result<&'v [Value]> {
        match value {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(all)) => Ok(all),
            other => Err(self.wrong(place, "a list", other)),
        }
    }

    fn text(&self, place: &str, value: Option<&Value>) -> Result<String> {
        match value {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(Value::String(_)) => Err(Error::message(
                Kind::Manifest,
                format!("{}: {place}: expected a text, found an empty one", self.file),
            )),
            other => Err(self.wrong(place, "a text", other)),
        }
    }
}
