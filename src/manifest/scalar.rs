//! How a text is written into a manifest so that YAML reads it as that text. What makes manifests (`emaj new`, `emaj import`) calls it.

/// Returns the text as YAML takes it for a text: bare where that cannot be misread, else in quotes.
pub(crate) fn scalar(text: &str) -> String {
    const WORDS: [&str; 11] = [
        "true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan",
    ];
    let is_bare = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !text.ends_with([' ', ':'])
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-,=/ ()@:'".contains(c))
        && !text.contains(": ")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_bare {
        return text.to_owned();
    }
    let wants_escape = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    if text.contains(['"', '\\']) && !text.contains(wants_escape) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    // What JSON writes is YAML, but for characters that YAML wants escaped and JSON does not.
    let json = serde_json::Value::from(text).to_string();
    json.chars()
        .map(|c| match wants_escape(c) {
            true => format!("\\u{:04x}", u32::from(c)),
            false => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_texts() {
        assert_eq!(scalar("select a from t"), "select a from t");
        for text in [
            "true", "No", "1", "a: b", "a #b", "{{ x }}", "", " a", "a ", "é", "- a", "x:",
        ] {
            assert!(scalar(text).starts_with('"'), "{text}: {}", scalar(text));
        }
        assert_eq!(scalar("\u{85}\n"), "\"\\u0085\\n\"");
        assert_eq!(scalar(r#""Odd"."N'ame""#), r#"'"Odd"."N''ame"'"#);
        assert_eq!(scalar("\"a\"\n"), r#""\"a\"\n""#);
    }
}
