//! What a directory says about its attributes: their names, and how it compares their values.
//!
//! Read once for all connections of a sink. Without it (it may be hidden) values are compared byte by byte, which is never wrong: it
//! may only cost a write that changes nothing, or one more question.

use std::borrow::Cow;
use std::collections::HashMap;

use super::dn::{Dn, fold};

/// How values of an attribute are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Rule {
    /// Byte by byte, or in a way that is not known here.
    #[default]
    Exact,
    /// Upper and lower case are the same.
    Folded,
    /// They are names of entries.
    Dn,
    /// Not at all: single values can be neither added nor taken away.
    None,
}

impl Rule {
    /// Returns what two values have in common when the server takes them for one.
    pub(super) fn equal(self, value: &[u8]) -> Cow<'_, [u8]> {
        match (self, std::str::from_utf8(value)) {
            (Rule::Folded, Ok(text)) => Cow::Owned(fold(text).into_bytes()),
            (Rule::Dn, _) => self.stored(value),
            _ => Cow::Borrowed(value),
        }
    }

    /// Returns what two values have in common when the one may be found where the other was written. Names of entries are rewritten
    /// by servers; all else stays as it is.
    pub(super) fn stored(self, value: &[u8]) -> Cow<'_, [u8]> {
        match (self, std::str::from_utf8(value)) {
            (Rule::Dn, Ok(text)) => match Dn::parse(text) {
                Ok(dn) => Cow::Owned(dn.normal().into_bytes()),
                Err(_) => Cow::Borrowed(value),
            },
            _ => Cow::Borrowed(value),
        }
    }
}

/// The attributes that are known.
#[derive(Debug, Default)]
pub(super) struct Schema {
    types: HashMap<String, Type>,
}

#[derive(Debug)]
struct Type {
    /// As the server answers it.
    name: String,
    rule: Rule,
    /// Texts that differ in upper and lower case are two.
    is_case_exact: bool,
}

impl Schema {
    /// Reads the values of `attributeTypes` (RFC 4512, 4.1.2).
    pub(super) fn read<'a>(definitions: impl IntoIterator<Item = &'a str>) -> Schema {
        let read: Vec<Definition> = definitions.into_iter().filter_map(Definition::read).collect();
        let mut by_name: HashMap<&str, &Definition> = HashMap::new();
        for definition in &read {
            for name in &definition.names {
                by_name.insert(name, definition);
            }
        }
        let types = by_name
            .iter()
            .map(|(name, definition)| {
                let first = definition.names.get(1).unwrap_or(&definition.names[0]);
                let decisive = decisive(definition, &by_name);
                let known = Type {
                    name: first.clone(),
                    rule: rule(decisive, &by_name),
                    is_case_exact: decisive.equality.as_deref().is_some_and(is_case_exact),
                };
                ((*name).to_owned(), known)
            })
            .collect();
        Schema { types }
    }

    /// Returns the name under which the server answers, in lower case, options included (`cn;lang-de`).
    pub(super) fn name(&self, name: &str) -> String {
        let lower = name.to_ascii_lowercase();
        let (base, options) = lower.split_at(lower.find(';').unwrap_or(lower.len()));
        match self.types.get(base) {
            Some(known) => format!("{}{options}", known.name),
            None => lower,
        }
    }

    pub(super) fn rule(&self, name: &str) -> Rule {
        let lower = name.to_ascii_lowercase();
        let base = lower.split(';').next().unwrap_or_default();
        match self.types.get(base) {
            Some(known) => known.rule,
            // These two are the same everywhere.
            None if base == "objectclass" => Rule::Folded,
            None => Rule::Exact,
        }
    }

    /// Tells whether the server says that two texts of an attribute are two when they differ in upper and lower case only.
    pub(super) fn is_case_exact(&self, name: &str) -> bool {
        let known = self.types.get(&name.to_ascii_lowercase());
        known.is_some_and(|known| known.is_case_exact)
    }
}

struct Definition {
    /// The number, then the names, in lower case.
    names: Vec<String>,
    superior: Option<String>,
    equality: Option<String>,
    syntax: Option<String>,
}

