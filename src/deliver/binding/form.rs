//! The form of what a template makes: the text that is always there, and the column between, where it is one. By that the rows are found of which it may have
//! made a text that is given. Pure.

use std::collections::BTreeSet;

use super::columns::column_of;
use crate::sink::ldap::folded;

/// The form of what a template makes.
#[derive(Debug)]
pub(super) struct Form {
    before: String,
    after: String,
    column: Option<String>,
    /// There is no code in it.
    is_constant: bool,
}

impl Form {
    pub(super) fn of(template: &str) -> Form {
        let begins = ["{{", "{%", "{#"].iter().filter_map(|open| template.find(open)).min();
        let ends = ["}}", "%}", "#}"].iter().filter_map(|end| template.rfind(end)).max();
        let (before, after) = match (begins, ends) {
            (Some(begins), Some(ends)) if begins < ends => (&template[..begins], &template[ends + 2..]),
            (Some(begins), _) => (&template[..begins], ""),
            (None, _) => (template, ""),
        };
        Form {
            before: before.to_owned(),
            after: after.to_owned(),
            column: column_of(template),
            is_constant: begins.is_none(),
        }
    }

    /// Tells whether the template may have made a text: a name of an entry ends with the entries above.
    pub(super) fn may_be(&self, text: &str) -> bool {
        if self.is_constant {
            return folded(text) == folded(&self.before);
        }
        let above = match self.after.split_once(',') {
            Some((_, above)) if !self.after.contains(['\\', '"']) => folded(above),
            _ => return true,
        };
        folded(text).ends_with(&above)
    }

    /// Tells whether the template may have made the name of an entry, or a filter of one comparison: it begins with a type of attribute too.
    pub(super) fn may_be_name(&self, dn: &str) -> bool {
        let of = |text: &str| Some(text.split_once('=')?.0.trim().to_ascii_lowercase());
        self.may_be(dn) && of(&self.before).is_none_or(|own| of(dn).is_none_or(|other| own == other))
    }

    /// Returns the column that the template shows, and the texts (as JSON) of which it has one in rows of which this was made, in upper or lower case; `None`: that
    /// cannot be said.
    pub(super) fn shown(&self, text: &str) -> Option<(String, BTreeSet<String>)> {
        let (before, after) = (self.before.len(), self.after.len());
        let end = text.len().checked_sub(after).filter(|end| *end >= before)?;
        let (head, tail) = (text.get(..before)?, text.get(end..)?);
        let is_like = head.eq_ignore_ascii_case(&self.before) && tail.eq_ignore_ascii_case(&self.after);
        let value = text.get(before..end).filter(|_| is_like)?;
        // (What is escaped in a name, or in a filter, is itself in a text of another kind.)
        let texts = [value.to_owned(), unescaped(value)?];
        let texts = texts.into_iter().map(|text| serde_json::Value::from(text).to_string());
        Some((self.column.clone()?, texts.collect()))
    }
}

/// Returns what is escaped in a name of an entry (RFC 4514) or in a filter (RFC 4515); `None`: nothing that can be a text.
fn unescaped(value: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value.as_bytes());
    loop {
        rest = match rest {
            [] => return String::from_utf8(bytes).ok(),
            [b'\\', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let hex = std::str::from_utf8(&rest[1..3]).ok()?;
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                behind
            }
            [b'\\'] => return None,
            [b'\\', byte, behind @ ..] | [byte, behind @ ..] => {
                bytes.push(*byte);
                behind
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_of_which_rows_it_may_be() {
        let form = Form::of("cn={{ row.team }},ou=groups,dc=x");
        assert_eq!(
            form.shown("CN=red,ou=Groups,dc=x"),
            Some(("team".to_owned(), BTreeSet::from(["\"red\"".to_owned()])))
        );
        let texts = |text| {
            let (_, texts) = form.shown(text)?;
            Some(texts.into_iter().collect::<Vec<_>>().join(" "))
        };
        assert_eq!(texts("cn=a\\,b,ou=groups,dc=x").unwrap(), r#""a,b" "a\\,b""#);
        assert_eq!(
            texts("cn=\\c3\\a9\\5C,ou=groups,dc=x").unwrap(),
            r#""\\c3\\a9\\5C" "é\\""#
        );
        assert_eq!(texts("cn=\\ff,ou=groups,dc=x"), None, "no text");
        assert_eq!(texts("cn=a\\,ou=groups,dc=x"), None, "another entry above");
        assert_eq!(form.shown("cn=,ou=x"), None);
        for (template, name, may) in [
            ("cn={{ row.team }},ou=groups,dc=x", "cn=red, ou=Groups,dc=x", true),
            ("cn={{ row.team }},ou=groups,dc=x", "cn=red,ou=roles,dc=x", false),
            (
                "{{ row.kind }}={{ row.team }}{% if row.a %},ou=b{% endif %},dc=x",
                "cn=red,ou=roles,dc=x",
                true,
            ),
            ("{{ row.dn }}", "cn=red,ou=roles,dc=x", true),
            ("cn=all,ou=roles,dc=x", "cn=red,ou=roles,dc=x", false),
            ("cn=all,ou=roles,dc=x", "CN=All, ou=roles,dc=x", true),
        ] {
            assert_eq!(Form::of(template).may_be(name), may, "{template} {name}");
        }
        for (template, may) in [
            ("cn={{ row.team }},ou=groups,dc=x", true),
            ("uid={{ row.team }},ou=groups,dc=x", false),
            ("{{ row.dn }}", true),
        ] {
            assert_eq!(
                Form::of(template).may_be_name("CN=red,ou=groups,dc=x"),
                may,
                "{template}"
            );
        }
        assert_eq!(Form::of("{{ row.a }}{{ row.b }}").shown("ab"), None);
        assert_eq!(Form::of("constant").shown("constant"), None);
    }
}
