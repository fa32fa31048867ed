//! What several verbs share of the command line: where the database is, which manifest, how long to wait for locks.
//!
//! Each is taken in with `#[command(flatten)]`; its doc comments are the help. What is done with them is in `commands` and `act`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::errors::{Error, Kind, Result};
use crate::names::{QualifiedName, parse_ident};
use crate::pg::{Given, Locking};
use crate::words::shell;

/// Where the database is. What is not given comes from `EMAJ_*`, the manifest, and libpq's own (`PG*`, service file, `~/.pgpass`).
#[derive(Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Connection string: a `postgresql://` URI or `keyword=value` pairs
    #[arg(long, global = true, value_name = "CONNINFO")]
    pub url: Option<String>,
    /// Service of `~/.pg_service.conf`
    #[arg(long, global = true)]
    pub service: Option<String>,
    /// Database server host or socket directory
    #[arg(short = 'h', long, global = true)]
    pub host: Option<String>,
    /// Database server port
    #[arg(short = 'p', long, global = true)]
    pub port: Option<String>,
    /// Database name, or a connection string
    #[arg(short = 'd', long, global = true)]
    pub dbname: Option<String>,
    /// Role to connect as
    #[arg(short = 'U', long, global = true, value_name = "ROLE")]
    pub username: Option<String>,
    /// Never ask for a password
    #[arg(short = 'w', long, global = true, conflicts_with = "password")]
    pub no_password: bool,
    /// Ask for a password before connecting
    #[arg(short = 'W', long, global = true)]
    pub password: bool,
}

impl ConnectionArgs {
    /// Returns the same by libpq's keywords.
    pub(super) fn given(&self) -> Given {
        let settings = [
            ("service", &self.service),
            ("host", &self.host),
            ("port", &self.port),
            ("dbname", &self.dbname),
            ("user", &self.username),
        ];
        let named = |(keyword, value): (&str, &Option<String>)| Some((keyword.to_owned(), value.clone()?));
        Given {
            uri: self.url.clone().map(Into::into),
            settings: settings.into_iter().filter_map(named).collect(),
            ..Given::default()
        }
    }
}

impl fmt::Debug for ConnectionArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is given, without its values: a connection string may have a password in it.
        self.given().fmt(f)
    }
}

/// Which manifest: files and folders, `./emaj.yaml` when none is named.
#[derive(Debug, Clone, Default, Args)]
pub struct ManifestArgs {
    /// Manifest files, or folders of them
    #[arg(value_name = "MANIFEST", default_value = "emaj.yaml")]
    pub manifest: Vec<PathBuf>,
}

impl ManifestArgs {
    /// Returns `emaj VERB` with these manifests, to be typed as it stands; `./emaj.yaml` need not be named.
    pub(crate) fn command(&self, verb: &str) -> String {
        format!("emaj {verb}{}", named(&self.manifest))
    }
}

/// Returns manifests as they follow a verb on the command line, each behind a blank; `./emaj.yaml` need not be named.
pub(super) fn named(manifests: &[PathBuf]) -> String {
    if manifests == [PathBuf::from("emaj.yaml")] {
        return String::new();
    }
    manifests
        .iter()
        .map(|path| format!(" {}", shell(&path.to_string_lossy())))
        .collect()
}

/// For verbs that need no manifest: it may still say where the database and the schema are.
#[derive(Debug, Clone, Default, Args)]
pub struct InstallationArgs {
    /// Manifest that says where the database is [default: ./emaj.yaml, when it is there]
    #[arg(short = 'f', long, value_name = "MANIFEST")]
    pub manifest: Vec<PathBuf>,
    /// Schema of the installation, as SQL spells it [default: the manifest's, or emaj]
    #[arg(long, env = "EMAJ_SCHEMA")]
    pub schema: Option<String>,
}

impl InstallationArgs {
    /// Returns the same as it follows a verb on the command line, each behind a blank.
    pub(super) fn named(&self) -> String {
        let manifests = self.manifest.iter().map(|path| ("-f", path.to_string_lossy()));
        let schema = self.schema.iter().map(|schema| ("--schema", schema.into()));
        manifests
            .chain(schema)
            .map(|(flag, value)| format!(" {flag} {}", shell(&value)))
            .collect()
    }
}

