//! Rows of E-Maj's table `emaj_group_def`, as `copy` and `\copy` write them: its text format, or CSV with commas or semicolons.
//!
//! A heading says which columns there are; without one their number does, because each version of E-Maj had its own.

use super::{Configuration, Group, Kinds, Note, Relation, shown};
use crate::errors::{Error, Kind, Result};

const EXPECTED: &str = "expected the JSON of `emaj_export_groups_configuration`, or the rows of `emaj_group_def` (grpdef_group, grpdef_schema, grpdef_tblseq, …) as `\\copy emaj.emaj_group_def to 'groups.csv' csv header` writes them";

const PREFIX: &str = "grpdef_";
const LOG_NAMES: [&str; 2] = ["log_schema_suffix", "emaj_names_prefix"];
const TABLESPACES: [&str; 2] = ["log_dat_tsp", "log_idx_tsp"];

/// The columns of the versions that had the table, without their prefix: 0.8, 0.9, 1.0, 1.2, 3.1.
const VERSIONS: [&[&str]; 5] = [
    &["group", "schema", "tblseq"],
    &["group", "schema", "tblseq", "priority"],
    &[
        "group",
        "schema",
        "tblseq",
        "priority",
        LOG_NAMES[0],
        TABLESPACES[0],
        TABLESPACES[1],
    ],
    &[
        "group",
        "schema",
        "tblseq",
        "priority",
        LOG_NAMES[0],
        LOG_NAMES[1],
        TABLESPACES[0],
        TABLESPACES[1],
    ],
    &["group", "schema", "tblseq", "priority", TABLESPACES[0], TABLESPACES[1]],
];

/// One row: its line, and its fields; `None` is null.
type Row = (usize, Vec<Option<String>>);

pub(super) fn read(name: &str, text: &str) -> Result<Configuration> {
    let wrong =
        |line: usize, what: String| Error::message(Kind::Manifest, format!("{name}:{line}: {what}")).hint(EXPECTED);
    let first = text.lines().next().unwrap_or_default();
    if text.trim().is_empty() {
        return Err(wrong(1, "the file is empty".to_owned()));
    }
    // A field may hold what parts others: that is the one which makes columns that the table has.
    let marks: Vec<char> = ['\t', ',', ';']
        .into_iter()
        .filter(|mark| first.contains(*mark))
        .collect();
    let cut = |mark: char| if mark == '\t' { copied(text) } else { csv(text, mark) };
    let fits = |rows: &Vec<Row>| {
        rows.first()
            .is_some_and(|row| heading(row).is_some() || version(row.1.len()).is_some())
    };
    let found = marks.iter().find_map(|mark| cut(*mark).ok().filter(fits));
    let rows = match (found, marks.first()) {
        (Some(rows), _) => rows,
        (None, Some(mark)) => cut(*mark).map_err(|(line, what)| wrong(line, what))?,
        (None, None) => {
            return Err(wrong(
                1,
                format!("this is no configuration of E-Maj: `{}`", shown(first)),
            ));
        }
    };
    let mut rows = rows.into_iter().peekable();
    let columns: Vec<String> = match rows.peek().and_then(heading) {
        Some(columns) => {
            rows.next();
            columns
        }
        None => {
            let width = rows.peek().map_or(0, |row| row.1.len());
            let Some(columns) = version(width) else {
                return Err(wrong(
                    1,
                    format!("a row of {width} columns: `emaj_group_def` has 3, 4, 6, 7 or 8"),
                ));
            };
            columns.iter().map(|&column| column.to_owned()).collect()
        }
    };
    for needed in VERSIONS[0] {
        if columns.iter().filter(|column| column == needed).count() != 1 {
            return Err(wrong(1, format!("the heading has not one column `{PREFIX}{needed}`")));
        }
    }
    let mut made = Configuration::default();
    for column in &columns {
        if !VERSIONS.iter().any(|version| version.contains(&column.as_str())) {
            let text = format!("column `{PREFIX}{}` is not known here", shown(column));
            made.notes.push(Note::missing("the file", text));
        }
    }
    let mut problems = Vec::new();
    for (line, fields) in rows {
        if fields.len() != columns.len() {
            let (found, expected) = (fields.len(), columns.len());
            problems.push(format!("{name}:{line}: {found} columns, the first line has {expected}"));
            continue;
        }
        match row(&columns, &fields) {
            Ok((group, relation)) => add(&mut made.groups, group, relation),
            Err(what) => problems.push(format!("{name}:{line}: {what}")),
        }
    }
    if !problems.is_empty() {
        return Err(super::wrong(&problems).hint(EXPECTED));
    }
    if made.groups.is_empty() {
        return Err(wrong(1, "there is a heading and no row".to_owned()));
    }
    Ok(made)
}

/// The columns that a heading names, without their prefix; `None`: this is none.
fn heading(row: &Row) -> Option<Vec<String>> {
    let name = |field: &Option<String>| field.as_deref()?.trim().strip_prefix(PREFIX).map(str::to_owned);
    row.1.iter().map(name).collect()
}

