//! Changes as LDIF (RFC 2849): what `ldapmodify` would take.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::change::{Change, Kind, Verb};

/// The longest line, its break not counted.
const WIDTH: usize = 76;

/// Returns a change as a record, without a blank line at its end.
pub(super) fn record(change: &Change) -> String {
    let mut out = String::new();
    line(&mut out, "dn", change.dn.as_bytes());
    match &change.kind {
        Kind::Add(attributes) => {
            line(&mut out, "changetype", b"add");
            for (name, values) in attributes {
                values.iter().for_each(|value| line(&mut out, name, value));
            }
        }
        Kind::Modify(mods) => {
            line(&mut out, "changetype", b"modify");
            for one in mods {
                let verb = match one.verb {
                    Verb::Add => "add",
                    Verb::Delete => "delete",
                    Verb::Replace => "replace",
                };
                line(&mut out, verb, one.name.as_bytes());
                one.values.iter().for_each(|value| line(&mut out, &one.name, value));
                out.push_str("-\n");
            }
        }
        Kind::Rename {
            rdn,
            delete_old,
            superior,
        } => {
            line(&mut out, "changetype", b"modrdn");
            line(&mut out, "newrdn", rdn.as_bytes());
            line(&mut out, "deleteoldrdn", if *delete_old { b"1" } else { b"0" });
            if let Some(superior) = superior {
                line(&mut out, "newsuperior", superior.as_bytes());
            }
        }
        Kind::Delete => line(&mut out, "changetype", b"delete"),
    }
    out
}

/// Writes one line, in base64 where the value could be misread, folded.
fn line(out: &mut String, name: &str, value: &[u8]) {
    let text = match std::str::from_utf8(value) {
        Ok(text) if is_safe(value) => format!("{name}:{}{text}", if text.is_empty() { "" } else { " " }),
        _ => format!("{name}:: {}", STANDARD.encode(value)),
    };
    // All is ASCII now: a byte is a sign.
    let mut rest = text.as_str();
    let mut width = WIDTH;
    while rest.len() > width {
        let (head, tail) = rest.split_at(width);
        out.push_str(head);
        out.push_str("\n ");
        (rest, width) = (tail, WIDTH - 1);
    }
    out.push_str(rest);
    out.push('\n');
}

/// Tells whether a value stands for itself (`SAFE-STRING`). One with a space at its end does by the letter, but nobody sees it.
fn is_safe(value: &[u8]) -> bool {
    let is_inside = |byte: &u8| byte.is_ascii() && !matches!(byte, 0 | b'\n' | b'\r');
    let is_first = |byte: &u8| !matches!(byte, b' ' | b':' | b'<');
    value.iter().all(is_inside) && value.first().is_none_or(is_first) && value.last() != Some(&b' ')
}

#[cfg(test)]
mod tests {
    use super::super::change::Mod;
    use super::*;

    #[test]
    fn records_read_as_ldapmodify_wants_them() {
        let values = |list: &[&str]| list.iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>();
        let add = Change::new(
            "uid=a,dc=x",
            Kind::Add(vec![
                (
                    "cn".to_owned(),
                    values(&["plain", " led", "é", ":", "", "end ", &"x".repeat(80)]),
                ),
                ("description".to_owned(), values(&["a\nb"])),
            ]),
        );
        let long = format!("cn: {}\n {}\n", "x".repeat(72), "x".repeat(8));
        let expected =
            "dn: uid=a,dc=x\nchangetype: add\ncn: plain\ncn:: IGxlZA==\ncn:: w6k=\ncn:: Og==\ncn:\ncn:: ZW5kIA==\n";
        assert_eq!(record(&add), format!("{expected}{long}description:: YQpi\n"));
        let mods = Change::new(
            "uid=é,dc=x",
            Kind::Modify(vec![
                Mod::new(Verb::Replace, "mail", values(&["a@x"])),
                Mod::new(Verb::Delete, "sn", values(&[])),
            ]),
        );
        let expected = "dn:: dWlkPcOpLGRjPXg=\nchangetype: modify\nreplace: mail\nmail: a@x\n-\ndelete: sn\n-\n";
        assert_eq!(record(&mods), expected);
        let kind = Kind::Rename {
            rdn: "uid=b".to_owned(),
            delete_old: true,
            superior: Some("ou=y,dc=x".to_owned()),
        };
        let expected = "dn: uid=a,dc=x\nchangetype: modrdn\nnewrdn: uid=b\ndeleteoldrdn: 1\nnewsuperior: ou=y,dc=x\n";
        assert_eq!(record(&Change::new("uid=a,dc=x", kind)), expected);
    }
}
