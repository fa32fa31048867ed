//! Sinks and bindings out of a raw manifest without errors; the other half of `build`.

use super::build::{database, entries, flag, ident, list, number, secret, text};
use super::delivery::*;
use super::in_database::InDatabaseText;
use super::merge::{Item, Named};
use super::model::{Expression, Limit, Template};
use super::source::Located;
use super::text::{SecretText, Text};
use crate::names::QualifiedName;

pub(super) fn sink(sink: &Named<'_>) -> Option<Sink> {
    let kind = |word: &str| sink.item.get(word);
    let kind = if let Some(item) = kind("ldap") {
        SinkKind::Ldap(LdapSink {
            url: text(item, "url")?,
            bind_dn: text(item, "bind_dn"),
            password: secret(item, "password"),
            sasl_external: item.get("sasl").is_some(),
            starttls: flag(item, "starttls", false),
            ca_file: text(item, "ca_file"),
            cert_file: text(item, "cert_file"),
            key_file: text(item, "key_file"),
            connections: number(item, "connections").unwrap_or(4),
            timeout: number(item, "timeout").unwrap_or(30),
            page_size: number(item, "page_size").unwrap_or(500),
        })
    } else if let Some(item) = kind("postgres") {
        SinkKind::Postgres(database(item)?)
    } else if let Some(item) = kind("webhook") {
        let header = |header: &Named<'_>| {
            Some((
                header.name.value.clone(),
                SecretText::parse(header.item.text()?, header.item.place()).ok()?,
            ))
        };
        SinkKind::Webhook(WebhookSink {
            url: text(item, "url")?,
            secret: secret(item, "secret"),
            headers: entries(item.get("headers")).iter().map(header).collect::<Option<_>>()?,
            ca_file: text(item, "ca_file"),
            batch: number(item, "batch").unwrap_or(1),
            connections: number(item, "connections").unwrap_or(4),
            timeout: number(item, "timeout").unwrap_or(30),
        })
    } else if let Some(item) = kind("nats") {
        SinkKind::Nats(NatsSink {
            url: text(item, "url")?,
            user: text(item, "user"),
            password: secret(item, "password"),
            token: secret(item, "token"),
            credentials_file: text(item, "credentials_file"),
            ca_file: text(item, "ca_file"),
            stream: text(item, "stream"),
            timeout: number(item, "timeout").unwrap_or(30),
        })
    } else if let Some(item) = kind("kafka") {
        let broker = |item: Item<'_>| Text::parse(item.text()?, item.place()).ok();
        SinkKind::Kafka(KafkaSink {
            brokers: list(item.get("brokers"), broker)?
                .into_iter()
                .map(|broker| broker.value)
                .collect(),
            user: text(item, "user"),
            password: secret(item, "password"),
            tls: flag(item, "tls", false),
            ca_file: text(item, "ca_file"),
            client_id: text(item, "client_id"),
            timeout: number(item, "timeout").unwrap_or(30),
        })
    } else {
        let item = kind("file")?;
        SinkKind::File(FileSink {
            path: text(item, "path")?,
            rotate_mib: number(item, "rotate_mib"),
            keep: number(item, "keep").unwrap_or(10),
        })
    };
    Some(Sink {
        name: sink.name.clone(),
        max_lag: sink.item.text_at("max_lag").map(|text| text.map(str::to_owned)),
        kind,
    })
}

pub(super) fn binding(binding: &Named<'_>) -> Option<Binding> {
    let item = binding.item;
    let event = |item: Item<'_>| match item.text()? {
        "insert" => Some(Event::Insert),
        "update" => Some(Event::Update),
        "delete" => Some(Event::Delete),
        _ => None,
    };
    let events = match item.get("events") {
        Some(events) => list(Some(events), event)?
            .into_iter()
            .map(|event| event.value)
            .collect(),
        None => vec![Event::Insert, Event::Update, Event::Delete],
    };
    let max_deletes = match item.get("max_deletes") {
        Some(limit) => Some(match limit.integer() {
            Some(rows) => Limit::Rows(rows.try_into().ok()?),
            None => Limit::parse(limit.text()?).ok()?,
        }),
        None => None,
    };
    Some(Binding {
        name: binding.name.clone(),
        table: qualified(item, "table")?,
        to: item.text_at("to").map(|to| to.map(str::to_owned)),
        when: item
            .text_at("when")
            .map(|when| when.map(|when| Expression(when.to_owned()))),
        events,
        columns: list(item.get("columns"), ident)?,
        max_deletes,
        kind: kind(item)?,
    })
}

