//! What a directory holds, as facts: read from what `ldapsearch` prints, to be compared with what the tables say.

use std::collections::BTreeSet;
use std::process::Output;

use base64::Engine as _;

use crate::errors::{Error, Kind, Result};

/// What a directory holds, or should hold: entry, attribute, value.
pub(super) type Facts = BTreeSet<(String, String, String)>;

/// Reads what `ldapsearch -LLL -o ldif-wrap=no` printed.
///
/// # Errors
/// What it said, when it did not end well.
pub(super) fn facts(output: &Output) -> Result<Facts> {
    let unreadable = |line: &str| Error::message(Kind::Failed, format!("bug: `{line}` is no line of LDIF"));
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::message(
            Kind::Failed,
            format!("`ldapsearch` failed: {}", said.trim()),
        ));
    }
    let mut facts = Facts::new();
    let mut entry = String::new();
    for line in String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !line.is_empty())
    {
        let (name, value) = line.split_once(':').ok_or_else(|| unreadable(line))?;
        let value = match value.strip_prefix(':') {
            Some(encoded) => base64::engine::general_purpose::STANDARD
                .decode(encoded.trim())
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .map_err(|_| unreadable(line))?,
            None => value.trim_start().to_owned(),
        };
        if name == "dn" {
            entry = value;
        } else {
            facts.insert((entry.clone(), name.to_owned(), value));
        }
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn said(code: i32, stdout: &str) -> Output {
        Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.into(),
            stderr: b"ldap_bind: no\n".into(),
        }
    }

    #[test]
    fn ldif_is_read_as_facts() {
        let facts = facts(&said(
            0,
            "dn: uid=a,dc=x\ncn:: w4Q=\nmail: a@x\nmail: b@x\n\ndn: uid=b,dc=x\ncn: B\n\n",
        ))
        .unwrap();
        let facts: Vec<_> = facts
            .iter()
            .map(|(dn, name, value)| format!("{dn} {name} {value}"))
            .collect();
        assert_eq!(
            facts,
            [
                "uid=a,dc=x cn Ä",
                "uid=a,dc=x mail a@x",
                "uid=a,dc=x mail b@x",
                "uid=b,dc=x cn B"
            ]
        );
    }

    #[test]
    fn a_search_that_failed_is_no_empty_directory() {
        assert_eq!(
            facts(&said(32, "")).unwrap_err().to_string(),
            "`ldapsearch` failed: ldap_bind: no"
        );
    }
}
