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
    pub service: Option<String>,
    /// A host name, address or socket directory, or several with commas between them.
    pub host: Option<String>,
    pub hostaddr: Option<String>,
    pub port: Option<String>,
    pub user: Option<String>,
    /// A database name, or a connection string in its place, as for `psql -d`.
    pub dbname: Option<String>,
    pub password: Option<SecretString>,
    pub passfile: Option<String>,
    pub sslmode: Option<String>,
    pub sslrootcert: Option<String>,
    pub sslcert: Option<String>,
    pub sslkey: Option<String>,
    pub connect_timeout: Option<String>,
    pub options: Option<String>,
    pub application_name: Option<String>,
    pub target_session_attrs: Option<String>,
    /// Every other keyword that libpq knows, by its name.
    pub others: BTreeMap<String, String>,
}

impl Given {
    /// Takes the settings of a manifest, with their references looked up.
    ///
    /// # Errors
    /// All references that lead nowhere.
    pub fn of(database: &manifest::Database, environment: &Environment) -> Result<Given> {
        let env = |name: &str| environment.get(name).map(str::to_owned);
        let mut given = Given {
            uri: database.uri.as_ref().map(|uri| uri.resolve(&env)).transpose()?,
            password: database
                .password
                .as_ref()
                .map(|password| password.resolve(&env))
                .transpose()?,
            ..Given::default()
        };
        for (keyword, value) in database.resolve_settings(&env)? {
            given.others.insert(keyword.to_owned(), value);
        }
        Ok(given)
    }

    /// Returns the values by keyword.
    pub(super) fn words(&self, origin: &Origin) -> Result<Words, BadString> {
        let mut words = Words::default();
        for (name, value) in self.singles() {
            words.set(name, value, origin)?;
        }
        // psql hands the database name last, so what a connection string says overrides single settings beside it.
        let in_dbname = self
            .dbname
            .as_deref()
            .filter(|dbname| conninfo::is_connection_string(dbname));
        let strings = in_dbname
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
        let dbname = self
            .dbname
            .as_deref()
            .filter(|dbname| !conninfo::is_connection_string(dbname));
        let named = [
            ("service", self.service.as_deref()),
            ("host", self.host.as_deref()),
            ("hostaddr", self.hostaddr.as_deref()),
            ("port", self.port.as_deref()),
            ("user", self.user.as_deref()),
            ("dbname", dbname),
            (
                "password",
                self.password.as_ref().map(|password| password.expose_secret()),
            ),
            ("passfile", self.passfile.as_deref()),
            ("sslmode", self.sslmode.as_deref()),
            ("sslrootcert", self.sslrootcert.as_deref()),
            ("sslcert", self.sslcert.as_deref()),
            ("sslkey", self.sslkey.as_deref()),
            ("connect_timeout", self.connect_timeout.as_deref()),
            ("options", self.options.as_deref()),
            ("application_name", self.application_name.as_deref()),
            ("target_session_attrs", self.target_session_attrs.as_deref()),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let others = self.others.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        named.chain(others).filter(|(_, value)| !value.is_empty())
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
    use super::*;

    #[test]
    fn the_connection_string_wins_over_single_settings_beside_it() {
        let given = Given {
            host: Some("single".into()),
            port: Some("1".into()),
            dbname: Some("postgresql://string/d".into()),
            ..Given::default()
        };
        let words = given.words(&Origin::CommandLine).unwrap();
        assert_eq!(
            (words.get("host"), words.get("port"), words.get("dbname")),
            (Some("string"), Some("1"), Some("d"))
        );
    }

    #[test]
    fn an_empty_setting_is_none() {
        let given = Given {
            host: Some(String::new()),
            ..Given::default()
        };
        assert!(!given.words(&Origin::CommandLine).unwrap().has("host"));
    }

    #[test]
    fn debug_output_holds_no_value() {
        let given = Given {
            uri: Some("postgres://u:hunter2@h".to_owned().into()),
            dbname: Some("password=hunter2".into()),
            password: Some("hunter2".to_owned().into()),
            ..Given::default()
        };
        assert!(!format!("{given:?}").contains("hunter2"));
    }
}
