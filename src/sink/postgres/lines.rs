//! Rows as text: as lines of `copy`, and as JSON where they are to be moved.

use serde_json::value::RawValue;

use super::fold::{Move, Row};
use super::plan::Upsert;
use super::text::{Kind, field, literal};
use crate::sink::Fault;

/// Writes the rows as lines of `copy`, numbered by their places in the batch if wanted.
pub(super) fn lines(out: &mut Vec<u8>, plan: &Upsert, rows: &[(usize, &Row<'_>)], numbered: bool) -> Result<(), Fault> {
    out.clear();
    for (at, row) in rows {
        if numbered {
            out.extend_from_slice(at.to_string().as_bytes());
            out.push(b'\t');
        }
        fields(out, &plan.columns, row)?;
    }
    Ok(())
}

/// Writes the columns of a row, to the end of its line.
fn fields(out: &mut Vec<u8>, columns: &[(String, Option<Kind>)], row: &Row<'_>) -> Result<(), Fault> {
    let mut is_first = true;
    for ((_, value), (_, kind)) in row.members.iter().zip(columns) {
        let Some(kind) = kind else { continue };
        if !is_first {
            out.push(b'\t');
        }
        is_first = false;
        field(out, value, kind).map_err(|fault| row.softened(fault))?;
    }
    out.push(b'\n');
    Ok(())
}

/// Returns a value as the JSON of which `json_to_recordset` reads what [`field`] would write: the text that the type reads, but `json` as it is.
fn as_json(value: &RawValue, kind: &Kind) -> Result<String, Fault> {
    Ok(match (kind, literal(value.get(), kind)?) {
        (_, None) => "null".to_owned(),
        (Kind::Json, Some(json)) => json.into_owned(),
        (_, Some(text)) => serde_json::Value::from(text.as_ref()).to_string(),
    })
}

/// Returns a row that is to be moved as JSON: its number, its old key as `k1` and so on, its columns.
pub(super) fn moved_json(plan: &Upsert, row: &Move<'_, '_>, key: &[String]) -> Result<String, Fault> {
    let mut json = format!("{{\"n\":{}", row.at);
    let kind_of = |name: &str| plan.columns.iter().find(|(column, _)| column == name)?.1.as_ref();
    for (at, name) in key.iter().enumerate() {
        let value = row.from.members.iter().find(|(member, _)| member == name);
        if let Some(((_, value), kind)) = value.zip(kind_of(name)) {
            json.push_str(&format!(",\"k{}\":{}", at + 1, as_json(value, kind)?));
        }
    }
    for ((_, value), (name, kind)) in row.to.members.iter().zip(&plan.columns) {
        if let (Some(kind), Some(staged)) = (kind, plan.staged.get(name)) {
            let value = as_json(value, kind).map_err(|fault| row.to.softened(fault))?;
            json.push_str(&format!(",\"{staged}\":{value}"));
        }
    }
    json.push('}');
    Ok(json)
}
