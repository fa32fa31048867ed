//! Python's format texts (`uid={uid}`) turned into templates (`uid={{ row.login }}`).

/// A part of a format text.
enum Part {
    Literal(String),
    /// What stands in braces.
    Field(String),
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let (mut all, mut literal) = (Vec::new(), String::new());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let doubled = rest.len() > 1 && (rest.starts_with("{{") || rest.starts_with("}}"));
        if doubled {
            literal.push(c);
            rest = &rest[2..];
        } else if c == '{' {
            let end = rest.find('}').ok_or("`{` is never closed")?;
            let name = &rest[1..end];
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !is_name || name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(format!("`{{{name}}}` is more than a name"));
            }
            all.push(Part::Literal(std::mem::take(&mut literal)));
            all.push(Part::Field(name.to_owned()));
            rest = &rest[end + 1..];
        } else if c == '}' {
            return Err("`}` closes nothing".to_owned());
        } else {
            literal.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    all.push(Part::Literal(literal));
    Ok(all)
}

/// Returns a text that is a template and means itself.
pub(super) fn literal(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        // A brace at the end might meet one of a reference behind it.
        if c == '{' && matches!(rest.peek(), None | Some('{' | '%' | '#')) {
            made += "{{ '{' }}";
        } else {
            made.push(c);
        }
    }
    made
}

/// Returns the expression of a column, `row.name`.
pub(super) fn column(name: &str) -> String {
    const WORDS: [&str; 14] = [
        "in", "is", "not", "and", "or", "if", "else", "true", "false", "none", "loop", "for", "set", "do",
    ];
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !WORDS.contains(&name);
    if is_plain {
        format!("row.{name}")
    } else {
        format!("row[{}]", serde_json::Value::from(name))
    }
}

/// Turns a format text into a template; `resolve` says what stands for a field.
///
/// # Errors
/// What the text holds beyond names in braces, or a field that nothing stands for.
pub(super) fn plain(text: &str, resolve: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut made = String::new();
    for part in parts(text)? {
        match part {
            Part::Literal(text) => made += &literal(&text),
            Part::Field(name) => made += &resolve(&name).ok_or_else(|| format!("`{{{name}}}` has no column"))?,
        }
    }
    Ok(made)
}

/// Turns a statement into a template: a value is a literal by itself, and needs no quotes around it.
///
/// # Errors
/// As [`plain`]; a field in a name in double quotes, which can be no value.
pub(super) fn query(text: &str) -> Result<String, String> {
    let mut made = String::new();
    // Inside of single quotes: the pieces of the text so far.
    let mut quoted: Option<Vec<String>> = None;
    let mut in_name = false;
    for part in parts(text)? {
        match part {
            Part::Literal(text) => {
                if ["{{", "{%", "{#"].iter().any(|tag| text.contains(tag)) {
                    return Err("the statement holds what would be a template".to_owned());
                }
                for c in text.chars() {
                    match (&mut quoted, c) {
                        (None, '\'') if !in_name => quoted = Some(vec!["'".to_owned()]),
                        (None, _) => {
                            in_name ^= c == '"';
                            made.push(c);
                        }
                        (Some(_), '\'') => made += &closed(quoted.take().unwrap_or_default()),
                        (Some(pieces), _) => match pieces.last_mut().filter(|piece| piece.starts_with('\'')) {
                            Some(piece) => piece.push(c),
                            None => pieces.push(format!("'{c}")),
                        },
                    }
                }
            }
            Part::Field(name) if name == "_foreign_id" => {
                return Err("`{_foreign_id}` is found through another table".to_owned());
            }
            Part::Field(_) if in_name => return Err("a value stands for a name".to_owned()),
            Part::Field(name) => {
                let value = format!("{{{{ {} }}}}", column(&name));
                match &mut quoted {
                    Some(pieces) => pieces.push(value),
                    None => made += &value,
                }
            }
        }
    }
    if quoted.is_some() || in_name {
        return Err("a quote is never closed".to_owned());
    }
    Ok(made.trim().trim_end_matches(';').trim_end().to_owned())
}

/// What stood between single quotes: a text, a value, or a text put together from both.
fn closed(pieces: Vec<String>) -> String {
    let has_value = pieces.iter().any(|piece| piece.starts_with('{'));
    let all: Vec<String> = pieces
        .into_iter()
        .filter(|piece| piece != "'" || !has_value)
        .map(|piece| if piece.starts_with('\'') { piece + "'" } else { piece })
        .collect();
    match all.as_slice() {
        [one] => one.clone(),
        several => format!("({})", several.join(" || ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_texts_become_templates() {
        let resolve = |name: &str| (name == "uid").then(|| "{{ row.id }}".to_owned());
        assert_eq!(plain("uid={uid},ou=x", &resolve).unwrap(), "uid={{ row.id }},ou=x");
        assert_eq!(plain("a{{b}}", &resolve).unwrap(), "a{b}");
        assert_eq!(plain("{{{uid}", &resolve).unwrap(), "{{ '{' }}{{ row.id }}");
        assert_eq!(literal("{{ x }}"), "{{ '{' }}{ x }}");
        for bad in ["{", "}", "{}", "{0}", "{a.b}", "{a!r}", "{cn}"] {
            assert!(plain(bad, &resolve).is_err(), "{bad}");
        }
        assert_eq!(
            (column("id"), column("Odd \"N")),
            ("row.id".to_owned(), r#"row["Odd \"N"]"#.to_owned())
        );
    }

    #[test]
    fn values_of_a_statement_need_no_quotes() {
        for (python, ours) in [
            (
                "select a from t where u = '{id}';",
                "select a from t where u = {{ row.id }}",
            ),
            (
                "select a from t where u = {id}",
                "select a from t where u = {{ row.id }}",
            ),
            (
                "select 'it''s' where m like '%{m}@{d}'",
                "select 'it''s' where m like ('%' || {{ row.m }} || '@' || {{ row.d }})",
            ),
            ("select '', '{{1,2}}'", "select '', '{1,2}'"),
        ] {
            assert_eq!(query(python).as_deref(), Ok(ours));
        }
        for bad in [
            "select \"{a}\"",
            "select '{a}",
            "select '{_foreign_id}'",
            "select '{{{{'",
        ] {
            assert!(query(bad).is_err(), "{bad}");
        }
    }
}
