//! Which columns of its table a binding speaks of, each with its place: for `install` to hold against the catalogue.

use std::collections::BTreeSet;

use super::delivery::*;
use super::in_database::{InDatabasePart, InDatabaseText};
use super::source::{Located, Place};

impl Binding {
    /// Returns the columns that templates, expressions, texts and `columns` name; `row["Any Name"]` cannot be seen.
    pub fn columns_used(&self) -> Vec<Located<String>> {
        let mut used = Used(Vec::new());
        for column in &self.columns {
            used.0.push(column.clone());
        }
        if let Some(when) = &self.when {
            used.expression(&when.value.0, &when.place);
        }
        match &self.kind {
            BindingKind::Entry { dn, attributes, .. } => {
                used.template(dn);
                for attribute in attributes {
                    match &attribute.source {
                        AttributeSource::Templates(templates) => {
                            templates.iter().for_each(|template| used.template(template));
                        }
                        AttributeSource::Query(query) => used.template(query),
                    }
                }
            }
            BindingKind::Value { entry, value, .. } | BindingKind::Flag { entry, value, .. } => {
                used.entry(entry);
                used.template(value);
            }
            BindingKind::Query { entry, query, .. } => {
                used.entry(entry);
                used.template(query);
            }
            BindingKind::Message(message) => {
                let fields = [
                    &message.subject,
                    &message.topic,
                    &message.key,
                    &message.event_type,
                    &message.body,
                ];
                fields
                    .into_iter()
                    .flatten()
                    .chain(message.headers.iter().map(|(_, template)| template))
                    .for_each(|template| used.template(template));
            }
            BindingKind::Row { columns, .. } => {
                for (_, expression) in columns {
                    used.expression(&expression.value.0, &expression.place);
                }
            }
            BindingKind::Warn { message } => used.in_database(message),
            BindingKind::Notify { payload, .. } => payload.iter().for_each(|payload| used.in_database(payload)),
            BindingKind::Sql { arguments, .. } => arguments.iter().for_each(|argument| used.in_database(argument)),
        }
        used.0
    }
}

struct Used(Vec<Located<String>>);

impl Used {
    fn template(&mut self, template: &Located<super::model::Template>) {
        let environment = minijinja::Environment::empty();
        let text = &template.value.0;
        if let Ok(compiled) = environment.template_from_str(text) {
            self.variables(compiled.undeclared_variables(true), text, &template.place);
        }
    }

    fn expression(&mut self, text: &str, place: &Place) {
        let environment = minijinja::Environment::empty();
        if let Ok(compiled) = environment.compile_expression(text) {
            self.variables(compiled.undeclared_variables(true), text, place);
        }
    }

    fn variables(&mut self, variables: impl IntoIterator<Item = String>, text: &str, place: &Place) {
        let columns: BTreeSet<String> = variables
            .into_iter()
            .filter_map(|path| {
                let mut parts = path.split('.');
                let (row, column) = (parts.next()?, parts.next()?);
                // A method of the row (`row.items()`) is no column.
                let called = text.contains(&format!("{row}.{column}("));
                (["row", "old"].contains(&row) && !called).then(|| column.to_owned())
            })
            .collect();
        let located = columns.into_iter().map(|column| Located::new(column, place.clone()));
        self.0.extend(located);
    }

    fn entry(&mut self, entry: &EntryRef) {
        match entry {
            EntryRef::Dn(dn) => self.template(dn),
            EntryRef::Search { base, filter, .. } => {
                self.template(base);
                self.template(filter);
            }
            EntryRef::OfRow(of) => self.0.extend(of.key.iter().map(|(_, own)| own.clone())),
        }
    }

    fn in_database(&mut self, text: &Located<InDatabaseText>) {
        for part in &text.value.parts {
            if let InDatabasePart::Row(column) | InDatabasePart::Old(column) = part {
                self.0.push(Located::new(column.clone(), text.place.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_found_wherever_they_stand() {
        let text = "version: 1\nsinks:\n  d: { ldap: { url: ldap://h } }\n  f: { file: { path: f } }\nbindings:\n\
                    \x20 p: { table: s.t, to: d, when: 'row.active and old.gone', columns: [c], entry: { dn: 'uid={{ row.login | lower }}', object_classes: [x], \
                    attributes: { cn: '{{ row.a }} {% for x in row.list %}{{ x.y }}{% endfor %}', m: { query: 'select {{ row.id }}' } } } }\n\
                    \x20 m: { table: s.t, to: f, message: { body: '{{ row.doc.deep }} {{ row.items() }}' } }\n\
                    \x20 w: { table: s.t, warn: { message: '{{ row.\"Odd One\" }}' } }\n";
        let loaded =
            super::super::parse(std::path::Path::new("m.yaml"), text).unwrap_or_else(|error| panic!("{error}"));
        let used = |name: &str| {
            let mut names: Vec<String> = loaded
                .manifest
                .binding(name)
                .unwrap()
                .columns_used()
                .into_iter()
                .map(|column| column.value)
                .collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(used("p"), "a active c gone id list login");
        assert_eq!(used("m"), "doc");
        assert_eq!(used("w"), "Odd One");
    }
}
