//! Texts of in-database actions: literals and references to the columns of the row, nothing more.
//!
//! They become SQL inside a trigger, so there is no template engine: `{{ row.x }}`, `{{ old.x }}`, `{{ event }}` and
//! `{{ table }}` are all there is. `render` turns the parts into an SQL expression.

use super::shape::Wrong;

/// A text for an action inside the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InDatabaseText {
    pub parts: Vec<InDatabasePart>,
}

/// One part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InDatabasePart {
    Literal(String),
    /// A column of the row as it is now (for a deletion: as it was).
    Row(String),
    /// A column of the row as it was before an update or a deletion.
    Old(String),
    /// `insert`, `update` or `delete`.
    Event,
    /// `schema.table`, quoted where needed.
    Table,
}

impl InDatabaseText {
    /// Reads the parts. Errors on tags, on expressions, and on braces that are never closed.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let mut parts = Vec::new();
        let mut at = 0;
        if let Some(tag) = text.find("{%") {
            return Err(Wrong::new("an action inside the database has no `{%` tags").at(tag, tag + 2));
        }
        while let Some(open) = text[at..].find("{{").map(|found| at + found) {
            let close = text[open..].find("}}").map(|found| open + found);
            let Some(close) = close else {
                return Err(Wrong::new("`{{` is never closed").at(open, text.len()));
            };
            if open > at {
                parts.push(InDatabasePart::Literal(text[at..open].to_owned()));
            }
            parts.push(reference(text[open + 2..close].trim()).ok_or_else(|| {
                Wrong::new("an action inside the database knows columns only")
                    .at(open, close + 2)
                    .next("write `{{ row.column }}`, `{{ old.column }}`, `{{ event }}` or `{{ table }}`")
            })?);
            at = close + 2;
        }
        if at < text.len() {
            parts.push(InDatabasePart::Literal(text[at..].to_owned()));
        }
        match parts.is_empty() {
            true => Err(Wrong::new("the text is empty")),
            false => Ok(InDatabaseText { parts }),
        }
    }
}

fn reference(body: &str) -> Option<InDatabasePart> {
    let column = |name: &str| crate::names::parse_ident(name).ok();
    match body {
        "event" => Some(InDatabasePart::Event),
        "table" => Some(InDatabasePart::Table),
        _ => match body.split_once('.')? {
            ("row", name) => column(name).map(InDatabasePart::Row),
            ("old", name) => column(name).map(InDatabasePart::Old),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_literals() {
        use InDatabasePart::*;
        let text = InDatabaseText::parse(r#"{{event}} of {{ row."Odd Name" }} ({{ old.Id }})"#).unwrap();
        let literal = |text: &str| Literal(text.to_owned());
        assert_eq!(
            text.parts,
            [
                Event,
                literal(" of "),
                Row("Odd Name".into()),
                literal(" ("),
                Old("id".into()),
                literal(")")
            ]
        );
        for bad in ["", "{{ row.a", "{{ row.a | upper }}", "{% if x %}", "{{ x }}"] {
            assert!(InDatabaseText::parse(bad).is_err(), "{bad}");
        }
    }
}
