//! Values made safe for a distinguished name (RFC 4514) and for a search filter (RFC 4515).
//!
//! `deliver` calls these for every value that a template puts into a `dn`, a `base` or a `filter`; the manifest has no way
//! around them.

use std::fmt::Write as _;

/// Returns `value` as it stands for itself in a distinguished name.
///
/// More than RFC 4514 asks for is escaped: OpenLDAP drops line breaks and tabs at the ends of a value as if they were spaces.
///
/// ```
/// use emaj::sink::ldap::dn_value;
/// assert_eq!(dn_value("x,ou=admins"), r"x\2cou\3dadmins");
/// assert_eq!(dn_value(" #é "), r"\20#é\20");
/// ```
pub fn dn_value(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 8);
    for (at, c) in value.char_indices() {
        let is_edge = (c == ' ' && (at == 0 || at + 1 == value.len())) || (c == '#' && at == 0);
        let is_special = matches!(c, '"' | '+' | ',' | ';' | '<' | '=' | '>' | '\\') || c.is_ascii_control();
        if is_edge || is_special {
            _ = write!(out, "\\{:02x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns `value` as it stands for itself in a search filter.
///
/// ```
/// use emaj::sink::ldap::filter_value;
/// assert_eq!(filter_value("a*)(uid=*"), r"a\2a\29\28uid=\2a");
/// ```
pub fn filter_value(value: &str) -> String {
    ldap3::ldap_escape(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_value_of_a_dn() {
        assert_eq!(dn_value(r#"a+b"c;d<e>f\g"#), r"a\2bb\22c\3bd\3ce\3ef\5cg");
        assert_eq!(dn_value("a\0b\nc"), r"a\00b\0ac");
        assert_eq!(dn_value("  "), r"\20\20");
        assert_eq!(dn_value("a  b#"), "a  b#");
        assert_eq!(dn_value(""), "");
    }

    #[test]
    fn nothing_ends_a_value_of_a_filter() {
        assert_eq!(filter_value("(a\\\0)"), r"\28a\5c\00\29");
        assert_eq!(filter_value("é"), "é");
    }
}
