//! Turns a row as PostgreSQL's JSON into a line of `copy … from stdin`, knowing the types of the columns it goes to.
//!
//! Pure. It takes `json_populate_record`'s place: the server would read each JSON text again, which takes longer than writing the row.
//! What a JSON value means depends on the target: an array becomes an array literal, an object a row literal, `json` stays as it is.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::sink::Fault;

/// How a type writes its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text in, text out: numbers, dates, enums, ranges, and all that is not below.
    Scalar,
    /// `json` and `jsonb`.
    Json,
    /// The elements, and what parts them.
    Array(Box<Kind>, char),
    /// That of the extension `hstore`, which has a cast to `json`, and none from it.
    Hstore,
    /// `int2vector` and `oidvector`.
    Vector,
    /// What the type is called, and its attributes.
    Composite(String, Vec<(String, Kind)>),
}

/// One member of a row: its name, and its value as it was written.
pub(super) type Member<'a> = (Cow<'a, str>, &'a RawValue);

/// Reads a JSON object without reading its values.
pub(super) fn members(json: &str) -> Result<Vec<Member<'_>>, serde_json::Error> {
    serde_json::from_str::<Members<'_>>(json).map(|members| members.0)
}

struct Members<'a>(Vec<Member<'a>>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a row as a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Adds one field of a line of `copy`, without what parts it from the next.
///
/// # Errors
/// [`Verdict::Never`](crate::sink::Verdict::Never): it is no JSON; [`Verdict::Down`](crate::sink::Verdict::Down): its type has fewer attributes there.
pub(super) fn field(out: &mut Vec<u8>, value: &RawValue, kind: &Kind) -> Result<(), Fault> {
    let raw = value.get();
    // Most values are numbers, or strings with nothing to escape: they go as they are.
    if *kind == Kind::Scalar {
        if let Some(plain) = plain_string(raw) {
            out.extend_from_slice(plain.as_bytes());
            return Ok(());
        }
        if raw.bytes().all(|byte| byte.is_ascii_digit()) {
            out.extend_from_slice(raw.as_bytes());
            return Ok(());
        }
    }
    match literal(raw, kind)? {
        None => out.extend_from_slice(b"\\N"),
        Some(text) => escape(out, &text),
    }
    Ok(())
}

fn plain_string(raw: &str) -> Option<&str> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    (!inside.contains('\\')).then_some(inside)
}

fn escape(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.push(byte),
        }
    }
}

/// Returns the text from which a type's input function reads the value; `None` is NULL.
pub(super) fn literal<'a>(raw: &'a str, kind: &Kind) -> Result<Option<Cow<'a, str>>, Fault> {
    if raw == "null" {
        return Ok(None);
    }
    let first = raw.as_bytes().first().copied().unwrap_or_default();
    Ok(Some(match (kind, first) {
        (Kind::Json, _) => Cow::Borrowed(raw),
        // A string is the type's own text, whatever the type.
        (_, b'"') => match plain_string(raw) {
            Some(plain) => Cow::Borrowed(plain),
            None => serde_json::from_str::<Name<'a>>(raw).map_err(no_json)?.0,
        },
        (Kind::Array(..), b'[') => {
            let mut out = String::with_capacity(raw.len());
            array(&mut out, raw, kind)?;
            Cow::Owned(out)
        }
        (Kind::Vector, b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(no_json)?;
            // (A number of an `oidvector` is a string there.)
            let number = |item: &&RawValue| item.get().trim_matches('"').to_owned();
            Cow::Owned(items.iter().map(number).collect::<Vec<_>>().join(" "))
        }
        (Kind::Composite(name, attributes), b'{') => Cow::Owned(composite(raw, name, attributes)?),
        (Kind::Hstore, b'{') => Cow::Owned(hstore(raw)?),
        _ => Cow::Borrowed(raw),
    }))
}

/// Writes `{1,"a b",NULL}`; arrays in arrays are further dimensions, where the elements are no arrays themselves (a domain over one).
fn array(out: &mut String, raw: &str, kind: &Kind) -> Result<(), Fault> {
    let Kind::Array(element, delimiter) = kind else {
        return Ok(());
    };
    let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(no_json)?;
    out.push('{');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(*delimiter);
        }
        let is_dimension =
            item.get().starts_with('[') && !matches!(**element, Kind::Json | Kind::Vector | Kind::Array(..));
        if is_dimension {
            array(out, item.get(), kind)?;
        } else {
            match literal(item.get(), element)? {
                None => out.push_str("NULL"),
                Some(text) => quote(out, &text),
            }
        }
    }
    out.push('}');
    Ok(())
}

