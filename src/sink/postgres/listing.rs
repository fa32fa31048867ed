//! What is there and what would be done: the probe, the preview, and the list of rows for `emaj init --prune`.

use std::sync::Arc;

use postgres::Client;
use postgres::fallible_iterator::FallibleIterator as _;

use super::fold::{Item, Row, key_text};
use super::plan::described;
use super::shape::Shape;
use super::spelling::{in_halves, keys};
use super::text::{literal, members};
use super::write::Tables;
use serde_json::json;

use crate::manifest::{Binding, BindingKind};
use crate::names::QualifiedName;
use crate::render::Renderer;
use crate::sink::fault::of_postgres_values;
use crate::sink::{Action, Delivery, Existing, Fault, Finding, RowChange};

/// Looks at the login, the server, and the place of the position.
pub(super) fn probe(client: &mut Client) -> Result<Vec<Finding>, Fault> {
    let row = client.query_one(
        "select current_user::text, current_setting('server_version'), current_database()::text,
                current_setting('transaction_read_only') = 'on',
                has_database_privilege(current_database(), 'temporary')",
        &[],
    )?;
    let (role, version, database): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let position = super::received::state(client)?;
    Ok(vec![
        Finding::fine(format!("log in to `{database}` as `{role}`, PostgreSQL {version}")),
        Finding::of(
            "write",
            row.get::<_, bool>(3)
                .then(|| "the server is read-only: a standby, or `default_transaction_read_only`".to_owned()),
        ),
        Finding::allowed(
            "note the position in `emaj_received.position`",
            position
                .to_run
                .map(|sql| format!("this role may not: let the owner of the database run `{sql}`")),
        ),
        Finding::allowed(
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
                let text = literal(value.get(), &column.kind)?;
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

/// Returns the keys of the rows that deliveries leave there, as [`existing`] lists them: that of the row which is there, where one has this key by its
/// column's type, however it is written.
///
/// # Errors
/// The server cannot be asked, or the rows cannot be found by this key.
pub(super) fn identities(
    client: &mut Client,
    renderer: &Renderer,
    tables: &mut Tables,
    batch: &[Delivery],
) -> Result<Vec<Option<String>>, Fault> {
    let items = batch
        .iter()
        .enumerate()
        .filter_map(|(at, delivery)| Item::read(at, delivery).ok());
    let items: Vec<Item<'_>> = items.collect();
    let mut identities = vec![None; batch.len()];
    let mut rest: Vec<(&RowChange, usize, &Row<'_>)> = Vec::with_capacity(items.len());
    for item in &items {
        if let Some(row) = &item.upsert {
            identities[item.at] = Some(row.key.to_string());
            rest.push((item.change, item.at, row));
        }
    }
    while let Some((change, ..)) = rest.first().copied() {
        let (table, key) = (&change.table, &change.key);
        let is_of_it = |(other, ..): &(&RowChange, usize, &Row<'_>)| other.table == *table && other.key == *key;
        let (rows, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_of_it);
        rest = others;
        let shape = tables.shape(client, table)?;
        if let Some(fault) = shape.complaint(table, key, key.iter().map(String::as_str)) {
            return Err(fault);
        }
        let columns = described(shape, key.iter().map(String::as_str));
        let sql = renderer
            .render("row/there", json!({ "table": shape.named(table), "columns": columns }))
            .map_err(Fault::down)?;
        let mut found = Vec::with_capacity(rows.len());
        // (What does not fit the key's type is not there.)
        in_halves(
            &rows,
            &mut |rows| {
                let keys = keys(rows.iter().map(|(_, at, row)| (*at, *row)), key);
                client.query(&sql, &[&keys]).map_err(of_postgres_values)
            },
            &mut |_, there| found.extend(there),
        )?;
        for row in found {
            let at = usize::try_from(row.get::<_, i32>(0)).ok();
            if let Some(identity) = at.and_then(|at| identities.get_mut(at)) {
                *identity = Some(identity_of(&row.get::<_, String>(1), key)?);
            }
        }
    }
    Ok(identities)
}

/// Returns the key of a row that is listed there.
fn identity_of(json: &str, key: &[String]) -> Result<String, Fault> {
    let members = members(json).map_err(|_| Fault::down("a key that cannot be read back"))?;
    Ok(key_text(&members, key)?.to_string())
}

/// Returns the table there that a binding makes rows of.
pub(super) fn table_of(binding: &Binding) -> Option<&QualifiedName> {
    let BindingKind::Row { table, .. } = &binding.kind else {
        return None;
    };
    Some(table.as_ref().map_or(&binding.table.value, |table| &table.value))
}

/// Lists every row of the binding's table there.
pub(super) fn existing(
    client: &mut Client,
    renderer: &Renderer,
    tables: &Tables,
    binding: &Binding,
    visit: &mut dyn FnMut(Existing),
) -> Result<(), Fault> {
    let (BindingKind::Row { key, .. }, Some(table)) = (&binding.kind, table_of(binding)) else {
        return Err(Fault::never("a database lists rows only"));
    };
    let shape = tables.read(client, table)?;
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
        .render("row/keys", json!({ "table": shape.named(table), "key": key }))
        .map_err(Fault::down)?;
    let mut rows = client.query_raw(&sql, std::iter::empty::<&(dyn postgres::types::ToSql + Sync)>())?;
    while let Some(row) = rows.next()? {
        let object: Arc<str> = row.get::<_, String>(0).into();
        let identity = identity_of(&object, &key)?;
        visit(Existing {
            identity,
            remove: Action::Row(RowChange {
                table: table.clone(),
                key: key.clone(),
                delete: Some(object),
                taken: false,
                heir: None,
                upsert: None,
            }),
        });
    }
    Ok(())
}