fn kind(binding: Item<'_>) -> Option<BindingKind> {
    let get = |word: &str| binding.get(word);
    if let Some(item) = get("entry") {
        return Some(BindingKind::Entry {
            dn: template(item, "dn")?,
            object_classes: list(item.get("object_classes"), |class| class.text().map(str::to_owned))?,
            attributes: entries(item.get("attributes"))
                .iter()
                .map(attribute)
                .collect::<Option<_>>()?,
        });
    }
    if let Some(item) = get("value") {
        return Some(BindingKind::Value {
            entry: entry_ref(item)?,
            attribute: attribute_name(item)?,
            value: template(item, "value")?,
        });
    }
    if let Some(item) = get("flag") {
        return Some(BindingKind::Flag {
            entry: entry_ref(item)?,
            attribute: attribute_name(item)?,
            value: template(item, "value")?,
        });
    }
    if let Some(item) = get("query") {
        return Some(BindingKind::Query {
            entry: entry_ref(item)?,
            attribute: attribute_name(item)?,
            query: template(item, "query")?,
            mode: mode(item)?,
        });
    }
    if let Some(item) = get("message") {
        let header = |header: &Named<'_>| Some((header.name.value.clone(), template_of(header.item)?));
        return Some(BindingKind::Message(Message {
            subject: template(item, "subject"),
            topic: template(item, "topic"),
            key: template(item, "key"),
            event_type: template(item, "type"),
            body: template(item, "body"),
            headers: entries(item.get("headers")).iter().map(header).collect::<Option<_>>()?,
        }));
    }
    if let Some(item) = get("row") {
        let column = |column: &Named<'_>| {
            let name = Located::new(crate::names::parse_ident(&column.name).ok()?, column.name.place.clone());
            Some((
                name,
                Located::new(Expression(column.item.text()?.to_owned()), column.item.place()),
            ))
        };
        return Some(BindingKind::Row {
            table: qualified(item, "table"),
            key: list(item.get("key"), ident)?,
            columns: entries(item.get("columns")).iter().map(column).collect::<Option<_>>()?,
        });
    }
    if let Some(item) = get("warn") {
        return Some(BindingKind::Warn {
            message: in_database(item.get("message")?)?,
        });
    }
    if let Some(item) = get("notify") {
        let payload = match item.get("payload") {
            Some(payload) => Some(in_database(payload)?),
            None => None,
        };
        return Some(BindingKind::Notify {
            channel: item.text_at("channel")?.map(str::to_owned),
            payload,
        });
    }
    let item = get("sql")?;
    let arguments = item.get("arguments").map(|list| list.items()).unwrap_or_default();
    Some(BindingKind::Sql {
        function: qualified(item, "function")?,
        arguments: arguments.into_iter().map(in_database).collect::<Option<_>>()?,
    })
}

fn attribute(entry: &Named<'_>) -> Option<Attribute> {
    let item = entry.item;
    let templates = |item: Item<'_>| match item.text() {
        Some(_) => Some(vec![template_of(item)?]),
        None => item.items().into_iter().map(template_of).collect::<Option<Vec<_>>>(),
    };
    let source = match (item.get("template"), item.get("query")) {
        (Some(item), _) => AttributeSource::Templates(templates(item)?),
        (None, Some(item)) => AttributeSource::Query(template_of(item)?),
        (None, None) => AttributeSource::Templates(templates(item)?),
    };
    Some(Attribute {
        name: entry.name.clone(),
        source,
        mode: mode(item)?,
    })
}

fn mode(item: Item<'_>) -> Option<Mode> {
    match item.get("mode").map(|mode| mode.text()) {
        None | Some(Some("force")) => Some(Mode::Force),
        Some(Some("keep")) => Some(Mode::Keep),
        Some(Some("merge")) => Some(Mode::Merge),
        _ => None,
    }
}

fn entry_ref(item: Item<'_>) -> Option<EntryRef> {
    if let Some(item) = item.get("entry_of") {
        let column = |column: &Named<'_>| {
            let theirs = crate::names::parse_ident(&column.name).ok()?;
            let own = Located::new(ident(column.item)?, column.item.place());
            Some((Located::new(theirs, column.name.place.clone()), own))
        };
        return Some(EntryRef::OfRow(EntryOf {
            binding: item.text_at("binding")?.map(str::to_owned),
            key: entries(item.get("key")).iter().map(column).collect::<Option<_>>()?,
        }));
    }
    let Some(search) = item.get("search") else {
        return template(item, "dn").map(EntryRef::Dn);
    };
    let scope = match search.get("scope").map(|scope| scope.text()) {
        None | Some(Some("sub")) => Scope::Sub,
        Some(Some("one")) => Scope::One,
        Some(Some("base")) => Scope::Base,
        _ => return None,
    };
    Some(EntryRef::Search {
        base: template(search, "base")?,
        filter: template(search, "filter")?,
        scope,
    })
}

fn attribute_name(item: Item<'_>) -> Option<Located<String>> {
    item.text_at("attribute").map(|name| name.map(str::to_owned))
}

fn qualified(item: Item<'_>, key: &str) -> Option<Located<QualifiedName>> {
    let text = item.text_at(key)?;
    Some(Located::new(QualifiedName::parse(text.value).ok()?, text.place))
}

fn template(item: Item<'_>, key: &str) -> Option<Located<Template>> {
    item.get(key).and_then(template_of)
}

fn template_of(item: Item<'_>) -> Option<Located<Template>> {
    Some(Located::new(Template(item.text()?.to_owned()), item.place()))
}

fn in_database(item: Item<'_>) -> Option<Located<InDatabaseText>> {
    Some(Located::new(InDatabaseText::parse(item.text()?).ok()?, item.place()))
}
