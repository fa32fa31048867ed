//! Names of database objects: how they are written, read, chosen and derived.
//!
//! [`QualifiedName`] is a schema and a name as the catalogue keeps them; [`Pattern`] chooses some of them;
//! [`derived_name`] makes the names of emaj's own objects. All of it is text in, text out: nothing here asks a
//! database. Neighbours: `manifest` reads names from YAML, `catalog` from the server, `render` writes them into SQL.

mod derived;
mod file;
mod keywords;
mod nearest;
mod pattern;
mod scan;

use std::fmt;

pub use derived::derived_name;
pub use file::file_name;
pub(crate) use nearest::nearest;
pub use pattern::{Pattern, Selection, select};
use scan::{Piece, scan};

/// The longest name PostgreSQL keeps, in bytes (`NAMEDATALEN - 1`).
pub const MAX_NAME_BYTES: usize = 63;

/// The name of a table, view, function or sequence together with its schema, as the catalogue spells them.
///
/// `Display` and [`QualifiedName::parse`] are inverse to each other for every name the server can hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct QualifiedName {
    pub schema: String,
    pub name: String,
}

impl QualifiedName {
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        QualifiedName {
            schema: schema.into(),
            name: name.into(),
        }
    }

    /// Reads `schema.name` the way PostgreSQL does: unquoted parts fold to lower case, quoted parts are verbatim.
    ///
    /// ```
    /// use emaj::names::QualifiedName;
    /// let name = QualifiedName::parse(r#"Billing."Na.me""#).unwrap();
    /// assert_eq!((name.schema.as_str(), name.name.as_str()), ("billing", "Na.me"));
    /// ```
    ///
    /// Errors when there are not exactly two parts, when a part is empty, longer than 63 bytes, or holds a character
    /// that needs quotes; the error tells the byte where.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut parts = scan(text, false)?.into_iter().map(|part| {
            let at = part.start;
            let name: String = part.pieces.iter().map(Piece::as_char).collect();
            check_length(&name, at)?;
            Ok(name)
        });
        match (parts.next(), parts.next(), parts.next()) {
            (Some(schema), Some(name), None) => Ok(QualifiedName {
                schema: schema?,
                name: name?,
            }),
            (Some(name), None, _) => Err(NameError::new(0, Problem::NoSchema { name: name? })),
            _ => Err(NameError::new(0, Problem::TooManyParts)),
        }
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quote_ident(&self.schema), quote_ident(&self.name))
    }
}

/// Returns `name` as an SQL identifier, in double quotes only when PostgreSQL would need them.
pub fn quote_ident(name: &str) -> String {
    if is_plain(name) && !keywords::needs_quotes(name) {
        name.to_owned()
    } else {
        postgres_protocol::escape::escape_identifier(name)
    }
}

/// Returns `text` as an SQL string literal, safe whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    // The escape puts a blank before `E'…'` to part it from what stands before; our templates have one already.
    postgres_protocol::escape::escape_literal(text).trim_start().to_owned()
}

/// Returns names as people read several of them: "`a`, `b`".
pub(crate) fn listed<T: fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Returns a text that stays in its line: a comment ends with it, and a name with a line break must not get out of it.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'), " ")
}

/// Returns bytes in hexadecimal, two digits each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads one identifier (a column, a role, a schema), folded or verbatim like one part of a qualified name.
pub fn parse_ident(text: &str) -> Result<String, NameError> {
    let parts = scan(text, false)?;
    let [part] = parts.as_slice() else {
        return Err(NameError::new(0, Problem::TooManyParts));
    };
    let name: String = part.pieces.iter().map(Piece::as_char).collect();
    check_length(&name, part.start)?;
    Ok(name)
}

fn is_plain(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Checks that the server would keep `name` whole; it cuts longer ones in silence.
fn check_length(name: &str, at: usize) -> Result<(), NameError> {
    match name.len() {
        len if len > MAX_NAME_BYTES => Err(NameError::new(at, Problem::TooLong { len })),
        _ => Ok(()),
    }
}

/// A name or pattern that cannot be read, and the byte of the text where the reading stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    pub at: usize,
    pub problem: Problem,
}

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the name is empty")]
    Empty,
    #[error("`{name}` has no schema")]
    NoSchema { name: String },
    #[error("a name has at most a schema and a name, with one dot between")]
    TooManyParts,
    #[error("a part of the name is empty")]
    EmptyPart,
    #[error("the double quote is never closed")]
    OpenQuote,
    #[error("`{found}` needs double quotes around the name")]
    NeedsQuotes { found: char },
    #[error("a name cannot hold the character NUL")]
    Nul,
    #[error("the name is {len} bytes long, PostgreSQL keeps {MAX_NAME_BYTES}")]
    TooLong { len: usize },
}

impl NameError {
    pub(crate) fn new(at: usize, problem: Problem) -> Self {
        NameError { at, problem }
    }

