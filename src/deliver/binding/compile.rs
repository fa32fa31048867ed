//! Compiles a binding of the manifest: its templates are read once, each with the syntax that values in it are escaped for.

use minijinja::Environment;

use super::columns::{column, column_of, columns_of};
use super::form::Form;
use super::{Bound, Compiled, Given, Source, Table, Target, Template};
use crate::deliver::escape::{Syntax, environment};
use crate::deliver::nulls::JSON;
use crate::deliver::operators::respelled;
use crate::errors::{Error, Kind, Result};
use crate::journal::Position;
use crate::manifest::{self, AttributeSource, BindingKind, EntryRef, Expression, Located, Place, Words};

impl Bound {
    /// Compiles a binding for a sink. In-database actions are none of this module's.
    ///
    /// # Errors
    /// A template that does not compile; the manifest has checked them.
    pub(in crate::deliver) fn compile(
        binding: &manifest::Binding,
        table: usize,
        names: Table,
        since: Position,
        keeps_rows: bool,
    ) -> Result<Self> {
        let mut engine = Engine {
            environment: environment(),
            number: 0,
        };
        let when = binding.when.as_ref().map(|when| engine.condition(when)).transpose()?;
        let kind = match &binding.kind {
            BindingKind::Entry {
                dn,
                object_classes,
                attributes,
            } => Compiled::Entry {
                columns: columns_of(&dn.value.0),
                form: Form::of(&dn.value.0),
                dn: engine.add(Syntax::Dn, dn)?,
                classes: object_classes.iter().map(|class| class.value.clone()).collect(),
                attributes: attributes
                    .iter()
                    .map(|attribute| {
                        let source = match &attribute.source {
                            AttributeSource::Templates(templates) => Source::Templates(
                                templates
                                    .iter()
                                    .map(|template| engine.add(Syntax::Attribute, template))
                                    .collect::<Result<_>>()?,
                            ),
                            AttributeSource::Query(query) => Source::Query(engine.add(Syntax::Query, query)?),
                        };
                        Ok((attribute.name.value.clone(), attribute.mode, source))
                    })
                    .collect::<Result<_>>()?,
            },
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
                let templates = || naming(entry).into_iter().chain([value]);
                Compiled::Value {
                    forms: templates().map(|template| Form::of(&template.value.0)).collect(),
                    columns: templates()
                        .filter_map(|template| column_of(&template.value.0))
                        .chain(columns_naming(entry))
                        .collect(),
                    target: engine.target(entry)?,
                    attribute: attribute.value.clone(),
                    value: engine.add(Syntax::Value, value)?,
                }
            }
            BindingKind::Query {
                entry,
                attribute,
                query,
                mode,
            } => Compiled::Query {
                target: engine.target(entry)?,
                attribute: attribute.value.clone(),
                mode: *mode,
                query: engine.add(Syntax::Query, query)?,
                forms: naming(entry).into_iter().map(|name| Form::of(&name.value.0)).collect(),
            },
            BindingKind::Message(message) => {
                let mut add = |syntax, template: &Option<Located<manifest::Template>>| {
                    template
                        .as_ref()
                        .map(|template| engine.add(syntax, template))
                        .transpose()
                };
                let address = match (&message.subject, &message.topic) {
                    (Some(_), _) => add(Syntax::Subject, &message.subject)?,
                    (None, topic) => add(Syntax::Text, topic)?,
                };
                Compiled::Message {
                    address,
                    key: add(Syntax::Text, &message.key)?,
                    event_type: add(Syntax::Text, &message.event_type)?,
                    body: add(Syntax::Text, &message.body)?,
                    headers: message
                        .headers
                        .iter()
                        .map(|(name, template)| Ok((name.clone(), engine.add(Syntax::Text, template)?)))
                        .collect::<Result<_>>()?,
                }
            }
            BindingKind::Row { table, key, columns } => {
                let key = match key.as_slice() {
                    [] => names.key.clone(),
                    key => key.iter().map(|column| column.value.clone()).collect(),
                };
                let columns: Vec<(String, Given)> = columns
                    .iter()
                    .map(|(name, expression)| Ok((name.value.clone(), engine.given(expression)?)))
                    .collect::<Result<_>>()?;
                Compiled::Row {
                    table: table
                        .as_ref()
                        .map_or_else(|| names.name.clone(), |table| table.value.clone()),
                    key_sources: key_sources(&key, &columns),
                    key,
                    columns,
                }
            }
            BindingKind::Warn { .. } | BindingKind::Notify { .. } | BindingKind::Sql { .. } => {
                return Err(Error::message(
                    Kind::Failed,
                    format!("binding `{}` is done inside the database", binding.name.value),
                ));
            }
        };
        Ok(Bound {
            keeps_rows,
            shares_message_keys: false,
            is_named: false,
            name: binding.name.value.as_str().into(),
            manifest: binding.clone(),
            told: binding.fingerprint(),
            since,
            table,
            names,
            templates: engine.environment,
            when,
            kind,
        })
    }
}

