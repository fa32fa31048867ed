//! E-Maj's own tables in a database: `emaj_group_def`, or `emaj_relation` where that is not kept any more; `emaj_group`, `emaj_param`.
//!
//! Columns came and went from version to version: each row is read as JSON, and what is not there is not there. Only tables are read, in a
//! transaction that can write nothing; a view or a function could run anybody's code.

use postgres::GenericClient;
use serde_json::Value;

use super::rows::add;
use super::translate::written;
use super::{Configuration, Group, Kinds, Note, Relation, shown};
use crate::errors::{Error, Kind, Result};

/// Reads what E-Maj's tables say.
///
/// # Errors
/// [`Kind::NotInstalled`] when there are none; whatever the server answers.
pub fn read(client: &mut impl GenericClient) -> Result<Configuration> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute("set transaction read only; set local intervalstyle = postgres")?;
    let made = tables(&mut transaction)?;
    transaction.rollback()?;
    Ok(made)
}

fn tables(client: &mut impl GenericClient) -> Result<Configuration> {
    let mut made = Configuration::default();
    let is_ours = client.query_opt(
        "select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where n.nspname = 'emaj' and c.relname = 'emaj_install'",
        &[],
    )?;
    if is_ours.is_some() {
        return Err(Error::message(
            Kind::NotInstalled,
            "there is no E-Maj in this database: schema `emaj` is that of an installation of this program",
        )
        .hint("`emaj status` shows its groups; name the files that E-Maj exported, or connect to the database that has E-Maj"));
    }
    let defined = rows(client, "emaj_group_def", "grpdef_group")?;
    let related = rows(client, "emaj_relation", "rel_group")?;
    if defined.is_none() && related.is_none() {
        return Err(Error::message(
            Kind::NotInstalled,
            "there is no E-Maj in this database: schema `emaj` has neither a table `emaj_group_def` nor `emaj_relation` with a column `rel_group`",
        )
        .hint("connect to the database that has it, or name the files that it exported"));
    }
    for row in defined.unwrap_or_default() {
        let group = text(&row, "grpdef_group").unwrap_or_default();
        let mut relation = relation(&row, "grpdef_");
        relation.kind = kind(client, &relation)?;
        if relation.kind == Kinds::Unsaid {
            let about = format!("group `{}`, {}", shown(&group), shown(&written(&relation)));
            made.notes.push(Note::look_at(about, "it is not in this database"));
        }
        add(&mut made.groups, group, relation);
    }
    let defined: Vec<String> = made.groups.iter().map(|group| group.name.clone()).collect();
    for row in related.unwrap_or_default() {
        let group = text(&row, "rel_group").unwrap_or_default();
        // A range with an end is the past: the relation has left the group.
        let is_past = text(&row, "rel_time_range").is_some_and(|range| !range.ends_with(",)"));
        if is_past || defined.contains(&group) {
            continue;
        }
        let mut relation = relation(&row, "rel_");
        relation.kind = match text(&row, "rel_kind").as_deref() {
            Some("S") => Kinds::Sequence,
            _ => Kinds::Table,
        };
        add(&mut made.groups, group, relation);
    }
    for row in rows(client, "emaj_group", "group_name")?.unwrap_or_default() {
        describe(&mut made.groups, &row);
    }
    made.groups.sort_by(|a, b| a.name.cmp(&b.name));
    for group in &mut made.groups {
        group
            .relations
            .sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    }
    let parameters = rows(client, "emaj_param", "param_key")?;
    made.parameters = parameters.map(|all| {
        let mut all: Vec<_> = all.iter().map(parameter).collect();
        all.sort();
        all
    });
    made.notes.push(Note::look_at(
        "schema `emaj`",
        "E-Maj owns it: drop E-Maj before `emaj install`, or have another `schema` in the manifest",
    ));
    Ok(made)
}

/// The rows of one of E-Maj's tables; `None`: there is no such table, or it has no such column.
fn rows(client: &mut impl GenericClient, table: &str, column: &str) -> Result<Option<Vec<Value>>> {
    let is_there = client.query_opt(
        "select from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           join pg_catalog.pg_attribute a on a.attrelid = c.oid
          where n.nspname = 'emaj' and c.relname = $1 and c.relkind in ('r', 'p') and a.attname = $2 and not a.attisdropped",
        &[&table, &column],
    )?;
    if is_there.is_none() {
        return Ok(None);
    }
    // The name is one of this file.
    let statement = format!("select pg_catalog.to_jsonb(t)::text from emaj.{table} t");
    let texts = client.query(&statement, &[])?;
    let values = texts.iter().map(|row| {
        let text: String = row.get(0);
        serde_json::from_str(&text).map_err(|error| Error::new(Kind::Failed, error))
    });
    values.collect::<Result<Vec<Value>>>().map(Some)
}

fn text(row: &Value, key: &str) -> Option<String> {
    match row.get(key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        _ => None,
    }
}

fn relation(row: &Value, prefix: &str) -> Relation {
    let of = |key: &str| text(row, &format!("{prefix}{key}"));
    let triggers = row.get("rel_ignored_triggers").and_then(Value::as_array);
    Relation {
        schema: of("schema").unwrap_or_default(),
        name: of("tblseq").unwrap_or_default(),
        kind: Kinds::Unsaid,
        priority: row.get(format!("{prefix}priority")).and_then(Value::as_i64),
        tablespaces: ["log_dat_tsp", "log_idx_tsp"]
            .iter()
            .filter_map(|key| of(key))
            .collect(),
        ignored_triggers: triggers
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        has_log_name: of("log_schema_suffix").is_some() || of("emaj_names_prefix").is_some(),
    }
}

/// What the catalogue says the relation is; unsaid when it is not there.
fn kind(client: &mut impl GenericClient, relation: &Relation) -> Result<Kinds> {
    let row = client.query_opt(
        "select c.relkind = 'S' from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
          where n.nspname = $1 and c.relname = $2",
        &[&relation.schema, &relation.name],
    )?;
    Ok(match row.map(|row| row.get::<_, bool>(0)) {
        Some(true) => Kinds::Sequence,
        Some(false) => Kinds::Table,
        None => Kinds::Unsaid,
    })
}

/// Takes over what the row of a group says of it; one without relations is an empty group.
fn describe(groups: &mut Vec<Group>, row: &Value) {
    let name = text(row, "group_name").unwrap_or_default();
    let at = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
        groups.push(Group {
            name,
            ..Group::default()
        });
        groups.len() - 1
    });
    groups[at].rollback = row.get("group_is_rollbackable").and_then(Value::as_bool);
    groups[at].comment = text(row, "group_comment");
    groups[at].is_idle =
        row.get("group_is_logging") == Some(&Value::Bool(false)) || text(row, "group_state").as_deref() == Some("IDLE");
}

/// One parameter: its value stands in the column of its type.
fn parameter(row: &Value) -> (String, Option<String>) {
    let columns = ["text", "numeric", "int", "boolean", "interval"];
    let value = columns
        .iter()
        .find_map(|kind| text(row, &format!("param_value_{kind}")));
    (text(row, "param_key").unwrap_or_default(), value)
}