    /// Returns what to write instead.
    pub fn hint(&self) -> String {
        match &self.problem {
            Problem::NoSchema { name } => format!("write `schema.{0}`, for example `public.{0}`", quote_ident(name)),
            Problem::NeedsQuotes { .. } => r#"put each name that needs them in double quotes: `"Odd Name"`"#.to_owned(),
            Problem::OpenQuote => "close it; a double quote inside a quoted name is written twice".to_owned(),
            Problem::TooLong { .. } => "look the name up in the database: it was cut when it was made".to_owned(),
            _ => "write `schema.table`".to_owned(),
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.problem, self.at + 1)
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(schema: &str, name: &str) -> QualifiedName {
        QualifiedName::new(schema, name)
    }

    #[test]
    fn parts_fold_unless_quoted() {
        assert_eq!(QualifiedName::parse("Public.Customer"), Ok(name("public", "customer")));
        assert_eq!(QualifiedName::parse(r#""Odd"."Na.me""#), Ok(name("Odd", "Na.me")));
        assert_eq!(QualifiedName::parse(r#"a."say ""hi""""#), Ok(name("a", r#"say "hi""#)));
        assert_eq!(QualifiedName::parse(" a . b "), Ok(name("a", "b")));
        assert_eq!(
            QualifiedName::parse("été.Über$1"),
            Ok(name("été", "Über$1".to_ascii_lowercase().as_str()))
        );
    }

    #[test]
    fn errors_say_where() {
        let error = |text: &str| QualifiedName::parse(text).unwrap_err();
        assert_eq!(error(""), NameError::new(0, Problem::Empty));
        assert_eq!(error("a."), NameError::new(2, Problem::EmptyPart));
        assert_eq!(error("a..b"), NameError::new(2, Problem::EmptyPart));
        assert_eq!(error(r#"a."""#), NameError::new(2, Problem::EmptyPart));
        assert_eq!(
            error("customer"),
            NameError::new(
                0,
                Problem::NoSchema {
                    name: "customer".into()
                }
            )
        );
        assert_eq!(error("a.b.c"), NameError::new(0, Problem::TooManyParts));
        assert_eq!(error(r#"a."b"#), NameError::new(2, Problem::OpenQuote));
        assert_eq!(error("a.b-c"), NameError::new(3, Problem::NeedsQuotes { found: '-' }));
        assert_eq!(error("a.1b"), NameError::new(2, Problem::NeedsQuotes { found: '1' }));
        assert_eq!(error("a.b*"), NameError::new(3, Problem::NeedsQuotes { found: '*' }));
        assert_eq!(error("a.\"\0\""), NameError::new(3, Problem::Nul));
        let long = format!("a.{}", "é".repeat(32));
        assert_eq!(error(&long), NameError::new(2, Problem::TooLong { len: 64 }));
        assert!(QualifiedName::parse(&format!("a.{}", "x".repeat(63))).is_ok());
    }

    #[test]
    fn bytes_have_two_digits_and_names_back_ticks() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
        assert_eq!(listed(["a", "b c"]), "`a`, `b c`");
        assert_eq!(listed::<&str>([]), "");
        assert_eq!(one_line("a\r\nb\u{2028}c"), "a  b c");
    }

    #[test]
    fn quotes_stand_only_where_needed() {
        assert_eq!(name("public", "customer").to_string(), "public.customer");
        assert_eq!(name("Odd Schema", "Name").to_string(), r#""Odd Schema"."Name""#);
        assert_eq!(quote_ident("order"), r#""order""#);
        assert_eq!(quote_ident("between"), r#""between""#);
        assert_eq!(quote_ident("name"), "name");
        assert_eq!(quote_ident("1a"), r#""1a""#);
        assert_eq!(quote_ident(""), r#""""#);
        assert_eq!(quote_ident(r#"a"b"#), r#""a""b""#);
        assert_eq!(quote_literal("O'Brien"), "'O''Brien'");
        assert_eq!(quote_literal(r"a\b"), r"E'a\\b'");
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        fn any_name() -> impl Strategy<Value = String> {
            let plain = "[a-z_\"'\\\\.*?! A-Zé$0-9-]{1,30}";
            prop_oneof![
                plain,
                "\\PC{1,15}".prop_filter("fits", |s| s.len() <= MAX_NAME_BYTES),
                Just("order".into())
            ]
            .prop_filter("fits", |s| !s.is_empty() && s.len() <= MAX_NAME_BYTES)
        }

        proptest! {
            #[test]
            fn display_and_parse_are_inverse(schema in any_name(), name in any_name()) {
                let name = QualifiedName { schema, name };
                prop_assert_eq!(QualifiedName::parse(&name.to_string()), Ok(name));
            }

            #[test]
            fn a_displayed_name_is_a_pattern_for_itself_only(schema in any_name(), name in any_name(), other in any_name()) {
                let name = QualifiedName { schema, name };
                let pattern = Pattern::parse(&name.to_string()).unwrap();
                prop_assert_eq!(pattern.is_exact(), Some(name.clone()));
                prop_assert!(pattern.matches(&name));
                let other = QualifiedName { schema: name.schema.clone(), name: other };
                prop_assert_eq!(pattern.matches(&other), other == name);
            }

            #[test]
            fn reading_never_panics(text in "\\PC*") {
                let _ = QualifiedName::parse(&text);
                let _ = Pattern::parse(&text);
                let _ = parse_ident(&text);
            }
        }
    }
}