struct Engine {
    environment: Environment<'static>,
    number: usize,
}

impl Engine {
    fn add(&mut self, syntax: Syntax, template: &Located<manifest::Template>) -> Result<Template> {
        self.add_source(syntax, template.value.0.clone(), &template.place)
    }

    /// A template that makes something of a true expression, and nothing of a false one.
    fn condition(&mut self, expression: &Located<Expression>) -> Result<Template> {
        let source = format!("{{% if ({}) %}}t{{% endif %}}", expression.value.0);
        self.add_source(Syntax::Text, source, &expression.place)
    }

    /// What an expression gives: a column that it only names goes as it is, a number with all its digits.
    fn given(&mut self, expression: &Located<Expression>) -> Result<Given> {
        let template = self.json(expression)?;
        Ok(match column(Words::of_expression(&expression.value.0)) {
            Some(column) => Given::Column(column, template),
            None => Given::Made(template),
        })
    }

    /// A template that makes JSON of an expression.
    fn json(&mut self, expression: &Located<Expression>) -> Result<Template> {
        let source = format!("{{{{ ({}) | {JSON} }}}}", expression.value.0);
        self.add_source(Syntax::Json, source, &expression.place)
    }

    fn add_source(&mut self, syntax: Syntax, source: String, place: &Place) -> Result<Template> {
        self.number += 1;
        let name = syntax.name(self.number);
        let failed = |error: minijinja::Error| Error::new(Kind::Manifest, error);
        self.environment
            .add_template_owned(name.clone(), respelled(&source))
            .map_err(failed)?;
        Ok(Template {
            name,
            place: place.clone(),
        })
    }

    fn target(&mut self, entry: &EntryRef) -> Result<Target> {
        Ok(match entry {
            EntryRef::Dn(dn) => Target::Dn(self.add(Syntax::Dn, dn)?),
            EntryRef::Search { base, filter, scope } => Target::Search {
                base: self.add(Syntax::Dn, base)?,
                filter: self.add(Syntax::Filter, filter)?,
                scope: *scope,
            },
            EntryRef::OfRow(of) => Target::OfRow {
                binding: of.binding.value.clone(),
                key: (of.key.iter())
                    .map(|(theirs, own)| (theirs.value.clone(), own.value.clone()))
                    .collect(),
            },
        })
    }
}

/// Returns the templates that say which entry is meant.
fn naming(entry: &EntryRef) -> Vec<&Located<manifest::Template>> {
    match entry {
        EntryRef::Dn(dn) => vec![dn],
        EntryRef::Search { base, filter, .. } => vec![base, filter],
        EntryRef::OfRow(_) => Vec::new(),
    }
}

/// Returns the columns that say which entry is meant as they are.
fn columns_naming(entry: &EntryRef) -> Vec<String> {
    match entry {
        EntryRef::OfRow(of) => of.key.iter().map(|(_, own)| own.value.clone()).collect(),
        EntryRef::Dn(_) | EntryRef::Search { .. } => Vec::new(),
    }
}

/// Returns the columns that are columns of another table's key as they are; without `columns` all of it are.
fn key_sources(key: &[String], columns: &[(String, Given)]) -> Vec<String> {
    if columns.is_empty() {
        return key.to_vec();
    }
    let of_key = columns.iter().filter(|(name, _)| key.contains(name));
    let source = |(_, given): &(String, Given)| match given {
        Given::Column(column, _) => Some(column.clone()),
        Given::Made(_) => None,
    };
    of_key.filter_map(source).collect()
}
