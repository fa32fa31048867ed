//! The JSON that `emaj_export_groups_configuration` and `emaj_export_parameters_configuration` write.
//!
//! Both objects may stand in one file. Keys that begin with `_` are comments; others that are not known here are noted and not taken over.
//! What is wrong is collected, and told at once.

use std::cell::RefCell;

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
    let reader = Reader {
        file: name,
        problems: RefCell::default(),
    };
    let made = reader.file(&value)?;
    let problems = reader.problems.into_inner();
    if problems.is_empty() {
        Ok(made)
    } else {
        Err(super::wrong(&problems))
    }
}

/// What is wrong is noted; then `None` comes back, and the reading goes on.
struct Reader<'a> {
    file: &'a str,
    problems: RefCell<Vec<String>>,
}

impl Reader<'_> {
    fn problem<T>(&self, what: String) -> Option<T> {
        self.problems.borrow_mut().push(format!("{}: {what}", self.file));
        None
    }

    fn wrong<T>(&self, place: &str, expected: &str, found: Option<&Value>) -> Option<T> {
        let found = match found {
            None => "nothing",
            Some(Value::Null) => "null",
            Some(Value::Bool(_)) => "true or false",
            Some(Value::Number(_)) => "a number",
            Some(Value::String(_)) => "a text",
            Some(Value::Array(_)) => "a list",
            Some(Value::Object(_)) => "an object",
        };
        self.problem(format!("{place}: expected {expected}, found {found}"))
    }

    fn file(&self, value: &Value) -> Result<Configuration> {
        let mut made = Configuration::default();
        let Some(map) = self.object("the whole file", Some(value)) else {
            return Ok(made);
        };
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
        for (number, group) in self.list("`tables_groups`", groups).iter().enumerate() {
            let Some(group) = self.group(number, group, &mut made.notes) else {
                continue;
            };
            if made.groups.iter().any(|known: &Group| known.name == group.name) {
                self.problem::<()>(format!("group `{}` is there twice", shown(&group.name)));
            }
            made.groups.push(group);
        }
        if parameters.is_some() {
            made.parameters = Some(self.parameters(parameters));
        }
        Ok(made)
    }

    fn group(&self, number: usize, value: &Value, notes: &mut Vec<Note>) -> Option<Group> {
        let place = format!("`tables_groups[{number}]`");
        let map = self.object(&place, Some(value))?;
        let name = self.text(&format!("{place}, `group`"), map.get("group"))?;
        let place = format!("group `{}`", shown(&name));
        let known = ["group", "is_rollbackable", "comment", "tables", "sequences"];
        self.unknown(map, &known, &place, notes);
        let rollback = match map.get("is_rollbackable") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(is)) => Some(*is),
            other => self.wrong(&format!("{place}, `is_rollbackable`"), "true or false", other),
        };
        let comment = match map.get("comment") {
            None | Some(Value::Null) => None,
            given => self.text(&format!("{place}, `comment`"), given),
        };
        let mut relations = Vec::new();
        for (key, one) in [("tables", "table"), ("sequences", "sequence")] {
            let all = self.list(&format!("{place}, `{key}`"), map.get(key)).iter().enumerate();
            relations.extend(all.filter_map(|(number, value)| self.relation(&place, one, number, value, notes)));
        }
        Some(Group {
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
    ) -> Option<Relation> {
        let place = format!("{group}, `{one}s[{number}]`");
        let map = self.object(&place, Some(value))?;
        let schema = self.text(&format!("{place}, `schema`"), map.get("schema"));
        let name = self.text(&format!("{place}, `{one}`"), map.get(one));
        let mut relation = Relation {
            schema: schema?,
            name: name?,
            kind: Kinds::Sequence,
            ..Relation::default()
        };
        let place = format!("{group}, {one} {}", shown(&super::translate::written(&relation)));
        if one == "sequence" {
            self.unknown(map, &["schema", "sequence"], &place, notes);
            return Some(relation);
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
                None => self.wrong(&format!("{place}, `priority`"), "a whole number", Some(given)),
            },
        };
        for key in TABLESPACES {
            match map.get(key) {
                None | Some(Value::Null) => {}
                given => relation
                    .tablespaces
                    .extend(self.text(&format!("{place}, `{key}`"), given)),
            }
        }
        let key = format!("{place}, `ignored_triggers`");
        for trigger in self.list(&key, map.get("ignored_triggers")) {
            // A list of names, or of objects with the name in them, as the version has it.
            let name = match trigger {
                Value::Object(one) => one.get("trigger"),
                other => Some(other),
            };
            relation.ignored_triggers.extend(self.text(&key, name));
        }
        Some(relation)
    }

    fn parameters(&self, value: Option<&Value>) -> Vec<(String, Option<String>)> {
        let mut all: Vec<(String, Option<String>)> = Vec::new();
        for (number, one) in self.list("`parameters`", value).iter().enumerate() {
            let place = format!("`parameters[{number}]`");
            let map = self.object(&place, Some(one));
            let Some((map, key)) =
                map.and_then(|map| Some((map, self.text(&format!("{place}, `key`"), map.get("key"))?)))
            else {
                continue;
            };
            let value = match map.get("value") {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(other @ (Value::Bool(_) | Value::Number(_))) => Some(other.to_string()),
                other => self.wrong(&format!("parameter `{}`", shown(&key)), "a text", other),
            };
            if all.iter().any(|(known, _)| *known == key) {
                self.problem::<()>(format!("parameter `{}` is there twice", shown(&key)));
            }
            all.push((key, value));
        }
        all
    }

    fn unknown(&self, map: &Map<String, Value>, known: &[&str], place: &str, notes: &mut Vec<Note>) {
        for key in map.keys() {
            if !known.contains(&key.as_str()) && !key.starts_with('_') {
                notes.push(Note::missing(place, format!("`{}` is not known here", shown(key))));
            }
        }
    }

    fn object<'v>(&self, place: &str, value: Option<&'v Value>) -> Option<&'v Map<String, Value>> {
        match value {
            Some(Value::Object(map)) => Some(map),
            other => self.wrong(place, "an object", other),
        }
    }

    fn list<'v>(&self, place: &str, value: Option<&'v Value>) -> &'v [Value] {
        match value {
            None | Some(Value::Null) => &[],
            Some(Value::Array(all)) => all,
            other => self.wrong(place, "a list", other).unwrap_or_default(),
        }
    }

    fn text(&self, place: &str, value: Option<&Value>) -> Option<String> {
        match value {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(Value::String(_)) => self.problem(format!("{place}: expected a text, found an empty one")),
            other => self.wrong(place, "a text", other),
        }
    }
}
