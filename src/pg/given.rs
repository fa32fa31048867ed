//! What one place says about the connection: the flags of the command line, or the manifest's `database:` block.
//!
//! A plain value without meaning of its own; `resolve` reads it. An empty text is as good as none, as for `psql -h ''`.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::conninfo::{self, BadString};
use super::environment::Environment;
use super::keywords::{Origin, Words};
use crate::errors::Result;
use crate::manifest;

/// Connection settings from one place, none of them necessary.
#[derive(Clone, Default)]
pub struct Given {
    /// A connection string, URI or `keyword=value`; in its place, it wins over the single settings, as in `psql`.
    pub uri: Option<SecretString>,
    pub password: Option<SecretString>,
    /// The other settings by libpq's keyword. `dbname` may be a connection string, as for `psql -d`.
    pub settings: BTreeMap<String, String>,
}

impl Given {
    /// Takes the settings of a manifest, with their references looked up.
    ///
    /// # Errors
    /// All references that lead nowhere.
    pub fn of(database: &manifest::Database, environment: &Environment) -> Result<Given> {
        let env = |name: &str| environment.get(name).map(str::to_owned);
        let settings = database.resolve_settings(&env)?.into_iter();
        Ok(Given {
            uri: database.uri.as_ref().map(|uri| uri.resolve(&env)).transpose()?,
            password: database
                .password
                .as_ref()
                .map(|password| password.resolve(&env))
                .transpose()?,
            settings: settings.map(|(keyword, value)| (keyword.to_owned(), value)).collect(),
        })
    }

    /// Returns the values by keyword.
    pub(super) fn words(&self, origin: &Origin) -> Result<Words, BadString> {
        let mut words = Words::default();
        for (name, value) in self.singles() {
            words.set(name, value, origin)?;
        }
        // psql hands the database name last, so what a connection string says overrides single settings beside it.
        let in_dbname = self.settings.get("dbname").map(String::as_str);
        let strings = in_dbname
            .filter(|dbname| conninfo::is_connection_string(dbname))
            .into_iter()
            .chain(self.uri.as_ref().map(|uri| uri.expose_secret()));
        for text in strings {
            let mut upper = conninfo::read(text, origin)?;
            upper.fill(words);
            words = upper;
        }
        Ok(words)
    }

    fn singles(&self) -> impl Iterator<Item = (&str, &str)> {
        let password = self
            .password
            .as_ref()
            .map(|password| ("password", password.expose_secret()));
        let settings = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let is_string = |name: &str, value: &str| name == "dbname" && conninfo::is_connection_string(value);
        password
            .into_iter()
            .chain(settings)
            .filter(move |(name, value)| !value.is_empty() && !is_string(name, value))
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: a database name may be a connection string with a password in it.
        let named = self.singles().map(|(name, _)| name);
        f.debug_set()
            .entries(named)
            .entries(self.uri.iter().map(|_| "uri"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn given(settings: &[(&str, &str)]) -> Given {
        let settings = settings.iter();
        Given {
            settings: settings
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Given::default()
        }
    }

    #[test]
    fn the_connection_string_wins_over_single_settings_beside_it() {
        let given = given(&[("host", "single"), ("port", "1"), ("dbname", "postgresql://string/d")]);
        let words = given.words(&Origin::CommandLine).unwrap();
        assert_eq!(
            (words.get("host"), words.get("port"), words.get("dbname")),
            (Some("string"), Some("1"), Some("d"))
        );
    }

    #[test]
    fn a_manifests_database_name_may_be_a_connection_string() {
        let text = "version: 1\ndatabase: { host: single, dbname: 'postgresql://string/d' }\ngroups: { g: { tables: [a.b] } }\n";
        let loaded = manifest::parse(Path::new("m.yaml"), text).unwrap_or_else(|error| panic!("{error}"));
        let given = Given::of(&loaded.manifest.database, &Environment::default()).unwrap();
        let words = given.words(&Origin::Manifest).unwrap();
        assert_eq!((words.get("host"), words.get("dbname")), (Some("string"), Some("d")));
    }

    #[test]
    fn an_empty_setting_is_none() {
        let given = given(&[("host", "")]);
        assert!(!given.words(&Origin::CommandLine).unwrap().has("host"));
    }

    #[test]
    fn debug_output_holds_no_value() {
        let given = Given {
            uri: Some("postgres://u:hunter2@h".to_owned().into()),
            password: Some("hunter2".to_owned().into()),
            ..given(&[("dbname", "password=hunter2"), ("user", "hunter2")])
        };
        assert!(!format!("{given:?}").contains("hunter2"));
    }
}
