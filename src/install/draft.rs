//! A manifest for a database as it is: what there is, put into groups, as text with comments. Pure; `emaj new --from-db` calls it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::obstacle::{self, Asked};
use super::table::OWN_COLUMNS;
use crate::catalog::{Catalog, Table};
use crate::errors::{Error, Kind, Result};
use crate::journal::Journal;
use crate::manifest::scalar;
use crate::names::{QualifiedName, derived_name, listed, one_line, quote_ident};
use crate::words::count;

/// A manifest's text, and what it holds.
#[derive(Debug, Clone)]
pub struct Draft {
    pub text: String,
    pub groups: usize,
    pub tables: usize,
    /// Tables that it names in a comment only.
    pub left_out: usize,
    /// Sequences that no column owns, which it names in a comment only.
    pub free_sequences: usize,
}

/// What one schema has.
#[derive(Default)]
struct Schema<'a> {
    keyed: Vec<&'a QualifiedName>,
    unkeyed: Vec<&'a QualifiedName>,
    /// Why, table by table.
    left_out: Vec<String>,
    /// Sequences that no column owns.
    free: Vec<&'a QualifiedName>,
}

/// Makes a manifest of the tables of `schemas` (all, when none is named) that the connected role may capture, with `own_schema` for
/// emaj's own objects: a group a schema, and another one, audit only, for tables that cannot be rolled back. Tables that another manifest has are left out.
///
/// # Errors
/// A schema that is not there; nothing that could be captured.
pub fn draft(catalog: &Catalog, journal: Option<&Journal>, own_schema: &str, schemas: &[String]) -> Result<Draft> {
    let found = survey(catalog, journal);
    if let Some(missing) = schemas.iter().find(|name| !found.contains_key(name.as_str())) {
        return Err(Error::message(
            Kind::Usage,
            format!(
                "schema `{missing}` has no table in database `{}`",
                catalog.server.database
            ),
        )
        .hint(format!("schemas with tables: {}", listed(found.keys()))));
    }
    let mut draft = Draft {
        text: heading(catalog, own_schema),
        groups: 0,
        tables: 0,
        left_out: 0,
        free_sequences: 0,
    };
    let mut names = BTreeSet::new();
    for (schema, content) in &found {
        if schemas.is_empty() || schemas.iter().any(|name| name == schema) {
            add(&mut draft, schema, content, &mut names);
        }
    }
    if draft.groups == 0 {
        return Err(nothing_left(catalog, &found, schemas));
    }
    Ok(draft)
}

/// Says why there is no table for a manifest, with the reason of the first that is left out.
fn nothing_left(catalog: &Catalog, found: &BTreeMap<&str, Schema<'_>>, schemas: &[String]) -> Error {
    let chosen = |schema: &str| schemas.is_empty() || schemas.iter().any(|name| name == schema);
    let left_out = || {
        let found = found.iter().filter(|(schema, _)| chosen(schema));
        found.flat_map(|(_, schema)| &schema.left_out)
    };
    let mut problem = format!(
        "database `{}` has no table that role `{}` could capture",
        catalog.server.database, catalog.server.role
    );
    if let Some(reason) = left_out().next() {
        problem += &format!("; {} left out, for one: {reason}", count(left_out().count(), "table"));
    }
    Error::message(Kind::Refused, problem).hint(
        "connect as the owner of the tables that are to be captured; `emaj new` without `--from-db` writes an example",
    )
}

fn survey<'a>(catalog: &'a Catalog, journal: Option<&Journal>) -> BTreeMap<&'a str, Schema<'a>> {
    let taken: BTreeMap<u32, &str> = journal
        .into_iter()
        .flat_map(|journal| journal.relations.iter())
        .map(|relation| (relation.oid, relation.group.as_str()))
        .collect();
    let mut schemas: BTreeMap<&str, Schema> = BTreeMap::new();
    // A partition goes with the table above it.
    for (name, table) in catalog.tables.iter().filter(|(_, table)| table.ancestors.is_empty()) {
        let schema = schemas.entry(&name.schema).or_default();
        match place(name, table, catalog, &taken) {
            Ok(Place::Keyed) => schema.keyed.push(name),
            Ok(Place::Unkeyed) => schema.unkeyed.push(name),
            Err(reason) => schema.left_out.push(reason),
        }
    }
    let owned: BTreeSet<u32> = catalog
        .tables
        .values()
        .flat_map(|table| table.sequences.iter().copied())
        .collect();
    for (name, sequence) in &catalog.sequences {
        if !owned.contains(&sequence.oid)
            && sequence.extension.is_none()
            && let Some(schema) = schemas.get_mut(name.schema.as_str())
        {
            schema.free.push(name);
        }
    }
    schemas
}

/// The kinds of groups that a draft has.
enum Place {
    Keyed,
    Unkeyed,
}

/// Returns the group that a plan would accept a table in, or why it would in none.
fn place(name: &QualifiedName, table: &Table, catalog: &Catalog, taken: &BTreeMap<u32, &str>) -> Result<Place, String> {
    let relatives = || std::iter::once(table.oid).chain(table.partitions.iter().map(|partition| partition.oid));
    if let Some(group) = relatives().find_map(|oid| taken.get(&oid)) {
        return Err(format!("table {name} is in group `{group}` already"));
    }
    if let Some(extension) = &table.extension {
        return Err(format!("table {name} belongs to the extension `{extension}`"));
    }
    let below = table.partitions.iter().map(|partition| &partition.name);
    let mut names = std::iter::once(name).chain(below);
    let first = |rollback: Option<&str>| {
        let asked = Asked {
            rollback,
            guard: true,
            own_columns: OWN_COLUMNS.len(),
        };
        obstacle::of_table(name, table, &asked, catalog, None)
            .into_iter()
            .next()
    };
    let closed = names.find_map(|name| obstacle::closed(name, catalog));
    match first(None).or(closed) {
        Some(obstacle) => Err(obstacle.what),
        None if first(Some("")).is_some() => Ok(Place::Unkeyed),
        None => Ok(Place::Keyed),
    }
}

