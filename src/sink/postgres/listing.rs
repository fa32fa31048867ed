//! What is there and what would be done: the probe, the preview, and the list of rows for `emaj init --prune`.

use std::sync::Arc;

use postgres::Client;
use postgres::fallible_iterator::FallibleIterator as _;

use super::fold::{Item, Row, key_text};
use super::shape::Shape;
use super::text::{literal, members};
use serde_json::json;

use crate::manifest::{Binding, BindingKind};
use crate::render::Renderer;
use crate::sink::fault::of_postgres;
use crate::sink::{Action, Delivery, Existing, Fault, Finding, RowChange};

/// Looks at the login, the server, and the place of the position.
pub(super) fn probe(client: &mut Client) -> Result<Vec<Finding>, Fault> {
    let row = client
        .query_one(
            "select current_user::text, current_setting('server_version'), current_database()::text,
                    current_setting('transaction_read_only') = 'on',
                    has_database_privilege(current_database(), 'temporary')",
            &[],
        )
        .map_err(|error| of_postgres(&error))?;
    let (role, version, database): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let position = super::received::state(client)?;
    Ok(vec![
        Finding::fine(format!("log in to `{database}` as `{role}`, PostgreSQL {version}")),
        Finding::of(
            "write",
            row.get::<_, bool>(3)
                .then(|| "the server is read-only: a standby, or `default_transaction_read_only`".to_owned()),
        ),
        Finding::of(
            "note the position in `emaj_received.position`",
            position
                .to_run
                .map(|sql| format!("this role may not: let the owner of the database run `{sql}`")),
        ),
        Finding::of(
            "make temporary tables",
            (!row.get::<_, bool>(4)).then(|| {
                let (role, database) = (crate::names::quote_ident(&role), crate::names::quote_ident(&database));
                format!("run `grant temporary on database {database} to {role}`")
            }),
        ),
    ])
}

/// Says in SQL what a delivery would do.
pub(super) fn preview(item: &Item<'_>, shape: &Shape, renderer: &Renderer) -> Result<String, Fault> {
    let change = item.change;
    let wanted = item.upsert.iter().chain(&item.delete).flat_map(|row| &row.members);
    let names = wanted.map(|(name, _)| name.as_ref());
    if let Some(fault) = shape.complaint(&change.table, &change.key, names) {
        return Err(fault);
    }
    let pairs = |row: &Row<'_>, keys_only: bool| {
        row.members
            .iter()
            .filter(|(name, _)| !keys_only || change.key.iter().any(|column| column == name))
            .filter_map(|(name, value)| Some((name, value, shape.column(name).filter(|column| !column.generated)?)))
            .map(|(name, value, column)| {
                let text = literal(value.get(), &column.kind).map_err(|_| Fault::never("a value is no JSON"))?;
                Ok((name.to_string(), text.map(|text| text.into_owned())))
            })
            .collect::<Result<Vec<(String, Option<String>)>, Fault>>()
    };
    let delete = item.delete.as_ref().map(|row| pairs(row, true)).transpose()?;
    let upsert = item.upsert.as_ref().map(|row| pairs(row, false)).transpose()?;
    let is_changed = |name: &&String| {
        !change.key.contains(*name) && !shape.column(name).is_some_and(|column| column.identity_always)
    };
    let changed: Vec<&String> = upsert
        .iter()
        .flatten()
        .map(|(name, _)| name)
        .filter(is_changed)
        .collect();
    let moved = !upsert
        .iter()
        .flatten()
        .any(|(name, _)| shape.column(name).is_some_and(|column| column.identity_always));
    let values = json!({
        "table": change.table, "key": change.key, "delete": delete, "upsert": upsert, "changed": changed, "moved": moved,
    });
    renderer.render("row/preview", values).map_err(Fault::down)
}

/// Returns the key of the row that a delivery leaves there: a JSON array of texts.
pub(super) fn identity(delivery: &Delivery) -> Option<String> {
    let Action::Row(change) = &delivery.action else {
        return None;
    };
    identity_of(change.upsert.as_deref()?, &change.key)
}

fn identity_of(json: &str, key: &[String]) -> Option<String> {
    let text = key_text(&members(json).ok()?, key).ok()?;
    let values: Vec<&serde_json::value::RawValue> = serde_json::from_str(&text).ok()?;
    let values = values.iter().map(|value| normal(value.get()));
    serde_json::to_string(&values.collect::<Vec<_>>()).ok()
}

/// Writes a value so that two databases agree about it: `1.50` is `1.5`, an instant is in UTC.
fn normal(raw: &str) -> String {
    match serde_json::from_str::<String>(raw) {
        Ok(text) => match text.parse::<jiff::Timestamp>() {
            Ok(instant) => instant.to_string(),
            Err(_) => text,
        },
        Err(_) if raw.contains('.') && raw.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-')) => {
            raw.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Err(_) => raw.to_owned(),
    }
}

/// Lists every row of the binding's table there.
pub(super) fn existing(
    client: &mut Client,
    renderer: &Renderer,
    binding: &Binding,
    visit: &mut dyn FnMut(Existing),
) -> Result<(), Fault> {
    let BindingKind::Row { table, key, .. } = &binding.kind else {
        return Err(Fault::never("a database lists rows only"));
    };
    let table = table.as_ref().map_or(&binding.table.value, |table| &table.value);
    let shape = Shape::read(client, table)?;
    let key: Vec<String> = match key.as_slice() {
        [] => shape.primary_key.clone(),
        named => named.iter().map(|name| name.value.clone()).collect(),
    };
    if key.is_empty() {
        return Err(Fault::down(format!(
            "`{table}` of the other database has no primary key: name one in the binding's `row.key`"
        )));
    }
    if let Some(fault) = shape.complaint(table, &key, key.iter().map(String::as_str)) {
        return Err(fault);
    }
    let sql = renderer
        .render("row/keys", json!({ "table": table, "key": key }))
        .map_err(Fault::down)?;
    let failed = |error: postgres::Error| of_postgres(&error);
    let mut rows = client
        .query_raw(&sql, std::iter::empty::<&(dyn postgres::types::ToSql + Sync)>())
        .map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let object: Arc<str> = row.get::<_, String>(0).into();
        let identity = identity_of(&object, &key).ok_or_else(|| Fault::down("a key that cannot be read back"))?;
        visit(Existing {
            identity,
            remove: Action::Row(RowChange {
                table: table.clone(),
                key: key.clone(),
                delete: Some(object),
                upsert: None,
            }),
        });
    }
    Ok(())
}