impl Definition {
    fn read(text: &str) -> Option<Definition> {
        let words = words(text);
        let mut definition = Definition {
            names: vec![words.get(1)?.to_ascii_lowercase()],
            superior: None,
            equality: None,
            syntax: None,
        };
        let mut at = 2;
        while let Some(word) = words.get(at) {
            let next = || words.get(at + 1).map(|word| word.to_ascii_lowercase());
            match word.as_str() {
                "NAME" if words.get(at + 1).is_some_and(|word| word == "(") => {
                    let names = words[at + 2..].iter().take_while(|word| *word != ")");
                    definition.names.extend(names.map(|name| name.to_ascii_lowercase()));
                }
                "NAME" => definition.names.extend(next()),
                "SUP" => definition.superior = next(),
                "EQUALITY" => definition.equality = next(),
                "SYNTAX" => {
                    definition.syntax = next().map(|text| text.split('{').next().unwrap_or_default().to_owned());
                }
                _ => {}
            }
            at += 1;
        }
        Some(definition)
    }
}

/// Takes a definition apart: parentheses, quoted texts without their quotes, words.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '\'' => {
                is_quoted = !is_quoted;
                if !is_quoted {
                    words.push(std::mem::take(&mut word));
                }
            }
            c if is_quoted => word.push(c),
            '(' | ')' | ' ' | '\n' | '\t' => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                if c == '(' || c == ')' {
                    words.push(c.to_string());
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Finds the definition that says how values are compared: that of the attribute, or of the one that it is a kind of.
fn decisive<'d>(mut definition: &'d Definition, by_name: &HashMap<&str, &'d Definition>) -> &'d Definition {
    // A circle is no schema; a server may say anything.
    for _ in 0..16 {
        match definition.superior.as_deref().and_then(|name| by_name.get(name)) {
            Some(superior) if definition.equality.is_none() => definition = superior,
            _ => break,
        }
    }
    definition
}

fn rule(definition: &Definition, by_name: &HashMap<&str, &Definition>) -> Rule {
    match definition.equality.as_deref() {
        Some("distinguishednamematch" | "uniquemembermatch" | "2.5.13.1" | "2.5.13.23") => Rule::Dn,
        Some(
            "caseignorematch"
            | "caseignoreia5match"
            | "caseignorelistmatch"
            | "objectidentifiermatch"
            | "2.5.13.2"
            | "2.5.13.0"
            | "1.3.6.1.4.1.1466.109.114.2",
        ) => Rule::Folded,
        Some(_) => Rule::Exact,
        // A directory that names no rules at all (Active Directory) has them all the same.
        None => match definition.syntax.as_deref() {
            Some("1.3.6.1.4.1.1466.115.121.1.12") => Rule::Dn,
            _ if by_name.values().any(|any| any.equality.is_some()) => Rule::None,
            _ => Rule::Exact,
        },
    }
}

fn is_case_exact(equality: &str) -> bool {
    matches!(
        equality,
        "caseexactmatch" | "caseexactia5match" | "2.5.13.5" | "1.3.6.1.4.1.1466.109.114.1"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::read([
            "( 2.5.4.41 NAME 'name' DESC 'RFC4519: (a) name' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15{32768} )",
            "( 2.5.4.3 NAME ( 'cn' 'commonName' ) SUP name )",
            "( 2.5.4.49 NAME 'distinguishedName' EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )",
            "( 2.5.4.31 NAME 'member' SUP distinguishedName )",
            "( 0.9.2342.19200300.100.1.60 NAME 'jpegPhoto' SYNTAX 1.3.6.1.4.1.1466.115.121.1.28 )",
            "( 1.3.6.1.1.1.1.12 NAME 'memberUid' EQUALITY caseExactIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )",
            "( 1.2.3 NAME 'loop' SUP loop )",
        ])
    }

    #[test]
    fn rules_come_from_above_where_they_are_not_said() {
        let schema = schema();
        assert_eq!(schema.rule("commonName"), Rule::Folded);
        assert_eq!(schema.rule("CN;lang-de"), Rule::Folded);
        assert_eq!(schema.rule("member"), Rule::Dn);
        assert_eq!(schema.rule("jpegPhoto"), Rule::None);
        assert_eq!(schema.rule("memberUid"), Rule::Exact);
        assert_eq!(schema.rule("unknown"), Rule::Exact);
        assert_eq!(schema.rule("loop"), Rule::None);
        assert!(schema.is_case_exact("memberUID") && !schema.is_case_exact("cn") && !schema.is_case_exact("unknown"));
    }

    #[test]
    fn an_attribute_has_one_name() {
        let schema = schema();
        assert_eq!(schema.name("commonName"), "cn");
        assert_eq!(schema.name("2.5.4.3;lang-de"), "cn;lang-de");
        assert_eq!(schema.name("Other"), "other");
    }
}
