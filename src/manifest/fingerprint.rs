//! What tells one declaration of a binding from another: a fingerprint over all that changes what is delivered.
//!
//! Places in the file, comments, and the order of attributes, headers, events and columns make no difference; neither do the table's
//! name (a table is known by its oid) and `max_deletes`. `install` keeps it in the registry; a worker compares it with what it holds.

use sha2::{Digest, Sha256};

use super::delivery::*;
use super::in_database::{InDatabasePart, InDatabaseText};
use super::model::Template;
use super::source::Located;
use crate::names::hex;

impl Binding {
    /// Returns the fingerprint: 64 hexadecimal digits, the same as long as the same is delivered to the same sink.
    pub fn fingerprint(&self) -> String {
        let mut hash = Parts(Sha256::new());
        hash.some("to", self.to.as_ref().map(|to| to.value.as_str()));
        hash.some("when", self.when.as_ref().map(|when| when.value.0.as_str()));
        let mut events = self.events.clone();
        events.sort_unstable();
        events.dedup();
        for event in events {
            hash.text("event", event.word());
        }
        let mut columns: Vec<&str> = self.columns.iter().map(|column| column.value.as_str()).collect();
        columns.sort_unstable();
        for column in columns {
            hash.text("column", column);
        }
        hash.text("kind", self.kind.word());
        hash.kind(&self.kind);
        hex(&hash.0.finalize())
    }
}

/// Texts with their lengths, so that no two lists of them run into the same bytes.
struct Parts(Sha256);

impl Parts {
    fn text(&mut self, label: &str, text: &str) {
        for part in [label, text] {
            self.0.update((part.len() as u64).to_be_bytes());
            self.0.update(part.as_bytes());
        }
    }

