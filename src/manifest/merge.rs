//! All files of a manifest as one: groups, sinks and bindings side by side, everything else said once.
//!
//! What comes out is still raw: nodes with places, held against their shapes but not yet tied together. A name
//! defined twice is an error that shows both places; a setting may stand in several files when it is the same.

use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::source::{Located, Place, Source};
use super::yaml::{Node, Value};

/// One file that is YAML.
pub(super) struct File {
    pub source: Arc<Source>,
    pub root: Node,
}

/// A node and the file it stands in.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub node: &'a Node,
    pub source: &'a Arc<Source>,
}

/// A node under a name of the user's choice.
#[derive(Clone)]
pub(super) struct Named<'a> {
    pub name: Located<String>,
    pub item: Item<'a>,
}

/// All files together.
#[derive(Default)]
pub(super) struct RawManifest<'a> {
    pub settings: Vec<Named<'a>>,
    pub groups: Vec<Named<'a>>,
    pub sinks: Vec<Named<'a>>,
    pub bindings: Vec<Named<'a>>,
}

impl<'a> Item<'a> {
    pub fn place(&self) -> Place {
        Place::new(self.source, self.node.span.clone())
    }

    /// Returns the value of `key` when this is a map that has it.
    pub fn get(&self, key: &str) -> Option<Item<'a>> {
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        let (_, node) = entries
            .iter()
            .find(|(name, _)| matches!(&name.value, Value::Text(name) if name == key))?;
        Some(Item {
            node,
            source: self.source,
        })
    }

    /// Returns the entries with a text for a key when this is a map, else nothing.
    pub fn entries(&self) -> Vec<Named<'a>> {
        let Value::Map(entries) = &self.node.value else {
            return Vec::new();
        };
        let named = |(key, node): &'a (Node, Node)| match &key.value {
            Value::Text(name) => {
                let name = Located::new(name.clone(), Place::new(self.source, key.span.clone()));
                Some(Named {
                    name,
                    item: Item {
                        node,
                        source: self.source,
                    },
                })
            }
            _ => None,
        };
        entries.iter().filter_map(named).collect()
    }

    /// Returns the items when this is a list, else nothing.
    pub fn items(&self) -> Vec<Item<'a>> {
        match &self.node.value {
            Value::List(items) => items
                .iter()
                .map(|node| Item {
                    node,
                    source: self.source,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn bool(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn integer(&self) -> Option<i128> {
        match &self.node.value {
            Value::Integer(value) => Some(*value),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// Returns the text of `key` with its place.
    pub fn text_at(&self, key: &str) -> Option<Located<&'a str>> {
        let item = self.get(key)?;
        Some(Located::new(item.text()?, item.place()))
    }
}

impl<'a> RawManifest<'a> {
    pub fn setting(&self, key: &str) -> Option<Item<'a>> {
        self.settings
            .iter()
            .find(|setting| *setting.name == key)
            .map(|setting| setting.item)
    }
}

/// Puts the files together, in their order.
pub(super) fn merge<'a>(files: &'a [File], out: &mut Vec<Diagnostic>) -> RawManifest<'a> {
    let mut raw = RawManifest::default();
    for file in files {
        for entry in (Item {
            node: &file.root,
            source: &file.source,
        })
        .entries()
        {
            match entry.name.as_str() {
                "groups" => add_all(&mut raw.groups, "group", entry.item, out),
                "sinks" => add_all(&mut raw.sinks, "sink", entry.item, out),
                "bindings" => add_all(&mut raw.bindings, "binding", entry.item, out),
                _ => add_setting(&mut raw.settings, entry, out),
            }
        }
    }
    raw
}

fn add_all<'a>(all: &mut Vec<Named<'a>>, what: &str, map: Item<'a>, out: &mut Vec<Diagnostic>) {
    for entry in map.entries() {
        match all.iter().find(|before| before.name == entry.name) {
            // Within one file `fit` has reported it.
            Some(before) if Arc::ptr_eq(before.item.source, entry.item.source) => {}
            Some(before) => out.push(
                Diagnostic::error(
                    &entry.name.place,
                    format!("the {what} `{}` is defined a second time", entry.name.value),
                )
                .related(&before.name.place, "first here")
                .next("give one of them another name, or put them together"),
            ),
            None => all.push(entry),
        }
    }
}

fn add_setting<'a>(all: &mut Vec<Named<'a>>, entry: Named<'a>, out: &mut Vec<Diagnostic>) {
    match all.iter().find(|before| before.name == entry.name) {
        Some(before) if Arc::ptr_eq(before.item.source, entry.item.source) => {}
        Some(before) if same(&before.item.node.value, &entry.item.node.value) => {}
        Some(before) => out.push(
            Diagnostic::error(
                &entry.name.place,
                format!("`{}` differs from that of another file", entry.name.value),
            )
            .related(&before.name.place, "the other one")
            .next("say it in one file only"),
        ),
        None => all.push(entry),
    }
}

/// Tells whether two values are the same, wherever they stand; the order of keys does not matter.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Integer(a), Value::Integer(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.value, &b.value))
        }
        (Value::Map(a), Value::Map(b)) => {
            let has = |key: &Node, value: &Node| {
                b.iter()
                    .any(|(k, v)| same(&k.value, &key.value) && same(&v.value, &value.value))
            };
            a.len() == b.len() && a.iter().all(|(key, value)| has(key, value))
        }
        _ => false,
    }
}
