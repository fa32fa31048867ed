//! Reads a service of `pg_service.conf`, by the rules of libpq's `parseServiceFile`.
//!
//! Called by `resolve` with the service's name. The file is searched in `PGSERVICEFILE` (or the keyword `servicefile`),
//! else `~/.pg_service.conf`, and then in `pg_service.conf` of the system's directory.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::keywords::{Origin, Words};

/// What is wrong with a service.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadService {
    #[error("the service file `{}` cannot be read", file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("the service `{name}` is not defined in {}", list(searched))]
    Undefined { name: String, searched: Vec<PathBuf> },
    #[error("line {line} of the service file `{}`: expected `keyword=value`", file.display())]
    NoEquals { file: PathBuf, line: usize },
    #[error("line {line} of the service file `{}`: a service cannot name another service", file.display())]
    Nested { file: PathBuf, line: usize },
    #[error("line {line} of the service file `{}`: settings by LDAP are not supported", file.display())]
    Ldap { file: PathBuf, line: usize },
    #[error("line {line} of the service file `{}`: {problem}", file.display())]
    Unknown {
        file: PathBuf,
        line: usize,
        problem: super::keywords::UnknownKeyword,
    },
}

fn list(files: &[PathBuf]) -> String {
    match files {
        [] => "any file (there is neither `~/.pg_service.conf` nor a system-wide `pg_service.conf`)".to_owned(),
        files => files
            .iter()
            .map(|file| format!("`{}`", file.display()))
            .collect::<Vec<_>>()
            .join(" or "),
    }
}

/// Returns the settings of the service `name`; `own_file` is the file the user named.
pub(super) fn find(name: &str, own_file: Option<&str>, env: &Environment) -> Result<Words, BadService> {
    let home_file = env
        .home
        .as_ref()
        .map(|home| home.join(".pg_service.conf"))
        .filter(|file| file.exists());
    let first = own_file.map(PathBuf::from).or(home_file);
    let system_dir = env
        .get("PGSYSCONFDIR")
        .map_or_else(|| env.system_dir.clone(), PathBuf::from);
    let system = Some(system_dir.join("pg_service.conf")).filter(|file| file.exists());

    let mut searched = Vec::new();
    for file in first.into_iter().chain(system) {
        let text = std::fs::read(&file).map_err(|source| BadService::Unreadable {
            file: file.clone(),
            source,
        })?;
        if let Some(words) = read(&String::from_utf8_lossy(&text), name, &file)? {
            return Ok(words);
        }
        searched.push(file);
    }
    Err(BadService::Undefined {
        name: name.to_owned(),
        searched,
    })
}

/// Reads the section `name` of a service file's text, if it is there. Only that section need be right.
fn read(text: &str, name: &str, file: &Path) -> Result<Option<Words>, BadService> {
    let origin = Origin::Service {
        name: name.to_owned(),
        file: file.to_owned(),
    };
    let mut found: Option<Words> = None;
    for (number, line) in text.lines().enumerate() {
        let (number, line) = (number + 1, line.trim_ascii());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if section.strip_prefix(name).is_some_and(|after| after.starts_with(']')) {
                found = Some(Words::default());
            }
            continue;
        }
        let Some(words) = &mut found else { continue };
        let at = || (file.to_owned(), number);
        if line.starts_with("ldap") {
            let (file, line) = at();
            return Err(BadService::Ldap { file, line });
        }
        let Some((keyword, value)) = line.split_once('=') else {
            let (file, line) = at();
            return Err(BadService::NoEquals { file, line });
        };
        if keyword == "service" || keyword == "servicefile" {
            let (file, line) = at();
            return Err(BadService::Nested { file, line });
        }
        // Within a section the first value of a keyword stays.
        if !words.has(keyword) {
            words.set(keyword, value, &origin).map_err(|problem| {
                let (file, line) = at();
                BadService::Unknown { file, line, problem }
            })?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# services
stray = before any section, not read
[shop]
host=db.example.org
port=5433
  # a comment
host=second.is.not.taken
password=with = signs and spaces  \n
[shop2]
dbname=two
[broken]
no equals sign
[nested]
service=shop
[ldap]
ldap://x
[typo]
hots=x
[spaced]
host = x
[shop]
host=never.seen
";

    fn section(name: &str) -> Result<Option<Words>, String> {
        read(FILE, name, Path::new("f")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_section_is_read() {
        let shop = section("shop").unwrap().unwrap();
        assert_eq!(shop.get("host"), Some("db.example.org"));
        assert_eq!(shop.get("port"), Some("5433"));
        assert_eq!(shop.get("password"), Some("with = signs and spaces"));
        assert_eq!(section("shop2").unwrap().unwrap().get("dbname"), Some("two"));
        assert!(section("sho").unwrap().is_none());
        assert!(section("nothing").unwrap().is_none());
    }

    #[test]
    fn a_bad_section_says_where() {
        for (name, expected) in [
            ("broken", "line 13 of the service file `f`: expected `keyword=value`"),
            (
                "nested",
                "line 15 of the service file `f`: a service cannot name another service",
            ),
            (
                "ldap",
                "line 17 of the service file `f`: settings by LDAP are not supported",
            ),
            (
                "typo",
                "line 19 of the service file `f`: unknown connection keyword `hots` (did you mean `host`?)",
            ),
            (
                "spaced",
                "line 21 of the service file `f`: unknown connection keyword `host ` (did you mean `host`?)",
            ),
        ] {
            assert_eq!(section(name).unwrap_err(), expected);
        }
    }

    #[test]
    fn files_are_searched_in_libpqs_order() {
        let dir = tempfile::tempdir().unwrap();
        let (home, system) = (dir.path().join("home"), dir.path().join("system"));
        for (dir, text) in [
            (&home, "[a]\ndbname=home\n"),
            (&system, "[a]\ndbname=system\n[b]\ndbname=system\n"),
        ] {
            std::fs::create_dir(dir).unwrap();
            let name = if dir == &home {
                ".pg_service.conf"
            } else {
                "pg_service.conf"
            };
            std::fs::write(dir.join(name), text).unwrap();
        }
        let named = dir.path().join("named");
        std::fs::write(&named, "[a]\ndbname=named\n").unwrap();
        let named = named.to_str();
        let mut env = Environment {
            home: Some(home),
            system_dir: system,
            ..Environment::default()
        };

        for (service, own_file, expected) in [
            ("a", None, Ok("home")),
            ("b", None, Ok("system")),
            ("a", named, Ok("named")),
            ("b", named, Ok("system")),
            ("c", named, Err("is not defined in")),
            ("a", Some("/nowhere"), Err("`/nowhere` cannot be read")),
        ] {
            match (find(service, own_file, &env), expected) {
                (Ok(words), Ok(expected)) => assert_eq!(words.get("dbname"), Some(expected)),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (found, _) => panic!("{service} in {own_file:?}: {found:?}"),
            }
        }
        env.variables.insert("PGSYSCONFDIR".into(), "/nowhere".into());
        assert!(matches!(find("b", None, &env), Err(BadService::Undefined { .. })));
    }
}
