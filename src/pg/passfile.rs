//! Finds a password in a file such as `~/.pgpass`, by the rules of libpq's `passwordFromFile`.
//!
//! Each line is `host:port:database:user:password`; the first that fits is taken. A file that others may read is left
//! alone, with a warning; one that is not there is no matter.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::SecretString;

/// What a password is wanted for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) dbname: &'a str,
    pub(super) user: &'a str,
}

/// Returns the lines of a password file, or none when it is not there; the error is a warning for the user.
pub(super) fn read(file: &Path) -> Result<Option<SecretString>, String> {
    let about = match std::fs::metadata(file) {
        Ok(about) => about,
        Err(_) => return Ok(None),
    };
    let shown = file.display();
    if !about.is_file() {
        return Err(format!(
            "the password file `{shown}` is not used: it is not a plain file"
        ));
    }
    let mode = about.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "the password file `{shown}` is not used: group or others have access to it (mode {:04o}); \
             run `chmod 0600 {shown}`",
            mode & 0o7777
        ));
    }
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(SecretString::from(String::from_utf8_lossy(&bytes).into_owned()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("the password file `{shown}` is not used: {error}")),
    }
}

/// Returns the password of the first line that fits.
pub(super) fn find(text: &str, wanted: Wanted<'_>) -> Option<SecretString> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| password(line, wanted))
}

fn password(line: &str, wanted: Wanted<'_>) -> Option<SecretString> {
    let rest = after_field(line, wanted.host)?;
    let rest = after_field(rest, &wanted.port.to_string())?;
    let rest = after_field(rest, wanted.dbname)?;
    let rest = after_field(rest, wanted.user)?;
    let mut password = String::new();
    let mut chars = rest.trim_end_matches('\r').chars();
    while let Some(c) = chars.next() {
        match c {
            ':' => break,
            // A backslash at the very end stands for itself.
            '\\' => password.push(chars.next().unwrap_or('\\')),
            c => password.push(c),
        }
    }
    Some(SecretString::from(password))
}

/// Returns what follows the first field and its colon, if the field stands for `value`.
fn after_field<'a>(line: &'a str, value: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let (mut rest, mut value) = (line.chars(), value.chars());
    loop {
        let before = rest.as_str();
        match rest.next()? {
            ':' if value.as_str().is_empty() => return Some(&before[1..]),
            '\\' => {
                if value.next()? != rest.next()? {
                    return None;
                }
            }
            c => {
                if value.next()? != c {
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn lines_fit_or_do_not() {
        let wanted = Wanted {
            host: "h",
            port: 5433,
            dbname: "d",
            user: "u",
        };
        let odd = Wanted {
            host: "fe80::1",
            port: 1,
            dbname: "a:b\\c",
            user: "*",
        };
        for (text, wanted, expected) in [
            ("h:5433:d:u:secret", wanted, Some("secret")),
            ("*:*:*:*:secret", wanted, Some("secret")),
            ("*:*:*:*:secret\r\n", wanted, Some("secret")),
            ("h:5432:d:u:no\nh:*:d:u:first\n*:*:*:*:second", wanted, Some("first")),
            ("# h:5433:d:u:no\n", wanted, None),
            ("#h:5433:d:u:no\n", wanted, None),
            (" h:5433:d:u:no", wanted, None),
            ("h2:5433:d:u:no", wanted, None),
            ("H:5433:d:u:no", wanted, None),
            ("h*:5433:d:u:no", wanted, None),
            ("h:5433:d:u", wanted, None),
            ("h:5433:d", wanted, None),
            ("", wanted, None),
            ("h:5433:d:u:", wanted, Some("")),
            ("h:5433:d:u:pa\\:ss\\\\word", wanted, Some("pa:ss\\word")),
            ("h:5433:d:u:cut:here", wanted, Some("cut")),
            ("h:5433:d:u:  spaces ", wanted, Some("  spaces ")),
            ("h:5433:d:u:end\\", wanted, Some("end\\")),
            ("fe80\\:\\:1:1:a\\:b\\\\c:*:x", odd, Some("x")),
            ("fe80\\:\\:1:1:a\\:b\\\\c:\\*:x", odd, Some("x")),
            ("fe80::1:1:a:b:*:x", odd, None),
        ] {
            let found = find(text, wanted);
            assert_eq!(
                found.as_ref().map(|password| password.expose_secret()),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pgpass");
        assert!(read(&file).unwrap().is_none());
        std::fs::write(&file, "*:*:*:*:secret").unwrap();
        for (mode, used) in [
            (0o600, true),
            (0o400, true),
            (0o640, false),
            (0o604, false),
            (0o610, false),
        ] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&file).is_ok(), used, "{mode:o}");
        }
        assert!(read(dir.path()).unwrap_err().contains("not a plain file"));
    }
}
