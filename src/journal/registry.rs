//! Whether the registry in a database is the one that this version of emaj knows: its tables and columns against those of its template.
//!
//! There is no way yet from the registry of one version to that of another, so a strange one is refused before it is read.

use std::collections::{BTreeMap, BTreeSet};

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;

use crate::errors::{Error, Kind, Result};
use crate::names::quote_ident;
use crate::render::{RenderError, Renderer};

/// Refuses a registry with other tables or columns than this version makes.
///
/// # Errors
/// [`Kind::Refused`] with what differs, and what to do.
pub(super) fn check(client: &mut impl GenericClient, schema: &str, renderer: &Renderer) -> Result<()> {
    let differences = look(client, schema, renderer)?;
    if differences.is_empty() {
        return Ok(());
    }
    // Only what every version has is asked for.
    let version: Option<String> = client
        .query_opt(
            &format!(
                "select to_jsonb(i) ->> 'install_version' from {}.emaj_install i limit 1",
                escape_identifier(schema)
            ),
            &[],
        )?
        .and_then(|row| row.get(0));
    let (version, own) = (version.unwrap_or_else(|| "?".to_owned()), env!("CARGO_PKG_VERSION"));
    Err(Error::message(
        Kind::Refused,
        format!(
            "the registry in schema `{schema}` was made by another emaj ({version}; this is {own}): {}",
            differences.join(", ")
        ),
    )
    .hint(
        "there is no upgrade of a registry yet: go on with the emaj that made it, or take it out with that one (`emaj uninstall --all --yes`; logs and marks are lost) and install anew with this one",
    ))
}

/// Refuses a registry that was made just now and is not as it was written: nothing could be done with it.
///
/// # Errors
/// [`Kind::Refused`] with what differs; whatever the server answers.
pub fn check_made(client: &mut impl GenericClient, schema: &str) -> Result<()> {
    let differences = look(client, schema, &Renderer::new(schema))?;
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::message(
        Kind::Refused,
        format!(
            "what was made in schema `{schema}` was altered at once: {}",
            differences.join(", ")
        ),
    ))
}

/// Returns what differs between the registry that is there and the one that this version makes.
fn look(client: &mut impl GenericClient, schema: &str, renderer: &Renderer) -> Result<Vec<String>> {
    let wanted = wanted(renderer)?;
    let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
    let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in &client.query(
        "select c.relname::text, a.attname::text
           from pg_catalog.pg_class c
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          where n.nspname = $1 and c.relname = any ($2::text[]) and c.relkind = 'r'",
        &[&schema, &names],
    )? {
        there.entry(row.get(0)).or_default().insert(row.get(1));
    }
    Ok(differences(&wanted, &there))
}

/// Refuses a registry that says nothing of its installation and yet has groups, tables, marks or a history: nothing that it holds may be taken for
/// nothing.
///
/// # Errors
/// [`Kind::Refused`] with the tables that hold rows; whatever the server answers.
pub(super) fn check_hollow(client: &mut impl GenericClient, schema: &str) -> Result<()> {
    let s = escape_identifier(schema);
    let filled = ["emaj_group", "emaj_relation", "emaj_mark", "emaj_hist"]
        .map(|table| format!("case when exists (select from {s}.{table}) then '{table}' end"))
        .join(", ");
    let filled: Option<String> = client
        .query_one(&format!("select nullif(pg_catalog.concat_ws(', ', {filled}), '')"), &[])?
        .get(0);
    let Some(filled) = filled else {
        return Ok(());
    };
    Err(Error::message(
        Kind::Refused,
        format!("the registry in schema {s} was restored in part: emaj_install is empty, and there are rows in {filled}"),
    )
    .hint("restore the rows of every table in that schema; to give its marks and logs up, truncate its tables, and `emaj uninstall`"))
}

/// Says of a registry without any row what it is, and what to do about it.
pub fn hollow(schema: &str) -> (String, String) {
    (
        format!(
            "the registry in schema {} is empty: it was restored from a dump without data (`pg_dump --schema-only`)",
            quote_ident(schema)
        ),
        "`emaj uninstall` takes away what is there of emaj, then `emaj install` begins anew".to_owned(),
    )
}

