//! The connection keywords of libpq: which there are, and what emaj does with each.
//!
//! [`Words`] holds values by keyword, each with its origin, so that an error can say where a value came from. Every value
//! is kept as a secret, since any of them may hold what the user would not like to see printed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::names::nearest;

/// What emaj does with a keyword that libpq knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// It has its libpq meaning.
    Honoured,
    /// It is accepted and changes nothing here.
    Ignored,
    /// Only these values are accepted; anything else asks for something that cannot be given.
    Only(&'static [&'static str]),
}

/// One keyword of a connection string.
#[derive(Debug)]
pub(super) struct Keyword {
    pub(super) name: &'static str,
    /// The environment variable libpq reads for it.
    pub(super) variable: Option<&'static str>,
    pub(super) support: Support,
}

const fn honoured(name: &'static str, variable: Option<&'static str>) -> Keyword {
    Keyword {
        name,
        variable,
        support: Support::Honoured,
    }
}

const fn ignored(name: &'static str, variable: Option<&'static str>) -> Keyword {
    Keyword {
        name,
        variable,
        support: Support::Ignored,
    }
}

const fn only(name: &'static str, variable: Option<&'static str>, values: &'static [&'static str]) -> Keyword {
    Keyword {
        name,
        variable,
        support: Support::Only(values),
    }
}

/// Every keyword that libpq 15 to 18 knows.
pub(super) const KEYWORDS: &[Keyword] = &[
    honoured("service", Some("PGSERVICE")),
    honoured("servicefile", Some("PGSERVICEFILE")),
    honoured("host", Some("PGHOST")),
    honoured("hostaddr", Some("PGHOSTADDR")),
    honoured("port", Some("PGPORT")),
    honoured("dbname", Some("PGDATABASE")),
    honoured("user", Some("PGUSER")),
    honoured("password", Some("PGPASSWORD")),
    honoured("passfile", Some("PGPASSFILE")),
    honoured("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    honoured("options", Some("PGOPTIONS")),
    honoured("application_name", Some("PGAPPNAME")),
    honoured("fallback_application_name", None),
    honoured("channel_binding", Some("PGCHANNELBINDING")),
    honoured("keepalives", None),
    honoured("keepalives_idle", None),
    honoured("keepalives_interval", None),
    honoured("keepalives_count", None),
    honoured("tcp_user_timeout", None),
    honoured("sslmode", Some("PGSSLMODE")),
    honoured("sslnegotiation", Some("PGSSLNEGOTIATION")),
    honoured("sslrootcert", Some("PGSSLROOTCERT")),
    honoured("sslcert", Some("PGSSLCERT")),
    honoured("sslkey", Some("PGSSLKEY")),
    honoured("sslcrl", Some("PGSSLCRL")),
    honoured("sslcrldir", Some("PGSSLCRLDIR")),
    honoured("sslsni", Some("PGSSLSNI")),
    honoured("sslcertmode", Some("PGSSLCERTMODE")),
    honoured("ssl_min_protocol_version", Some("PGSSLMINPROTOCOLVERSION")),
    honoured("ssl_max_protocol_version", Some("PGSSLMAXPROTOCOLVERSION")),
    honoured("target_session_attrs", Some("PGTARGETSESSIONATTRS")),
    honoured("load_balance_hosts", Some("PGLOADBALANCEHOSTS")),
    ignored("client_encoding", Some("PGCLIENTENCODING")),
    ignored("sslcompression", Some("PGSSLCOMPRESSION")),
    ignored("krbsrvname", Some("PGKRBSRVNAME")),
    ignored("gsslib", Some("PGGSSLIB")),
    only("gssdelegation", Some("PGGSSDELEGATION"), &["", "0"]),
    only("gssencmode", Some("PGGSSENCMODE"), &["disable", "prefer"]),
    only("sslpassword", None, &[""]),
    only("sslkeylogfile", None, &[""]),
    only("requirepeer", Some("PGREQUIREPEER"), &[""]),
    only("require_auth", Some("PGREQUIREAUTH"), &[""]),
    only("min_protocol_version", Some("PGMINPROTOCOLVERSION"), &["", "3.0"]),
    only(
        "max_protocol_version",
        Some("PGMAXPROTOCOLVERSION"),
        &["", "3.0", "3.2", "latest"],
    ),
    only("replication", None, &["", "false", "off", "no", "0"]),
    only("scram_client_key", None, &[""]),
    only("scram_server_key", None, &[""]),
    only("oauth_issuer", None, &[""]),
    only("oauth_client_id", None, &[""]),
    only("oauth_client_secret", None, &[""]),
    only("oauth_scope", None, &[""]),
];

/// A keyword that libpq does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown connection keyword `{name}`{}", .nearest.map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
pub(super) struct UnknownKeyword {
    pub(super) name: String,
    pub(super) nearest: Option<&'static str>,
}

/// Returns the keyword called `name`; the error carries the nearest name there is.
pub(super) fn keyword(name: &str) -> Result<&'static Keyword, UnknownKeyword> {
    KEYWORDS
        .iter()
        .find(|known| known.name == name)
        .ok_or_else(|| UnknownKeyword {
            name: word(name),
            nearest: nearest(name, KEYWORDS.iter().map(|known| known.name)),
        })
}

