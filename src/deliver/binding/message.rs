//! What a binding makes for those who take messages: the manifest's own text, or a CloudEvent that holds the row before and after.

use minijinja::{Value, context};

use super::{Bound, Compiled, Envelope, Template};
use crate::deliver::change::Change;
use crate::deliver::row::Row;
use crate::manifest::Event;
use crate::sink::{Fault, Message};

impl Bound {
    pub(super) fn message(
        &self,
        change: &Change,
        old: Option<&Row>,
        new: Option<&Row>,
        word: &str,
        envelope: &Envelope<'_>,
    ) -> Result<Message, Fault> {
        let Compiled::Message {
            address,
            key,
            event_type,
            body,
            headers,
        } = &self.kind
        else {
            return Err(Fault::never("not a message"));
        };
        let needs_values =
            address.is_some() || key.is_some() || event_type.is_some() || body.is_some() || !headers.is_empty();
        let value = if needs_values {
            self.message_context(old, new, word, envelope)
        } else {
            Value::from(())
        };
        let render = |template: &Option<Template>| {
            template
                .as_ref()
                .map(|template| self.render(template, &value))
                .transpose()
        };
        let event_type = render(event_type)?
            .unwrap_or_else(|| format!("{}.{}.{word}", self.names.name.schema, self.names.name.name));
        let key = render(key)?.unwrap_or_else(|| change.key.to_string());
        let is_cloud_event = body.is_none();
        let body = match render(body)? {
            Some(body) => body,
            None if event_type.is_empty() => {
                return Err(Fault::never(format!(
                    "binding `{}`: its `type` gives an empty text for this row, and an event without a type is no CloudEvent: have the template give a \
                     text for every row, or leave `type` out",
                    self.name
                )));
            }
            None => self.cloud_event(&event_type, &key, old, new, word, envelope),
        };
        Ok(Message {
            address: render(address)?.unwrap_or_default(),
            key,
            event_type,
            body,
            is_cloud_event,
            headers: headers
                .iter()
                .map(|(name, template)| Ok((name.clone(), self.render(template, &value)?)))
                .collect::<Result<_, Fault>>()?,
        })
    }

    pub(super) fn message_context(
        &self,
        old: Option<&Row>,
        new: Option<&Row>,
        word: &str,
        envelope: &Envelope<'_>,
    ) -> Value {
        context! {
            row => new.or(old).map(Row::value),
            old => old.map(Row::value),
            event => word,
            table => &self.names.name.name,
            schema => &self.names.name.schema,
            binding => &*self.name,
            id => envelope.id,
            time => envelope.time,
        }
    }

    /// The CloudEvent (structured mode) that stands for a change; rows as the server printed them. An empty subject is none.
    pub(super) fn cloud_event(
        &self,
        event_type: &str,
        key: &str,
        old: Option<&Row>,
        new: Option<&Row>,
        word: &str,
        envelope: &Envelope<'_>,
    ) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let row = |row: Option<&Row>| row.map_or("null", |row| &*row.json).to_owned();
        let subject = match key {
            "" => String::new(),
            key => format!(r#""subject":{},"#, text(key)),
        };
        format!(
            concat!(
                r#"{{"specversion":"1.0","id":{},"source":{},"type":{},"time":{},{}"#,
                r#""datacontenttype":"application/json","data":{{"binding":{},"schema":{},"table":{},"#,
                r#""event":{},"row":{},"old":{}}}}}"#
            ),
            text(envelope.id),
            text(envelope.source),
            text(event_type),
            text(envelope.time),
            subject,
            text(&self.name),
            text(&self.names.name.schema),
            text(&self.names.name.name),
            text(word),
            row(new),
            row(old),
        )
    }
}

/// The word by which messages call it.
pub(super) fn word_of(change: &Change, event: Event) -> &'static str {
    match (change.is_init, event) {
        (true, _) => "init",
        (_, Event::Insert) => "insert",
        (_, Event::Update) => "update",
        (_, Event::Delete) => "delete",
    }
}