/// Refuses a registry without any row.
///
/// # Errors
/// [`Kind::Refused`]; whatever the server answers.
pub fn refuse_hollow(client: &mut impl GenericClient, schema: &str) -> Result<()> {
    let s = escape_identifier(schema);
    let made: bool = client
        .query_one(&format!("select exists (select from {s}.emaj_install)"), &[])?
        .get(0);
    if made {
        return Ok(());
    }
    check_hollow(client, schema)?;
    let (problem, repair) = hollow(schema);
    Err(Error::message(Kind::Refused, problem).hint(repair))
}

/// Returns the names of the registry's tables.
pub(crate) fn tables(renderer: &Renderer) -> Result<Vec<String>, RenderError> {
    Ok(wanted(renderer)?.into_keys().collect())
}

/// Returns the tables and columns that the template makes.
fn wanted(renderer: &Renderer) -> Result<BTreeMap<String, BTreeSet<String>>, RenderError> {
    let sql = renderer.render("registry/tables", ())?;
    // (Whatever is in the schema's name, it is not read as SQL here.)
    Ok(columns_of(&sql.replace(&escape_identifier(renderer.schema()), "emaj")))
}

fn differences(wanted: &BTreeMap<String, BTreeSet<String>>, there: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut all = Vec::new();
    for (table, columns) in wanted {
        let Some(found) = there.get(table) else {
            all.push(format!("table {table} is missing"));
            continue;
        };
        let missing = columns.difference(found);
        all.extend(missing.map(|column| format!("column {table}.{column} is missing")));
        let strange = found.difference(columns);
        all.extend(strange.map(|column| format!("column {table}.{column} is unknown")));
    }
    all
}

/// Reads tables and columns off the rendered template: each column begins a line that is indented by two, constraints of the table begin with a word
/// of SQL. What is indented further goes on with the line above.
fn columns_of(sql: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut tables = BTreeMap::new();
    let statements = sql.split("\ncreate table ").skip(1);
    for statement in statements {
        let mut lines = statement.lines();
        let name = lines
            .next()
            .and_then(|line| line.strip_suffix(" ("))
            .unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or_default();
        let columns = lines
            .take_while(|line| !line.starts_with(')'))
            .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
            .filter(|word| !["", "primary", "unique", "check", "foreign", "constraint", "--"].contains(word));
        tables.insert(name.to_owned(), columns.map(str::to_owned).collect());
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_off_the_template() {
        let renderer = Renderer::new("o.\"dd");
        let tables = wanted(&renderer).unwrap();
        let sql = renderer.render("registry/tables", ()).unwrap();
        assert_eq!(sql.matches("create table").count(), tables.len());
        let expected = ["role_manifest", "role_name", "role_right", "role_oid"].map(str::to_owned);
        assert_eq!(tables["emaj_role"], BTreeSet::from(expected));
        assert!(tables.values().all(|columns| !columns.is_empty()));
    }

    #[test]
    fn a_column_may_go_on_in_the_next_line() {
        let sql = "\ncreate table emaj.emaj_t (\n  -- A note.\n  t_one text\n    default '',\n  t_two text,\n  primary key (t_one)\n);\n";
        let expected = BTreeSet::from(["t_one", "t_two"].map(str::to_owned));
        assert_eq!(columns_of(sql), BTreeMap::from([("emaj_t".to_owned(), expected)]));
    }

    #[test]
    fn every_difference_is_told() {
        let of = |columns: &[&str]| {
            columns
                .iter()
                .map(|column| (*column).to_owned())
                .collect::<BTreeSet<_>>()
        };
        let wanted = BTreeMap::from([("a".to_owned(), of(&["x", "y"])), ("b".to_owned(), of(&["z"]))]);
        let there = BTreeMap::from([("a".to_owned(), of(&["x", "new"]))]);
        assert_eq!(
            differences(&wanted, &there),
            ["column a.y is missing", "column a.new is unknown", "table b is missing"]
        );
        assert!(differences(&wanted, &wanted).is_empty());
    }
}