/// Returns what may be repeated of what stands in the place of a keyword: what is no word may hold a secret.
pub(super) fn word(name: &str) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    match name.trim().bytes().all(is_word) {
        true => name.chars().take(40).collect(),
        false => "…".to_owned(),
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    CommandLine,
    Manifest,
    Variable(String),
    Service { name: String, file: PathBuf },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::CommandLine => f.write_str("the command line"),
            Origin::Manifest => f.write_str("the manifest's `database:` block"),
            Origin::Variable(name) => write!(f, "the environment variable `{name}`"),
            Origin::Service { name, file } => write!(f, "service `{name}` of `{}`", file.display()),
        }
    }
}

#[derive(Clone)]
struct Word {
    value: SecretString,
    origin: Origin,
}

/// Values by keyword. A keyword that is absent was not given; one that is empty was given as empty.
#[derive(Clone, Default)]
pub(super) struct Words(BTreeMap<&'static str, Word>);

impl Words {
    /// Sets `name`, whatever was there before.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>, origin: &Origin) -> Result<(), UnknownKeyword> {
        let value = value.into();
        // A relic that libpq still reads (fe-connect.c, conninfo_storeval).
        let (name, value) = match name {
            "requiressl" if value.starts_with('1') => ("sslmode", "require".to_owned()),
            "requiressl" => ("sslmode", "prefer".to_owned()),
            _ => (name, value),
        };
        let word = Word {
            value: SecretString::from(value),
            origin: origin.clone(),
        };
        self.0.insert(keyword(name)?.name, word);
        Ok(())
    }

    /// Takes from `lower` what is not set here.
    pub(super) fn fill(&mut self, lower: Words) {
        for (name, word) in lower.0 {
            self.0.entry(name).or_insert(word);
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|word| word.value.expose_secret())
    }

    /// Returns the value unless it is absent or empty.
    pub(super) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn origin(&self, name: &str) -> Option<&Origin> {
        self.0.get(name).map(|word| &word.origin)
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &SecretString)> {
        self.0.iter().map(|(name, word)| (*name, &word.value))
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(name, word)| (name, &word.origin)))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_keyword_names_the_nearest() {
        for (given, nearest) in [("hots", Some("host")), ("sslmod", Some("sslmode")), ("zzz", None)] {
            assert_eq!(keyword(given).unwrap_err().nearest, nearest, "{given}");
        }
    }

    #[test]
    fn debug_output_holds_no_value() {
        let mut words = Words::default();
        words.set("password", "hunter2", &Origin::CommandLine).unwrap();
        assert!(!format!("{words:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_set_is_not_filled_even_when_empty() {
        let mut upper = Words::default();
        upper.set("host", "", &Origin::CommandLine).unwrap();
        let mut lower = Words::default();
        lower.set("host", "lower", &Origin::Manifest).unwrap();
        lower.set("port", "1", &Origin::Manifest).unwrap();
        upper.fill(lower);
        assert_eq!((upper.get("host"), upper.get("port")), (Some(""), Some("1")));
    }

    #[test]
    fn the_relic_requiressl_is_sslmode() {
        for (value, mode) in [("1", "require"), ("0", "prefer"), ("yes", "prefer")] {
            let mut words = Words::default();
            words.set("requiressl", value, &Origin::CommandLine).unwrap();
            assert_eq!(words.get("sslmode"), Some(mode));
        }
    }
}
