//! Distinguished names taken apart (RFC 4514), and brought into one form in which equal names are equal texts.
//!
//! The normal form is for comparing only, never sent: attribute types by their short names in lower case, values folded as a server's
//! `caseIgnoreMatch` folds them. Where a server tells two names apart that are one here, nothing is lost: it means that two
//! deliveries are not done at the same time. Which entry is meant is told by the name's identity, which knows the server's schema.

use std::fmt::Write as _;

use unicode_normalization::UnicodeNormalization as _;

use super::schema::Schema;

/// A name: its components, the entry's own first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dn(pub(super) Vec<Rdn>);

/// One component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rdn {
    /// As it was written.
    pub(super) text: String,
    pub(super) parts: Vec<Part>,
}

/// An attribute and its value: most components have one, `cn=a+sn=b` has two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// As it was written.
    pub(super) name: String,
    pub(super) value: Vec<u8>,
}

/// A name that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no distinguished name: {0}")]
pub(super) struct BadDn(&'static str);

impl Dn {
    /// Reads a name. The empty text is the root, which has no component.
    pub(super) fn parse(text: &str) -> Result<Dn, BadDn> {
        if text.trim().is_empty() {
            return Ok(Dn(Vec::new()));
        }
        split(text, ',')
            .into_iter()
            .map(Rdn::parse)
            .collect::<Result<_, _>>()
            .map(Dn)
    }

    /// Returns the normal form.
    pub(super) fn normal(&self) -> String {
        self.0.iter().map(Rdn::normal).collect::<Vec<_>>().join(",")
    }

    /// Returns the normal form in which two names are one only when they are to the server: where an attribute is compared with upper and lower
    /// case, its values keep theirs.
    pub(super) fn identity(&self, schema: &Schema) -> String {
        let part = |part: &Part| match schema.is_case_exact(&part.name) {
            true => part.normal_with(same_case),
            false => part.normal(),
        };
        let of_each = self.0.iter().map(|rdn| rdn.joined(part));
        of_each.collect::<Vec<_>>().join(",")
    }

    /// Returns the normal forms of this name, of what is above it, and so on up to the top.
    pub(super) fn normal_line(&self) -> Vec<String> {
        let normal: Vec<String> = self.0.iter().map(Rdn::normal).collect();
        (0..normal.len()).map(|from| normal[from..].join(",")).collect()
    }

    /// Returns the name of the entry above, as it was written.
    pub(super) fn parent(&self) -> String {
        let above: Vec<&str> = self.0.iter().skip(1).map(|rdn| rdn.text.as_str()).collect();
        above.join(",")
    }
}

impl Rdn {
    pub(super) fn parse(text: &str) -> Result<Rdn, BadDn> {
        let parts = split(text, '+')
            .into_iter()
            .map(Part::parse)
            .collect::<Result<_, _>>()?;
        Ok(Rdn {
            text: text.trim_start().to_owned(),
            parts,
        })
    }

    pub(super) fn normal(&self) -> String {
        self.joined(Part::normal)
    }

    fn joined(&self, form: impl Fn(&Part) -> String) -> String {
        let mut parts: Vec<String> = self.parts.iter().map(form).collect();
        parts.sort_unstable();
        parts.join("+")
    }
}

impl Part {
    pub(super) fn parse(text: &str) -> Result<Part, BadDn> {
        let (name, value) = text.split_once('=').ok_or(BadDn("a component has no `=`"))?;
        let name = name.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ';' | '_');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(BadDn("a component does not begin with the name of an attribute"));
        }
        Ok(Part {
            name: name.to_owned(),
            value: unescape(value)?,
        })
    }

    pub(super) fn normal(&self) -> String {
        self.normal_with(fold)
    }

    fn normal_with(&self, form: impl Fn(&str) -> String) -> String {
        let mut out = format!("{}=", short_name(&self.name));
        match std::str::from_utf8(&self.value) {
            Ok(text) => out.push_str(&super::escape::dn_value(&form(text))),
            Err(_) => self.value.iter().for_each(|byte| _ = write!(out, "\\{byte:02x}")),
        }
        out
    }
}

/// Returns a form of a value in which values that most directories take for one are one: of a name its normal form, of any other text the
/// folded one.
pub fn folded(value: &str) -> String {
    match Dn::parse(value) {
        Ok(dn) if !dn.0.is_empty() => dn.normal(),
        _ => fold(value),
    }
}

/// Folds a text as `caseIgnoreMatch` does, near enough: case, compatible forms, runs of spaces.
pub(super) fn fold(text: &str) -> String {
    same_case(&text.nfkc().flat_map(char::to_lowercase).collect::<String>())
}