/// Writes `("1","a b",)`. An attribute that the value comes without is null there.
fn composite(raw: &str, name: &str, attributes: &[(String, Kind)]) -> Result<String, Fault> {
    let members = members(raw).map_err(no_json)?;
    let is_known = |member: &Member<'_>| attributes.iter().any(|(attribute, _)| *attribute == member.0);
    if let Some((unknown, _)) = members.iter().find(|member| !is_known(member)) {
        return Err(Fault::down(format!(
            "the type {name} of the other database has no attribute `{unknown}`: give it the attributes that the values come with, \
             or name the columns to be written under `row.columns`, without this one"
        )));
    }
    let mut out = String::with_capacity(raw.len());
    out.push('(');
    for (at, (attribute, kind)) in attributes.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let value = members.iter().find(|(member, _)| member == attribute);
        if let Some((_, value)) = value
            && let Some(text) = literal(value.get(), kind)?
        {
            quote(&mut out, &text);
        }
    }
    out.push(')');
    Ok(out)
}

fn no_json(_: serde_json::Error) -> Fault {
    Fault::never("a value of the row is no JSON")
}

/// Writes `"a"=>"b","c"=>NULL`.
fn hstore(raw: &str) -> Result<String, Fault> {
    let mut out = String::with_capacity(raw.len());
    for (at, (name, value)) in members(raw).map_err(no_json)?.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        quote(&mut out, name);
        out.push_str("=>");
        match literal(value.get(), &Kind::Scalar)? {
            None => out.push_str("NULL"),
            Some(text) => quote(&mut out, &text),
        }
    }
    Ok(out)
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str, kind: &Kind) -> String {
        let members = members(json).unwrap();
        let mut out = Vec::new();
        field(&mut out, members[0].1, kind).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn array_of(kind: Kind) -> Kind {
        Kind::Array(Box::new(kind), ',')
    }

    fn pair() -> Kind {
        let attributes = vec![("a".into(), Kind::Scalar), ("b".into(), array_of(Kind::Scalar))];
        Kind::Composite("pair".into(), attributes)
    }

    #[test]
    fn a_value_has_no_attributes_beside_those_of_its_type() {
        let json = r#"{"a":1,"b":null,"c":null}"#;
        for (json, kind) in [(json.to_owned(), pair()), (format!("[{json}]"), array_of(pair()))] {
            let fault = literal(&json, &kind).unwrap_err();
            assert_eq!(fault.verdict, crate::sink::Verdict::Down);
            assert!(
                fault.reason.contains("pair of the other database has no attribute `c`"),
                "{fault}"
            );
        }
    }

    #[test]
    fn each_kind_writes_its_values() {
        let pair = pair();
        for (json, kind, expected) in [
            ("null", Kind::Scalar, r"\N"),
            (
                "12345678901234567890.0123456789",
                Kind::Scalar,
                "12345678901234567890.0123456789",
            ),
            ("-1e-400", Kind::Scalar, "-1e-400"),
            ("true", Kind::Scalar, "true"),
            (r#""plain""#, Kind::Scalar, "plain"),
            (r#""""#, Kind::Scalar, ""),
            (r#""\\N""#, Kind::Scalar, r"\\N"),
            (
                r#""a\tb\nc\\d\"e\u00e9\ud83d\ude00""#,
                Kind::Scalar,
                "a\\tb\\nc\\\\d\"eé😀",
            ),
            (r#"{"k": [1, null]}"#, Kind::Scalar, r#"{"k": [1, null]}"#),
            (r#"{"k":"a\nb"}"#, Kind::Json, r#"{"k":"a\\nb"}"#),
            (r#""text""#, Kind::Json, r#""text""#),
            (
                r#"[1,null,"a b","NULL","q\"\\"]"#,
                array_of(Kind::Scalar),
                r#"{"1",NULL,"a b","NULL","q\\"\\\\"}"#,
            ),
            ("[[1,2],[3,4]]", array_of(Kind::Scalar), r#"{{"1","2"},{"3","4"}}"#),
            (
                "[[1,2],null,[3]]",
                array_of(array_of(Kind::Scalar)),
                r#"{"{\\"1\\",\\"2\\"}",NULL,"{\\"3\\"}"}"#,
            ),
            ("[]", array_of(Kind::Scalar), "{}"),
            (r#"[{"k":[1]},[2]]"#, array_of(Kind::Json), r#"{"{\\"k\\":[1]}","[2]"}"#),
            (
                r#"["(1,1),(0,0)"]"#,
                Kind::Array(Box::new(Kind::Scalar), ';'),
                r#"{"(1,1),(0,0)"}"#,
            ),
            ("[1, 2]", Kind::Vector, "1 2"),
            (
                r#"{"a": "b\"=>", "c": null}"#,
                Kind::Hstore,
                r#""a"=>"b\\"=>","c"=>NULL"#,
            ),
            ("{}", Kind::Hstore, ""),
            (r#"{"b":["x,y"],"a":null}"#, pair.clone(), r#"(,"{\\"x,y\\"}")"#),
            (r#"{"b":["x"]}"#, pair.clone(), r#"(,"{\\"x\\"}")"#),
            ("{}", pair.clone(), "(,)"),
            (r#"{"a":"p(q","b":null}"#, pair, r#"("p(q",)"#),
        ] {
            assert_eq!(line(&format!(r#"{{"v":{json}}}"#), &kind), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[1]", "1", "", "{", r#"{"a":1"#] {
            assert!(members(text).is_err(), "{text}");
        }
    }
}