fn heading(catalog: &Catalog, own_schema: &str) -> String {
    let own_schema = match own_schema {
        "emaj" => String::new(),
        other => format!("schema: {}\n\n", scalar(&quote_ident(other))),
    };
    format!(
        "# What emaj is to do with database {}, made from what was there.\n\
         #\n\
         # Tables that foreign keys tie together belong into one group: look where that is not so. A pattern such as\n\
         # `schema.*` instead of names takes new tables in by itself. All keys: docs/manifest.md.\n\
         \n\
         version: 1\n\
         \n\
         {own_schema}groups:\n",
        one_line(&quote_ident(&catalog.server.database))
    )
}

fn add(draft: &mut Draft, schema: &str, content: &Schema<'_>, names: &mut BTreeSet<String>) {
    draft.left_out += content.left_out.len();
    draft.free_sequences += content.free.len();
    let text = &mut draft.text;
    let mut group = |text: &mut String, tables: &[&QualifiedName], suffix: &str, audit: bool| {
        if tables.is_empty() {
            return;
        }
        // Control characters have no place in a group's name, nor blanks at its ends.
        let plain: String = schema.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
        let name = derived_name(&[plain.trim()], suffix, &|name| {
            name.trim().is_empty() || names.contains(name)
        });
        names.insert(name.clone());
        draft.groups += 1;
        draft.tables += tables.len();
        let _ = writeln!(text, "  {}:", scalar(&name));
        if audit {
            let _ = writeln!(
                text,
                "    rollback: false     # audit only: no primary key, or unlogged"
            );
        }
        let _ = writeln!(text, "    tables:");
        for table in tables {
            let _ = writeln!(text, "      - {}", scalar(&table.to_string()));
        }
    };
    group(text, &content.keyed, "", false);
    group(text, &content.unkeyed, "_audit", true);
    for reason in &content.left_out {
        let _ = writeln!(text, "  # left out: {}", one_line(reason));
    }
    if !content.free.is_empty() {
        let list: Vec<String> = content.free.iter().map(|name| one_line(&name.to_string())).collect();
        let _ = writeln!(
            text,
            "  # Not taken: sequences that no column owns: {}. `sequences: all` in a group takes those of its schemas.",
            list.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest;

    fn table(oid: u32, key: &[i16]) -> Table {
        Table {
            oid,
            owned: true,
            key: key.to_vec(),
            columns: vec![crate::catalog::Column::default()],
            ..Table::default()
        }
    }

    fn catalog(tables: Vec<(QualifiedName, Table)>) -> Catalog {
        Catalog {
            tables: tables.into_iter().collect(),
            ..Catalog::default()
        }
    }

    #[test]
    fn what_cannot_be_captured_is_named_with_its_reason() {
        let mut foreign = table(3, &[1]);
        (foreign.owned, foreign.owner) = (false, "someone".to_owned());
        let mut partition = table(4, &[1]);
        partition.ancestors = vec![1];
        let catalog = catalog(vec![
            (QualifiedName::new("shop", "orders"), table(1, &[1])),
            (QualifiedName::new("shop", "note"), table(2, &[])),
            (QualifiedName::new("shop", "theirs"), foreign),
            (QualifiedName::new("shop", "orders_1"), partition),
            (QualifiedName::new("on", "Odd \"Name\""), table(5, &[1])),
        ]);
        let draft = draft(&catalog, None, "emaj", &[]).unwrap();
        assert_eq!((draft.groups, draft.tables, draft.left_out), (3, 3, 1));
        let body = draft.text.split_once("groups:\n").unwrap().1;
        insta::assert_snapshot!(body, @r#"
        "on":
          tables:
            - '"on"."Odd ""Name"""'
        shop:
          tables:
            - shop.orders
        shop_audit:
          rollback: false     # audit only: no primary key, or unlogged
          tables:
            - shop.note
        # left out: table shop.theirs belongs to role someone, and "" may not act for it
        "#);
    }

    #[test]
    fn a_schema_that_is_not_there_is_named() {
        let catalog = catalog(vec![(QualifiedName::new("shop", "orders"), table(1, &[1]))]);
        let error = draft(&catalog, None, "emaj", &["shoop".to_owned()]).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert_eq!(error.hints(), ["schemas with tables: `shop`"]);
    }

    proptest! {
        #[test]
        fn every_name_comes_back_from_the_manifest(schema in "\\PC{1,15}|[\\x01-\\x7f]{1,20}|[ a-z\\n'\"\\u{85}\\u{2028}:#-]{1,20}",
                                                   name in "\\PC{1,15}|[\\x01-\\x7f]{1,20}|[ a-z\\n'\"\\u{85}\\u{2028}:#-]{1,20}") {
            let name = QualifiedName::new(schema, name);
            let catalog = catalog(vec![(name.clone(), table(1, &[1])), (QualifiedName::new(name.schema.clone(), "z z"), table(2, &[]))]);
            let draft = draft(&catalog, None, "emaj", &[]).unwrap();
            let loaded = manifest::parse(std::path::Path::new("emaj.yaml"), &draft.text);
            prop_assert!(loaded.is_ok(), "{}\n{:?}", draft.text, loaded);
            let found: Vec<QualifiedName> = loaded.unwrap().manifest.groups.iter()
                .flat_map(|group| &group.tables)
                .filter_map(|pattern| pattern.value.is_exact())
                .collect();
            prop_assert!(found.contains(&name), "{}\n{found:?}", draft.text);
        }
    }
}