/// The same as `caseExactMatch` does.
fn same_case(text: &str) -> String {
    let prepared: String = text.nfkc().collect();
    prepared.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the name of an attribute as servers write it in names of entries (RFC 4519), in lower case.
pub(super) fn short_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("oid.").unwrap_or(&name);
    match name {
        "commonname" | "2.5.4.3" => "cn",
        "surname" | "2.5.4.4" => "sn",
        "countryname" | "2.5.4.6" => "c",
        "localityname" | "2.5.4.7" => "l",
        "stateorprovincename" | "2.5.4.8" => "st",
        "streetaddress" | "2.5.4.9" => "street",
        "organizationname" | "2.5.4.10" => "o",
        "organizationalunitname" | "2.5.4.11" => "ou",
        "gn" | "2.5.4.42" => "givenname",
        "userid" | "0.9.2342.19200300.100.1.1" => "uid",
        "rfc822mailbox" | "0.9.2342.19200300.100.1.3" => "mail",
        "domaincomponent" | "0.9.2342.19200300.100.1.25" => "dc",
        "email" | "emailaddress" | "pkcs9email" | "1.2.840.113549.1.9.1" => "email",
        other => other,
    }
    .to_owned()
}

/// Splits at a separator that is neither escaped nor quoted.
pub(super) fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut from, mut is_escaped, mut is_quoted) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            c if c == separator && !is_quoted => {
                parts.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn unescape(text: &str) -> Result<Vec<u8>, BadDn> {
    let text = text.trim_start_matches(' ');
    if let Some(hex) = text.strip_prefix('#') {
        return ber_string(hex.trim_end_matches(' '));
    }
    let bytes = text.as_bytes();
    let (mut out, mut at, mut kept) = (Vec::with_capacity(bytes.len()), 0, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'\\' => {
                let (value, used) = escaped(&bytes[at..])?;
                out.push(value);
                at += used;
                // Spaces at the end count when they are escaped.
                kept = out.len();
            }
            // Quotes around a value, of RFC 2253.
            b'"' => kept = out.len(),
            _ => {
                out.push(byte);
                if byte != b' ' {
                    kept = out.len();
                }
            }
        }
    }
    out.truncate(kept);
    Ok(out)
}

fn escaped(rest: &[u8]) -> Result<(u8, usize), BadDn> {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    match *rest {
        [high, low, ..] if hex(high).is_some() && hex(low).is_some() => {
            let digit = |byte| hex(byte).unwrap_or_default() as u8;
            Ok((digit(high) * 16 + digit(low), 2))
        }
        [byte, ..] if byte.is_ascii_punctuation() || byte == b' ' => Ok((byte, 1)),
        _ => Err(BadDn(
            "a `\\` is followed neither by two hexadecimal digits nor by a sign",
        )),
    }
}

/// Reads a value that is given as a string in BER, `#04024869`.
fn ber_string(hex: &str) -> Result<Vec<u8>, BadDn> {
    const BAD: BadDn = BadDn("a value that begins with `#` is no string in hexadecimal BER");
    let bytes = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2))
        .map(|pair| pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or(BAD)?;
    match bytes.as_slice() {
        [_, length, content @ ..] if *length < 0x80 && content.len() == usize::from(*length) => Ok(content.to_vec()),
        [_, length, rest @ ..] if *length > 0x80 && rest.len() > usize::from(length & 0x7f) => {
            Ok(rest[usize::from(length & 0x7f)..].to_vec())
        }
        _ => Err(BAD),
    }
}

#[cfg(test)]
mod tests {
    use super::super::escape::dn_value;
    use super::*;

    fn normal(text: &str) -> String {
        Dn::parse(text).unwrap().normal()
    }

    #[test]
    fn equal_names_have_one_form() {
        assert_eq!(normal("UID=Bob , OU=People,dc=x"), "uid=bob,ou=people,dc=x");
        assert_eq!(normal("commonName=A  B,o=x"), normal("CN=a b,organizationName=X"));
        assert_eq!(normal("sn=b+cn=a"), "cn=a+sn=b");
        assert_eq!(normal(r"cn=a\,b"), r"cn=a\2cb");
        assert_eq!(normal(r#"cn="a,b""#), r"cn=a\2cb");
        assert_eq!(normal("cn=#04024869"), "cn=hi");
        assert_eq!(normal(r"cn=\c3\a9"), "cn=é");
        assert_eq!(normal("cn=e\u{301}"), "cn=é");
        assert_eq!(normal(""), "");
    }

    #[test]
    fn values_come_back_as_they_went_in() {
        for value in ["a,b=c+d", " x ", "#1", "a\nb\0", "\\", "\"q\"", "é;<>", "a\n"] {
            let dn = Dn::parse(&format!("cn={},ou={},dc=x", dn_value(value), dn_value(value))).unwrap();
            assert_eq!(dn.0.len(), 3, "{value:?}");
            assert_eq!(dn.0[0].parts[0].value, value.as_bytes(), "{value:?}");
            assert_eq!(dn.0[1].parts[0].value, value.as_bytes(), "{value:?}");
        }
    }

    #[test]
    fn the_line_goes_up() {
        let dn = Dn::parse("cn=a,ou=b,dc=c").unwrap();
        assert_eq!(dn.normal_line(), ["cn=a,ou=b,dc=c", "ou=b,dc=c", "dc=c"]);
        assert_eq!(dn.parent(), "ou=b,dc=c");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "x",
            "=a",
            "a b=c",
            r"cn=\",
            r"cn=\é",
            "cn=#0",
            "cn=#04ff",
            "cn=a,,dc=x",
            "cn=#é",
        ] {
            assert!(Dn::parse(text).is_err(), "{text}");
        }
    }
}