/// The columns of the version that had so many.
fn version(width: usize) -> Option<&'static [&'static str]> {
    VERSIONS.into_iter().find(|columns| columns.len() == width)
}

/// Puts a relation into its group, which is made when it is not there.
pub(super) fn add(groups: &mut Vec<Group>, group: String, relation: Relation) {
    match groups.iter_mut().find(|known| known.name == group) {
        Some(known) => known.relations.push(relation),
        None => groups.push(Group {
            name: group,
            relations: vec![relation],
            ..Group::default()
        }),
    }
}

fn row(columns: &[String], fields: &[Option<String>]) -> Result<(String, Relation), String> {
    let field = |name: &str| -> Option<&str> {
        let at = columns.iter().position(|column| column == name)?;
        fields[at].as_deref().filter(|text| !text.is_empty())
    };
    let needed = |name: &str| {
        field(name)
            .map(str::to_owned)
            .ok_or_else(|| format!("`{PREFIX}{name}` is empty"))
    };
    let priority = field("priority").map(|text| {
        let number = text.trim().parse::<i64>();
        number.map_err(|_| format!("`{PREFIX}priority` is `{}`, which is no whole number", shown(text)))
    });
    let relation = Relation {
        schema: needed("schema")?,
        name: needed("tblseq")?,
        kind: Kinds::Unsaid,
        priority: priority.transpose()?,
        tablespaces: TABLESPACES
            .iter()
            .filter_map(|name| field(name))
            .map(str::to_owned)
            .collect(),
        ignored_triggers: Vec::new(),
        has_log_name: LOG_NAMES.iter().any(|name| field(name).is_some()),
    };
    Ok((needed("group")?, relation))
}

/// The text format of `copy`: tabs between fields, `\N` for null, a backslash before what would be misread.
fn copied(text: &str) -> Result<Vec<Row>, (usize, String)> {
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line == "\\." {
            break;
        }
        if line.is_empty() {
            return Err((number + 1, "the line is empty".to_owned()));
        }
        let fields = line.split('\t').map(|field| match field {
            "\\N" => Ok(None),
            field => unescaped(field).map(Some),
        });
        let fields: Result<Vec<_>, String> = fields.collect();
        rows.push((number + 1, fields.map_err(|what| (number + 1, what))?));
    }
    Ok(rows)
}

fn unescaped(field: &str) -> Result<String, String> {
    let mut out = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some(c @ ('0'..='9' | 'x')) => return Err(format!("`\\{c}…` is nothing that `copy` writes")),
            Some(other) => out.push(other),
            None => return Err("a backslash stands at the end of the line".to_owned()),
        }
    }
    Ok(out)
}

/// CSV: double quotes around what holds the mark between fields, doubled inside; nothing at all is null.
fn csv(text: &str, mark: char) -> Result<Vec<Row>, (usize, String)> {
    let (mut rows, mut fields, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut begun) = (1, 1);
    let (mut is_quoted, mut was_quoted) = (false, false);
    let mut chars = text.chars().peekable();
    let taken = |field: &mut String, was_quoted: &mut bool| {
        let text = std::mem::take(field);
        let is_null = text.is_empty() && !std::mem::take(was_quoted);
        *was_quoted = false;
        (!is_null).then_some(text)
    };
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if is_quoted => is_quoted = false,
            '"' if field.is_empty() && !was_quoted => (is_quoted, was_quoted) = (true, true),
            '\n' if is_quoted => {
                line += 1;
                field.push(c);
            }
            c if is_quoted => field.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                fields.push(taken(&mut field, &mut was_quoted));
                rows.push((begun, std::mem::take(&mut fields)));
                line += 1;
                begun = line;
            }
            c if c == mark => fields.push(taken(&mut field, &mut was_quoted)),
            c if was_quoted => return Err((line, format!("`{c}` stands after the closing quote"))),
            c => field.push(c),
        }
    }
    if is_quoted {
        return Err((begun, "the double quote is never closed".to_owned()));
    }
    if !field.is_empty() || was_quoted || !fields.is_empty() {
        fields.push(taken(&mut field, &mut was_quoted));
        rows.push((begun, fields));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[test]
    fn csv_keeps_quotes_breaks_and_nulls() {
        let rows = csv("a,\"b\"\"\n,c\",\"\"\r\nx,,y\n", ',').unwrap();
        assert_eq!(rows[0], (1, some(&["a", "b\"\n,c", ""])));
        assert_eq!(rows[1], (3, vec![Some("x".into()), None, Some("y".into())]));
        assert_eq!(csv("a,\"b\n", ',').unwrap_err().0, 1);
        assert!(csv("a,\"b\"c\n", ',').is_err());
    }

    #[test]
    fn the_text_format_is_unescaped() {
        let rows = copied("a\\tb\t\\N\tc\\\\\n\\.\nnot read").unwrap();
        assert_eq!(rows, [(1, vec![Some("a\tb".into()), None, Some("c\\".into())])]);
        assert!(copied("a\tb\\").is_err());
        assert!(copied("a\tb\n\n").is_err());
    }
}
