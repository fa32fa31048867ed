//! The verbs: one file each, which reads as the story of the verb. `Args` (its doc comment is the help), then the steps.
//!
//! What several verbs need stands here: where the manifest is, how to connect, how to print.

mod act;
pub mod at;
pub mod changes;
pub mod completions;
pub mod consolidate;
pub mod demo;
pub mod doctor;
pub mod drift;
pub mod failures;
pub mod group;
pub mod history;
pub mod import;
pub mod init;
pub mod install;
pub mod man;
pub mod mark;
mod moment;
pub mod new;
pub mod plan;
pub mod release;
pub mod replay;
pub mod revert;
pub mod rollback;
pub mod run;
pub mod schema;
pub mod sink;
pub mod snap;
pub mod stat;
pub mod status;
pub mod top;
pub mod uninstall;
pub mod validate;
pub mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::errors::{Error, Kind, Result};
use crate::install::Locking;
pub use crate::journal::not_installed;
use crate::manifest::{self, Manifest};
use crate::names::parse_ident;
use crate::pg::{self, Environment, Given, Notice, Prompt, Session};
use crate::ui::Output;

/// Where the database is. What is not given comes from `EMAJ_*`, the manifest, and libpq's own (`PG*`, service file, `~/.pgpass`).
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Connection string: a `postgresql://` URI or `keyword=value` pairs
    #[arg(long, global = true, value_name = "CONNINFO")]
    pub url: Option<String>,
    /// Service of `~/.pg_service.conf`
    #[arg(long, global = true)]
    pub service: Option<String>,
    /// Database server host or socket directory
    #[arg(long, global = true)]
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

/// Which manifest: files and folders, `./emaj.yaml` when none is named.
#[derive(Debug, Clone, Default, Args)]
pub struct ManifestArgs {
    /// Manifest files, or folders of them
    #[arg(value_name = "MANIFEST", default_value = "emaj.yaml")]
    pub manifest: Vec<PathBuf>,
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

/// How long to wait for locks.
#[derive(Debug, Clone, Args)]
pub struct LockArgs {
    /// How long one try may keep the application waiting, in milliseconds or with a unit (`500ms`, `5s`)
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
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

/// Reads `500`, `500ms`, `5s`, `2min`, `1h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is no time: write `500ms`, `5s` or `2min`"))?;
    let factor = match text[digits.len()..].trim() {
        "" | "ms" => 1,
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

/// What every verb is handed.
#[derive(Debug)]
pub struct Context {
    connection: ConnectionArgs,
    pub environment: Environment,
    pub output: Output,
}

impl Context {
    /// Takes what the program was started with.
    ///
    /// # Errors
    /// Environment variables that are not text.
    pub fn new(connection: ConnectionArgs, output: Output) -> Result<Self> {
        Ok(Context {
            connection,
            environment: Environment::current()?,
            output,
        })
    }

    /// Reads and checks a manifest; says its warnings.
    ///
    /// # Errors
    /// All problems of all files.
    pub fn load(&self, paths: &[PathBuf]) -> Result<Manifest> {
        let loaded = manifest::load(paths)?;
        for warning in &loaded.warnings {
            self.output.warn(warning.to_string());
        }
        Ok(loaded.manifest)
    }

    /// Connects where the flags, the environment and the manifest say.
    ///
    /// # Errors
    /// [`Kind::Unreachable`], [`Kind::Denied`], or what is wrong with the settings.
    pub fn connect(&self, manifest: Option<&Manifest>) -> Result<Session> {
        self.connect_with_notices(manifest, |_| {})
    }

    /// Like [`Context::connect`]; `handle` is called with each notice of the server.
    pub fn connect_with_notices(
        &self,
        manifest: Option<&Manifest>,
        handle: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Session> {
        let flags = Given {
            uri: self.connection.url.clone().map(Into::into),
            service: self.connection.service.clone(),
            host: self.connection.host.clone(),
            port: self.connection.port.clone(),
            dbname: self.connection.dbname.clone(),
            user: self.connection.username.clone(),
            ..Given::default()
        };
        let manifest = manifest
            .map(|manifest| Given::of(&manifest.database, &self.environment))
            .transpose()?;
        let settings = pg::resolve(&flags, manifest.as_ref(), &self.environment)?;
        for warning in settings.warnings() {
            self.output.warn(warning);
        }
        let prompt = match (self.connection.no_password, self.connection.password) {
            (true, _) => Prompt::Never,
            (_, true) => Prompt::Always,
            _ => Prompt::WhenWanted,
        };
        settings.connect_with_notices(prompt, handle)
    }

    /// Connects to an installation: by the manifest, when one is named or is in the folder, else by flags and environment alone.
    /// Returns the session and the installation's schema.
    ///
    /// # Errors
    /// [`Kind::NotInstalled`] when there is none in that schema.
    pub fn installation(
        &self,
        args: &InstallationArgs,
        handle: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<(Session, String)> {
        let default = PathBuf::from("emaj.yaml");
        let paths = match args.manifest.as_slice() {
            [] if default.exists() => vec![default],
            named => named.to_vec(),
        };
        let manifest = if paths.is_empty() {
            None
        } else {
            Some(self.load(&paths)?)
        };
        let named = args.schema.as_deref().map(|name| {
            parse_ident(name).map_err(|error| {
                Error::message(
                    Kind::Usage,
                    format!("`{name}` is not the name of a schema: {}", error.problem),
                )
                .hint(error.hint())
            })
        });
        let schema = named
            .transpose()?
            .or_else(|| manifest.as_ref().map(|manifest| manifest.schema.clone()));
        let schema = schema.unwrap_or_else(|| "emaj".to_owned());
        let mut session = self.connect_with_notices(manifest.as_ref(), handle)?;
        let usable = session.query_opt(
            "select has_schema_privilege(n.oid, 'usage'), r.rolname::text
               from pg_catalog.pg_class c
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               join pg_catalog.pg_roles r on r.oid = n.nspowner
              where n.nspname = $1 and c.relname = 'emaj_install'",
            &[&schema],
        )?;
        match usable {
            None => Err(not_installed(&schema)),
            Some(row) if row.get(0) => Ok((session, schema)),
            Some(row) => Err(
                Error::message(Kind::Denied, format!("you may not use emaj in schema `{schema}`")).hint(format!(
                    "connect as its owner `{}`, or as a member of one of the manifest's `roles`",
                    row.get::<_, String>(1)
                )),
            ),
        }
    }
}