/// For verbs that show an installation and name nothing in it: a manifest may stand without `-f`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ShownArgs {
    /// Manifest that says where the database is, as with `-f`
    #[arg(value_name = "MANIFEST", conflicts_with = "manifest")]
    positional: Vec<PathBuf>,
    #[command(flatten)]
    named: InstallationArgs,
}

impl ShownArgs {
    /// Returns the same, the manifest as if it had been named with `-f`.
    pub fn installation(&self) -> InstallationArgs {
        let mut named = self.named.clone();
        named.manifest.extend(self.positional.iter().cloned());
        named
    }
}

/// For verbs that change something in an installation.
#[derive(Debug, Clone, Args)]
pub(crate) struct ActArgs {
    #[command(flatten)]
    pub installation: InstallationArgs,
    #[command(flatten)]
    pub lock: LockArgs,
}

/// For verbs that ask first.
#[derive(Debug, Clone, Args)]
pub(crate) struct AskArgs {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
}

/// How long to wait for locks.
#[derive(Debug, Clone, Args)]
pub struct LockArgs {
    /// How long one try may keep the application waiting, in milliseconds or with a unit (`500ms`, `5s`)
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_timeout)]
    pub lock_timeout: Duration,
    /// How long to go on trying when locks cannot be had
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub wait: Duration,
}

impl LockArgs {
    pub fn locking(&self) -> Locking {
        Locking {
            timeout: self.lock_timeout,
            wait: self.wait,
        }
    }
}

/// Reads a schema that somebody named, as SQL spells it.
///
/// # Errors
/// [`Kind::Usage`].
pub(crate) fn schema_named(name: &str) -> Result<String> {
    parse_ident(name).map_err(|error| {
        let message = format!("`{name}` is not the name of a schema: {}", error.problem);
        Error::message(Kind::Usage, message).hint(error.hint())
    })
}

/// Reads a table that somebody named: `schema.table`, as SQL spells it.
///
/// # Errors
/// [`Kind::Usage`] with what to write instead.
pub(crate) fn table_named(text: &str) -> Result<QualifiedName> {
    QualifiedName::parse(text).map_err(|error| {
        let hint = error.hint();
        Error::new(Kind::Usage, error)
            .context(format!("`{text}` is no name of a table"))
            .hint(hint)
    })
}

/// Reads `500ms`, `5s`, `2min`, `1h`, and `0`.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is no time: write `500ms`, `5s` or `2min`"))?;
    let factor = match text[digits.len()..].trim() {
        "" if number == 0 => 1,
        "" => return Err(format!("`{text}` has no unit: write `{digits}s` or `{digits}min`")),
        "ms" => 1,
        "s" => 1_000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        unit => return Err(format!("`{unit}` is no unit of time: use ms, s, min or h")),
    };
    number
        .checked_mul(factor)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is too long"))
}

/// As [`parse_duration`]; a bare number counts milliseconds, as PostgreSQL's `lock_timeout` does.
fn parse_timeout(text: &str) -> std::result::Result<Duration, String> {
    match text.parse() {
        Ok(number) => Ok(Duration::from_millis(number)),
        Err(_) => parse_duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(parse_duration("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(
            parse_duration("60"),
            Err("`60` has no unit: write `60s` or `60min`".to_owned())
        );
        assert_eq!(parse_timeout("500"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_timeout("5s"), Ok(Duration::from_secs(5)));
    }

    #[test]
    fn debug_output_of_a_connection_holds_no_value() {
        let connection = ConnectionArgs {
            url: Some("postgresql://u:hunter2@h".to_owned()),
            dbname: Some("password=hunter2".to_owned()),
            username: Some("hunter2".to_owned()),
            ..ConnectionArgs::default()
        };
        assert_eq!(format!("{connection:?}"), r#"{"user", "uri"}"#);
    }
}
