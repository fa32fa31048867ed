//! The settings of an LDAP sink with their references looked up: where to, how to log in, whom to believe.
//!
//! Files of certificates are read once, here; a bad one is an error of the manifest, not an outage.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use secrecy::SecretString;
use url::Url;

use crate::errors::{Error, Kind, Result};
use crate::manifest::{Diagnostic, Diagnostics, LdapSink, Place};
use crate::pg::Environment;
use crate::sink::settings::References;
use crate::sink::trust;

/// Everything that opening a connection needs.
pub(super) struct Settings {
    pub(super) url: Url,
    pub(super) starttls: bool,
    pub(super) login: Login,
    /// `None`: no TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) connections: usize,
    pub(super) timeout: Duration,
    pub(super) page_size: u32,
}

/// As whom.
pub(super) enum Login {
    Anonymous,
    Simple {
        dn: String,
        password: SecretString,
    },
    /// By certificate or socket.
    External,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.describe())
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Looks up what `sink` refers to. Errors with all references that lead nowhere, and with files that cannot be used.
    pub(super) fn resolve(sink: &LdapSink, environment: &Environment) -> Result<Settings> {
        let mut references = References::new(environment);
        let url = references.text(&sink.url);
        let bind_dn = sink.bind_dn.as_ref().map(|dn| references.text(dn));
        let password = sink.password.as_ref().map(|password| references.secret(password));
        let files = [&sink.ca_file, &sink.cert_file, &sink.key_file];
        let [ca, cert, key] = files.map(|file| file.as_ref().map(|file| references.file(file)));
        references.finish()?;
        let place = sink.url.place();
        let url = read_url(&url).map_err(|problem| wrong(place, format!("`url` cannot be used: {problem}")))?;
        let login = match (sink.sasl_external, bind_dn, password) {
            (true, ..) => Login::External,
            (false, Some(dn), Some(password)) => Login::Simple { dn, password },
            (false, ..) => Login::Anonymous,
        };
        let wants_tls = url.scheme() == "ldaps" || (url.scheme() == "ldap" && sink.starttls);
        let tls = match wants_tls {
            true => {
                let client = cert.as_deref().zip(key.as_deref());
                let place_of_client = sink.cert_file.as_ref().map_or(place, |file| file.place());
                let trusted = trusted(ca.as_ref()).map_err(|problem| wrong(place, problem))?;
                Some(tls(trusted, client).map_err(|problem| wrong(place_of_client, problem))?)
            }
            false => None,
        };
        Ok(Settings {
            starttls: sink.starttls && url.scheme() == "ldap",
            url,
            login,
            tls,
            ca_file: ca,
            connections: sink.connections as usize,
            timeout: Duration::from_secs(sink.timeout.into()),
            page_size: sink.page_size,
        })
    }

    /// Returns which server this is: the same one may be reached in the clear and with TLS, at two ports.
    pub(super) fn place(&self) -> String {
        self.host().to_lowercase()
    }

    /// Returns the server's name, or the path of its socket.
    pub(super) fn host(&self) -> Cow<'_, str> {
        percent_decode_str(self.url.host_str().unwrap_or_default()).decode_utf8_lossy()
    }

    /// Returns where this leads, without secrets.
    pub(super) fn describe(&self) -> String {
        let host = self.host();
        match self.url.port() {
            Some(port) => format!("{}://{host}:{port}", self.url.scheme()),
            None => format!("{}://{host}", self.url.scheme()),
        }
    }
}

fn wrong(place: &Place, problem: String) -> Error {
    Error::new(Kind::Manifest, Diagnostics(vec![Diagnostic::error(place, problem)]))
}

fn read_url(text: &str) -> std::result::Result<Url, String> {
    // The text itself is not shown: somebody may have put a password into it.
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "ldap" | "ldaps" | "ldapi" => {}
        other => return Err(format!("found the scheme `{other}`, expected ldap, ldaps or ldapi")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or a password; these are `bind_dn` and `password`".to_owned());
    }
    if url.host_str().unwrap_or_default().is_empty() {
        return Err(match url.scheme() {
            "ldapi" => "it names no socket; write its path with %2F for /, `ldapi://%2Frun%2Fslapd%2Fldapi`".to_owned(),
            _ => "it names no server".to_owned(),
        });
    }
    Ok(url)
}

/// Returns the authorities that may have signed the server's certificate.
fn trusted(ca: Option<&PathBuf>) -> std::result::Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = trust::authorities(ca).map_err(|fault| fault.reason)?;
    if roots.add_parsable_certificates(found).0 == 0 {
        return Err("none of the authorities' certificates can be used; name others in `ca_file`".to_owned());
    }
    Ok(roots)
}

/// Returns what TLS needs; `client`: the files of our own certificate and its key.
fn tls(roots: RootCertStore, client: Option<(&Path, &Path)>) -> std::result::Result<Arc<ClientConfig>, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let shown = trust::certificates(cert, "cert_file").map_err(|fault| fault.reason)?;
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| format!("`{}` (`key_file`) cannot be read as PEM: {error}", key.display()))?;
            config
                .with_client_auth_cert(shown, private)
                .map_err(|error| unfit(cert, key, &error))?
        }
    };
    Ok(Arc::new(config))
}

/// Says what is wrong with a certificate of our own and its key. (The library would speak of a peer's.)
fn unfit(cert: &Path, key: &Path, error: &rustls::Error) -> String {
    let (cert, key) = (cert.display(), key.display());
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("`{key}` (`key_file`) is not the key of the certificate in `{cert}` (`cert_file`)")
        }
        rustls::Error::InvalidCertificate(why) if why.to_string().contains("UnsupportedCertVersion") => {
            format!(
                "the certificate in `{cert}` (`cert_file`) is of version 1, and TLS here takes version 3: have it issued anew, with extensions"
            )
        }
        rustls::Error::InvalidCertificate(why) => {
            format!("the certificate in `{cert}` (`cert_file`) cannot be used: {why}")
        }
        other => format!("the key in `{key}` (`key_file`) cannot be used: {other}"),
    }
}