    fn some(&mut self, label: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(label, text);
        }
    }

    fn template(&mut self, label: &str, template: &Located<Template>) {
        self.text(label, &template.value.0);
    }

    fn templates(&mut self, label: &str, template: Option<&Located<Template>>) {
        self.some(label, template.map(|template| template.value.0.as_str()));
    }

    fn kind(&mut self, kind: &BindingKind) {
        match kind {
            BindingKind::Entry {
                dn,
                object_classes,
                attributes,
            } => {
                self.template("dn", dn);
                for class in object_classes {
                    self.text("class", &class.value);
                }
                let mut sorted: Vec<&Attribute> = attributes.iter().collect();
                sorted.sort_by(|a, b| a.name.value.cmp(&b.name.value));
                for attribute in sorted {
                    self.attribute(attribute);
                }
            }
            BindingKind::Value {
                entry,
                attribute,
                value,
            }
            | BindingKind::Flag {
                entry,
                attribute,
                value,
            } => {
                self.entry(entry);
                self.text("attribute", &attribute.value);
                self.template("value", value);
            }
            BindingKind::Query {
                entry,
                attribute,
                query,
                mode,
            } => {
                self.entry(entry);
                self.text("attribute", &attribute.value);
                self.template("query", query);
                self.text("mode", mode.word());
            }
            BindingKind::Message(message) => self.message(message),
            BindingKind::Row { table, key, columns } => {
                self.some("table", table.as_ref().map(|table| table.value.to_string()).as_deref());
                for column in key {
                    self.text("key", &column.value);
                }
                let mut sorted: Vec<(&str, &str)> = columns
                    .iter()
                    .map(|(name, expression)| (name.value.as_str(), expression.value.0.as_str()))
                    .collect();
                sorted.sort_unstable();
                for (name, expression) in sorted {
                    self.text("column", name);
                    self.text("is", expression);
                }
            }
            BindingKind::Warn { message } => self.in_database("message", &message.value),
            BindingKind::Notify { channel, payload } => {
                self.text("channel", &channel.value);
                if let Some(payload) = payload {
                    self.in_database("payload", &payload.value);
                }
            }
            BindingKind::Sql { function, arguments } => {
                self.text("function", &function.value.to_string());
                for argument in arguments {
                    self.in_database("argument", &argument.value);
                }
            }
        }
    }

    fn attribute(&mut self, attribute: &Attribute) {
        self.text("attribute", &attribute.name.value);
        self.text("mode", attribute.mode.word());
        match &attribute.source {
            AttributeSource::Templates(templates) => {
                for template in templates {
                    self.template("template", template);
                }
            }
            AttributeSource::Query(query) => self.template("query", query),
        }
    }

    fn entry(&mut self, entry: &EntryRef) {
        match entry {
            EntryRef::Dn(dn) => self.template("dn", dn),
            EntryRef::Search { base, filter, scope } => {
                self.template("base", base);
                self.template("filter", filter);
                self.text("scope", scope.word());
            }
            EntryRef::OfRow(of) => {
                self.text("entry_of", &of.binding.value);
                let mut sorted: Vec<(&str, &str)> = of
                    .key
                    .iter()
                    .map(|(theirs, own)| (theirs.value.as_str(), own.value.as_str()))
                    .collect();
                sorted.sort_unstable();
                for (theirs, own) in sorted {
                    self.text("key", theirs);
                    self.text("column", own);
                }
            }
        }
    }

    fn message(&mut self, message: &Message) {
        self.templates("subject", message.subject.as_ref());
        self.templates("topic", message.topic.as_ref());
        self.templates("key", message.key.as_ref());
        self.templates("type", message.event_type.as_ref());
        self.templates("body", message.body.as_ref());
        let mut headers: Vec<(&str, &str)> = message
            .headers
            .iter()
            .map(|(name, template)| (name.as_str(), template.value.0.as_str()))
            .collect();
        headers.sort_unstable();
        for (name, template) in headers {
            self.text("header", name);
            self.text("is", template);
        }
    }

    fn in_database(&mut self, label: &str, text: &InDatabaseText) {
        self.text(label, "");
        for part in &text.parts {
            match part {
                InDatabasePart::Literal(text) => self.text("literal", text),
                InDatabasePart::Row(column) => self.text("row", column),
                InDatabasePart::Old(column) => self.text("old", column),
                InDatabasePart::Event => self.text("event", ""),
                InDatabasePart::Table => self.text("table", ""),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn fingerprint(binding: &str) -> String {
        let text = format!(
            "version: 1\nsinks:\n  a: {{ file: {{ path: a }} }}\n  b: {{ file: {{ path: b }} }}\n  d: {{ ldap: {{ url: ldap://h }} }}\n\
             bindings:\n  x: {binding}\n  y: {{ table: s.t, to: b, message: {{}} }}\n  z: {{ table: s.t, to: d, flag: {{ dn: a, attribute: a, value: a }} }}\n  w: {{ table: s.t, to: a, row: {{}} }}\n"
        );
        let loaded = super::super::parse(Path::new("m.yaml"), &text).unwrap_or_else(|error| panic!("{error}"));
        loaded.manifest.binding("x").unwrap().fingerprint()
    }

    #[test]
    fn what_is_delivered_counts_and_nothing_else() {
        let plain = fingerprint("{ table: s.t, to: a, message: { body: '{{ row.a }}' } }");
        for same in [
            "\n    table: s.t\n\n    to: a     # there\n    message: { body: '{{ row.a }}' }",
            "{ message: { body: '{{ row.a }}' }, to: a, table: s.renamed, max_deletes: 5 }",
            "{ events: [delete, update, insert], table: s.t, to: a, message: { body: '{{ row.a }}' } }",
        ] {
            assert_eq!(fingerprint(same), plain, "{same}");
        }
        for other in [
            "{ table: s.t, to: b, message: { body: '{{ row.a }}' } }",
            "{ table: s.t, to: a, message: { body: '{{ row.b }}' } }",
            "{ table: s.t, to: a, message: { key: '{{ row.a }}' } }",
            "{ table: s.t, to: a, message: { body: '{{ row.a }}' }, events: [insert] }",
            "{ table: s.t, to: a, message: { body: '{{ row.a }}' }, columns: [a] }",
            "{ table: s.t, to: a, message: { body: '{{ row.a }}' }, when: row.a }",
            "{ table: s.t, to: a, row: {} }",
            "{ table: s.t, warn: { message: '{{ row.a }}' } }",
            "{ table: s.t, notify: { channel: a, payload: '{{ row.a }}' } }",
        ] {
            assert_ne!(fingerprint(other), plain, "{other}");
        }
    }

    #[test]
    fn the_order_of_attributes_is_nothing_their_mode_is() {
        let entry = |attributes: &str| {
            fingerprint(&format!(
                "{{ table: s.t, to: d, entry: {{ dn: 'uid=1', object_classes: [person], attributes: {{ {attributes} }} }} }}"
            ))
        };
        assert_eq!(entry("sn: a, cn: b"), entry("cn: b, sn: a"));
        assert_ne!(entry("sn: a, cn: b"), entry("cn: a, sn: b"));
        assert_ne!(entry("sn: a"), entry("sn: { template: a, mode: keep }"));
        assert_ne!(entry("sn: { template: a }"), entry("sn: { query: a }"));
    }
}
