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

/// What a place of a statement is in.
enum Inside {
    Statement,
    /// `'…'`: the pieces of the text so far.
    Literal(Vec<String>),
    /// `"…"`.
    Name,
    /// `-- …`.
    Line,
    /// `/* … */`, as often as it is open.
    Comment(usize),
}

/// Turns a statement into a template: a value is a literal by itself, and needs no quotes around it. Comments stay; of a value in one, its name.
///
/// # Errors
/// As [`plain`]; a field in a name in double quotes, which can be no value.
pub(super) fn query(text: &str) -> Result<String, String> {
    let mut made = String::new();
    let mut inside = Inside::Statement;
    // Where the statement ends: a comment may stand behind it.
    let mut end = 0;
    for part in parts(text)? {
        match part {
            Part::Literal(text) => {
                if ["{{", "{%", "{#"].iter().any(|tag| text.contains(tag)) {
                    return Err("the statement holds what would be a template".to_owned());
                }
                let mut rest = text.chars().peekable();
                while let Some(c) = rest.next() {
                    let was_comment = inside.is_comment();
                    if inside.step(c, rest.peek().copied(), &mut made) {
                        rest.next();
                    }
                    if !was_comment && !inside.is_comment() && !c.is_whitespace() {
                        end = made.len();
                    }
                }
            }
            Part::Field(name) if inside.is_comment() => made += &name,
            Part::Field(name) if name == "_foreign_id" => {
                return Err("`{_foreign_id}` is found through another table".to_owned());
            }
            Part::Field(name) => {
                let value = format!("{{{{ {} }}}}", column(&name));
                match &mut inside {
                    Inside::Name => return Err("a value stands for a name".to_owned()),
                    Inside::Literal(pieces) => pieces.push(value),
                    _ => {
                        made += &value;
                        end = made.len();
                    }
                }
            }
        }
    }
    if !matches!(inside, Inside::Statement | Inside::Line) {
        return Err("a quote or a comment is never closed".to_owned());
    }
    let (statement, comment) = made.split_at(end);
    let statement = statement.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    Ok(format!("{statement}{comment}").trim().to_owned())
}

impl Inside {
    fn is_comment(&self) -> bool {
        matches!(self, Inside::Line | Inside::Comment(_))
    }

    /// Goes on by the character `c`, and by `next` where the two are one sign; returns whether they are.
    fn step(&mut self, c: char, next: Option<char>, made: &mut String) -> bool {
        if let Inside::Literal(pieces) = self {
            match (c, next) {
                ('\'', Some('\'')) => in_literal(pieces).push_str("''"),
                ('\'', _) => {
                    *made += &closed(std::mem::take(pieces));
                    *self = Inside::Statement;
                }
                (c, _) => in_literal(pieces).push(c),
            }
            return c == '\'' && next == Some('\'');
        }
        let (then, is_pair) = match (&*self, c, next) {
            (Inside::Statement, '\'', _) => {
                *self = Inside::Literal(vec!["'".to_owned()]);
                return false;
            }
            (Inside::Statement, '"', _) => (Inside::Name, false),
            (Inside::Statement, '-', Some('-')) => (Inside::Line, true),
            (Inside::Statement, '/', Some('*')) => (Inside::Comment(1), true),
            (Inside::Name, '"', _) | (Inside::Line, '\n', _) => (Inside::Statement, false),
            (Inside::Comment(1), '*', Some('/')) => (Inside::Statement, true),
            (Inside::Comment(depth), '*', Some('/')) => (Inside::Comment(depth - 1), true),
            (Inside::Comment(depth), '/', Some('*')) => (Inside::Comment(depth + 1), true),
            _ => {
                made.push(c);
                return false;
            }
        };
        *self = then;
        made.push(c);
        made.extend(next.filter(|_| is_pair));
        is_pair
    }
}

/// Returns the piece of text at the end, a new one behind a value.
fn in_literal(pieces: &mut Vec<String>) -> &mut String {
    if !pieces.last().is_some_and(|piece| piece.starts_with('\'')) {
        pieces.push("'".to_owned());
    }
    pieces.last_mut().expect("there is one")
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
            (
                "select '{a}''s', 'O''{b}'",
                "select ({{ row.a }} || '''s'), ('O''' || {{ row.b }})",
            ),
        ] {
            assert_eq!(query(python).as_deref(), Ok(ours));
        }
        for bad in [
            "select \"{a}\"",
            "select '{a}",
            "select '{_foreign_id}'",
            "select '{{{{'",
            "select 1 /* /* */",
        ] {
            assert!(query(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn comments_of_a_statement_are_read_as_comments() {
        for (python, ours) in [
            (
                "select a -- it's\nfrom t where u = '{id}' -- don't",
                "select a -- it's\nfrom t where u = {{ row.id }} -- don't",
            ),
            (
                "select /* a \"/* ' */'{b} */ '{a}' /* that's it */",
                "select /* a \"/* ' */'b */ {{ row.a }} /* that's it */",
            ),
            ("select a from t; -- by '{id}';\n", "select a from t -- by 'id';"),
            ("select a from t ;;\n/* end */", "select a from t\n/* end */"),
            ("select '--', \"/*\", {a}; ", "select '--', \"/*\", {{ row.a }}"),
            ("-- why\nselect 1;", "-- why\nselect 1"),
            ("select 2 - 1 / 3 * {a}", "select 2 - 1 / 3 * {{ row.a }}"),
        ] {
            assert_eq!(query(python).as_deref(), Ok(ours));
        }
    }
}
