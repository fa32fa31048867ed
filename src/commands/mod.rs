//! The verbs: one file each, which reads as the story of the verb. `Args` (its doc comment is the help), then the steps.
//!
//! What several verbs need stands here: how to load the manifest, how to connect, how to print. What they share of the command line
//! is in `args`.

mod act;
mod args;
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
mod new_file;
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

use std::cell::RefCell;
use std::path::PathBuf;

pub(crate) use self::args::{ActArgs, AskArgs, ShownArgs};
pub use self::args::{ConnectionArgs, InstallationArgs, LockArgs, ManifestArgs, parse_duration};
use crate::errors::{Error, Kind, Result};
use crate::journal;
use crate::manifest::{self, Manifest};
use crate::pg::{self, Environment, Given, Notice, Prompt, Session, Settings};
use crate::ui::Output;

const WHICH_DATABASE: &str = "no manifest was named, there is no ./emaj.yaml, and nothing else says which database: name a manifest with `-f`, or the database with `-d`";

/// What every verb is handed.
#[derive(Debug)]
pub struct Context {
    connection: ConnectionArgs,
    pub environment: Environment,
    pub output: Output,
    /// The installation that the verb works with: where it is, and its schema.
    installed: RefCell<Option<(Settings, String)>>,
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
            installed: RefCell::default(),
        })
    }

    /// Reads and checks a manifest; says its warnings.
    ///
    /// # Errors
    /// All problems of all files.
    pub fn load(&self, paths: &[PathBuf]) -> Result<Manifest> {
        let loaded = manifest::load(paths)?;
        self.output.name_manifests(args::named(paths));
        for warning in &loaded.warnings {
            self.output.warn(format!("{warning:#}"));
        }
        Ok(loaded.manifest)
    }

    /// Like [`Context::load`]; when none is named, `./emaj.yaml`, if it is there.
    ///
    /// # Errors
    /// All problems of all files.
    pub(crate) fn load_there(&self, paths: &[PathBuf]) -> Result<Option<Manifest>> {
        let default = PathBuf::from("emaj.yaml");
        match paths {
            [] if default.exists() => self.load(&[default]).map(Some),
            [] => Ok(None),
            named => self.load(named).map(Some),
        }
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
        let flags = self.connection.given();
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

    /// Notes which installation the verb works with.
    pub(crate) fn works_with(&self, session: &Session, schema: &str) {
        self.installed
            .replace(Some((session.wanted().clone(), schema.to_owned())));
    }

    /// Returns what a command failed with: that nothing is installed, where somebody has uninstalled it meanwhile, else the error as it is.
    pub(crate) fn explained(&self, error: Error) -> Error {
        let installed = self.installed.take().filter(|_| pg::is_gone(&error));
        let left = installed.and_then(|(settings, schema)| {
            let mut session = settings.connect(Prompt::Never).ok()?;
            journal::check_usable(&mut *session, &schema, settings.dbname()).err()
        });
        match left {
            Some(left) if left.kind() == Kind::NotInstalled => {
                left.hint_instead("it was uninstalled meanwhile; `emaj install` installs it again")
            }
            _ => error,
        }
    }

    /// Whether neither a flag nor the environment says which database.
    fn names_no_database(&self) -> bool {
        let flags = &self.connection;
        let named = [&flags.url, &flags.service, &flags.dbname]
            .into_iter()
            .any(Option::is_some);
        let variables = [
            "EMAJ_DATABASE_URL",
            "EMAJ_SERVICE",
            "EMAJ_DBNAME",
            "PGDATABASE",
            "PGSERVICE",
        ];
        !named && variables.iter().all(|name| self.environment.get(name).is_none())
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
        let manifest = self.load_there(&args.manifest)?;
        let named = args.schema.as_deref().map(args::schema_named).transpose()?;
        let installed = manifest.as_ref().map_or("emaj", |manifest| manifest.schema.as_str());
        let schema = named.unwrap_or_else(|| installed.to_owned());
        // Without any of these the database is a guess of libpq's, and seldom the one that is meant.
        let is_guess = manifest.is_none() && self.names_no_database();
        let hinted = |error: Error| match is_guess {
            true => error.hint(WHICH_DATABASE),
            false => error,
        };
        let mut session = self.connect_with_notices(manifest.as_ref(), handle).map_err(hinted)?;
        let database = session.wanted().dbname().to_owned();
        journal::check_usable(&mut *session, &schema, &database).map_err(|error| match error.kind() {
            // (An installation goes by the manifest alone.)
            Kind::NotInstalled if schema != installed => hinted(error.hint_instead(format!(
                "`--schema` or EMAJ_SCHEMA says so; `emaj install` installs into the manifest's, which is `{installed}`"
            ))),
            Kind::NotInstalled => hinted(error.hint("`--schema` names another schema")),
            _ => error,
        })?;
        self.works_with(&session, &schema);
        Ok((session, schema))
    }
}
