//! Which columns the rows share of which a template makes the same: so that a table is asked for those by an index.
//!
//! Called when a binding is compiled; pure. Only a column that stands alone says so.

use crate::manifest::{Part, Words, blocks, parts};

/// Returns the columns of the template of a name in which rows that have the same name are the same, but for their spelling: those that stand alone in
/// the value of a component. Of `cn={{ row.a }} {{ row.b }}` neither is one, nor what goes through another filter than `lower` or `dn`.
pub(super) fn columns_of(template: &str) -> Vec<String> {
    let mut columns = Vec::new();
    // Of a component so far: whether its value has begun, and what its code names.
    let (mut in_value, mut codes): (bool, Vec<Option<String>>) = Default::default();
    let mut end = |codes: &mut [Option<String>]| {
        if let [column] = codes {
            columns.extend(column.take());
        }
    };
    for part in parts(template) {
        match part {
            Part::Code(block) if block.tag().is_some() => return Vec::new(),
            Part::Code(block) => codes.push(column_but_for_spelling(block.words).filter(|_| in_value)),
            Part::Text(at) if template[at.clone()].contains(['"', '\\']) => return Vec::new(),
            Part::Text(at) => {
                for (number, text) in template[at].split([',', '+']).enumerate() {
                    if number > 0 {
                        end(&mut codes);
                        codes.clear();
                        in_value = false;
                    }
                    in_value |= text.contains('=');
                }
            }
        }
    }
    end(&mut codes);
    columns
}

/// Returns the column of a template that is one `{{ row.column }}` with text around it: rows of which it makes the same have the same
/// there, but for its spelling. Of a template that does more with a row that cannot be said.
pub(super) fn column_of(template: &str) -> Option<String> {
    let mut blocks = blocks(template);
    let only = blocks.next().filter(|only| only.tag().is_none())?;
    blocks
        .next()
        .is_none()
        .then(|| column_but_for_spelling(only.words))
        .flatten()
}

/// Returns the column that an expression names, if it does nothing else.
pub(super) fn column(words: Words<'_>) -> Option<String> {
    named(&words.written().collect::<Vec<_>>())
}

/// The same, also through the filter that escapes it for a name, and through small letters: names are compared without regard to them. (Capitals tell less:
/// those of `ß` are `SS`.)
fn column_but_for_spelling(words: Words<'_>) -> Option<String> {
    let words: Vec<&str> = words.written().collect();
    let mut value = &words[..];
    while let [before @ .., "|", "lower" | "dn"] = value {
        value = before;
    }
    named(value)
}

fn named(words: &[&str]) -> Option<String> {
    match words {
        ["row", ".", name] => Some((*name).to_owned()),
        ["row", "[", quoted, "]"] => {
            let quote = quoted.chars().next().filter(|c| ['"', '\''].contains(c))?;
            let name = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
            (!name.contains('\\')).then(|| name.to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{column, column_of, columns_of};
    use crate::manifest::Words;

    #[test]
    fn an_expression_that_is_a_column_takes_it_as_it_is() {
        let column = |text| column(Words::of_expression(text));
        assert_eq!(column(" row.a ").as_deref(), Some("a"));
        assert_eq!(column("row['The A']").as_deref(), Some("The A"));
        assert_eq!(column("row.a + 1").or(column("old.a")).or(column("row.a.b")), None);
    }

    #[test]
    fn the_columns_that_a_name_says() {
        for (template, columns) in [
            ("cn=all,dc=x", &[][..]),
            (
                "uid={{ row.login }},ou={{ row.unit | lower }},dc=row",
                &["login", "unit"],
            ),
            (
                "uid={{ row.login | trim | lower }},ou={{ row.unit | trim }},dc=row",
                &[],
            ),
            ("uid={{ row.login | upper }},ou={{ row.unit | lower | dn }}", &["unit"]),
            ("uid={{ row['the login'] }},dc=x", &["the login"]),
            ("uid=p{{ row[ \"a\" ] }}x + ou={{row.b}}", &["a", "b"]),
            ("cn={{ row.first }} {{ row.last }},ou={{ row.unit }}", &["unit"]),
            ("cn={{ row.first }}{{ row.last }}", &[]),
            ("{{ row.kind }}={{ row.name }}", &[]),
            ("{{ row.kind }}={{ row.name }},ou={{ row.unit }}", &["unit"]),
            ("uid={{ row.doc.name }},ou={{ table }}", &[]),
            ("uid={{ row['a' ~ 'b'] }}", &[]),
            ("uid={{- row.a -}},ou={{ row.b or row.c }}", &["a"]),
            (
                "uid={{ row.login }},ou={{ row.nick | default(row.unit, true) }}",
                &["login"],
            ),
            (
                "{% if row.x %}uid={{ row.a }}{% else %}uid={{ row.b }}{% endif %},dc=x",
                &[],
            ),
            ("{# , #}uid={{ row.a }}", &["a"]),
            ("cn=a\\,{{ row.b }},ou={{ row.c }}", &[]),
            ("uid={{ '}}' }},ou={{ row.b }}", &["b"]),
        ] {
            assert_eq!(columns_of(template), columns, "{template}");
        }
    }

    #[test]
    fn only_a_column_but_for_its_spelling_says_which_rows_are_alike() {
        for (template, column) in [
            ("cn={{ row.team }},ou=groups", Some("team")),
            ("{{row.a}}", Some("a")),
            ("uid={{ row.a | dn }},ou=people", Some("a")),
            ("uid={{ row.a | lower | dn }},ou=people", Some("a")),
            ("uid={{ row.a | upper }},ou=people", None),
            ("uid={{ row.a | trim | lower }},ou=people", None),
            ("{{ row['the grp'] }}", Some("the grp")),
            ("{{ row[\"Grp\"] }}", Some("Grp")),
            ("{# {{ row.b }} #}{{ row.a }}", Some("a")),
            ("{{ '}}' }}{{ row.a }}", None),
            ("constant", None),
            ("{{ row.a }}{{ row.b }}", None),
            ("{{ row.nick | default(row.login, true) }}", None),
            ("{{ row.doc.name }}", None),
            ("{{ row['a' ~ 'b'] }}", None),
            ("{% if row.x %}{{ row.a }}{% endif %}", None),
            ("{{ row.a if row.b else row.c }}", None),
            ("{{ table }}", None),
        ] {
            assert_eq!(column_of(template).as_deref(), column, "{template}");
        }
    }
}
