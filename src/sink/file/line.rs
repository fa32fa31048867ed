//! One delivery, one line: always one JSON value, whatever is in it.
//!
//! Pure. A line break inside JSON can only stand between its tokens (inside a string it is `\n`), so a blank may take its place.

use serde::de::IgnoredAny;

use crate::manifest::Event;
use crate::sink::{Action, Delivery, Fault};

/// Adds the line of a delivery, with its line break.
pub(super) fn add(out: &mut Vec<u8>, delivery: &Delivery) -> Result<(), Fault> {
    match &delivery.action {
        Action::Message(message) => {
            let body = &message.body;
            if message.is_cloud_event || serde_json::from_str::<IgnoredAny>(body).is_ok() {
                json(out, body.trim());
            } else {
                string(out, body);
            }
        }
        Action::Row(change) => {
            out.extend_from_slice(b"{\"id\":");
            string(out, &delivery.id);
            for (name, text) in [
                ("binding", &*delivery.binding),
                ("event", event(delivery.event)),
                ("time", &delivery.time),
                ("table", &change.table.to_string()),
            ] {
                member(out, name);
                string(out, text);
            }
            member(out, "row");
            json(out, change.upsert.as_deref().unwrap_or("null"));
            member(out, "old");
            json(out, change.delete.as_deref().unwrap_or("null"));
            out.push(b'}');
        }
        _ => {
            return Err(Fault::never(
                "a file takes messages and rows; this delivery is of another kind",
            ));
        }
    }
    out.push(b'\n');
    Ok(())
}

fn event(event: Option<Event>) -> &'static str {
    match event {
        None => "init",
        Some(Event::Insert) => "insert",
        Some(Event::Update) => "update",
        Some(Event::Delete) => "delete",
    }
}

fn member(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn json(out: &mut Vec<u8>, text: &str) {
    out.extend(
        text.bytes()
            .map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }),
    );
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::names::QualifiedName;
    use crate::sink::{Message, Offset, RowChange};

    fn line(action: Action) -> String {
        let delivery = Delivery {
            id: "7/1".into(),
            binding: "b".into(),
            offset: Offset("1".into()),
            time: "2026-01-02T03:04:05.000006Z".into(),
            replay: None,
            retried: false,
            event: Some(Event::Update),
            action,
        };
        let mut out = Vec::new();
        add(&mut out, &delivery).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn message(body: &str) -> String {
        line(Action::Message(Message {
            address: String::new(),
            key: "k".into(),
            event_type: "t".into(),
            body: body.into(),
            is_cloud_event: false,
            headers: Vec::new(),
        }))
    }

    #[test]
    fn every_body_is_one_line_of_json() {
        for (body, expected) in [
            (r#"{"a":1.10}"#, "{\"a\":1.10}\n"),
            ("{\n  \"a\": \"x\\ny\"\r\n}\n", "{   \"a\": \"x\\ny\"  }\n"),
            ("two\nlines \"quoted\"", "\"two\\nlines \\\"quoted\\\"\"\n"),
            ("plain", "\"plain\"\n"),
            ("", "\"\"\n"),
            ("12", "12\n"),
        ] {
            assert_eq!(message(body), expected);
        }
    }

    #[test]
    fn a_row_says_what_it_is() {
        let row: Arc<str> = "{\"id\":1,\n \"n\":1.50}".into();
        let text = line(Action::Row(RowChange {
            table: QualifiedName::new("public", "Odd"),
            key: vec!["id".into()],
            delete: None,
            taken: false,
            heir: None,
            upsert: Some(row),
        }));
        assert_eq!(
            text,
            "{\"id\":\"7/1\",\"binding\":\"b\",\"event\":\"update\",\"time\":\"2026-01-02T03:04:05.000006Z\",\
             \"table\":\"public.\\\"Odd\\\"\",\"row\":{\"id\":1,  \"n\":1.50},\"old\":null}\n"
        );
    }
}
