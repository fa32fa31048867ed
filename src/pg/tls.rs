//! What `sslmode` and its companions mean: a rustls configuration that believes what libpq would believe.
//!
//! The rule that surprises: a root certificate file that is there is used in every mode, so `require` (and even
//! `prefer`) with `~/.postgresql/root.crt` verifies the chain. Without the file only `verify-ca` and `verify-full` fail.
//! `attempt` calls [`TlsSettings::connector`] for each try; nothing here opens a connection.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::errors::Result;

use super::environment::Environment;
use super::keywords::Words;
use super::settings::{bad_value, parsed};
use super::values::{self, BadValue, SslMode};
use super::verifier::{Chain, Verifier};

/// What was asked for about TLS.
#[derive(Debug, Clone)]
pub(super) struct TlsSettings {
    pub(super) mode: SslMode,
    /// TLS from the first byte, which servers know from version 17 on.
    pub(super) direct: bool,
    root: Root,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    revoked: Vec<PathBuf>,
    revoked_dir: Option<PathBuf>,
    names_server: bool,
    oldest: Version,
    newest: Version,
}

/// Whom to believe.
#[derive(Debug, Clone)]
enum Root {
    System,
    File(PathBuf),
    /// No home directory, hence no default file.
    Nowhere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    BeforeTls12,
    Tls12,
    Tls13,
}

/// Why TLS cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadTls {
    #[error("the root certificate file `{}` does not exist, and `sslmode={mode}` needs one", file.display())]
    NoRoot { file: PathBuf, mode: &'static str },
    #[error("`sslmode={0}` needs a root certificate file, and there is no home directory to look for it")]
    NoRootPlace(&'static str),
    #[error("`{}` cannot be read as PEM: {problem}", file.display())]
    Unreadable { file: PathBuf, problem: String },
    #[error("the system's root certificates cannot be read")]
    NoSystemRoots,
    #[error("there is the certificate `{}`, but not its private key{}", certificate.display(), .key.as_ref().map(|k| format!(" `{}`", k.display())).unwrap_or_default())]
    NoKey { certificate: PathBuf, key: Option<PathBuf> },
    #[error("the private key `{}` is not used: group or others have access to it; run `chmod 0600 {}`", .0.display(), .0.display())]
    OpenKey(PathBuf),
    #[error("the private key `{}` is encrypted, which is not supported; store it without a passphrase", .0.display())]
    EncryptedKey(PathBuf),
    #[error("`sslmode=verify-full` needs a host name, and only an address is given")]
    NoName,
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    #[error("the certificates cannot be used")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl TlsSettings {
    pub(super) fn new(words: &Words, env: &Environment) -> Result<TlsSettings> {
        let in_home = |name: &str| env.home.as_ref().map(|home| home.join(".postgresql").join(name));
        let file = |keyword: &str| words.filled(keyword).map(PathBuf::from);
        let root = match file("sslrootcert").or_else(|| in_home("root.crt")) {
            Some(file) if file == Path::new("system") => Root::System,
            Some(file) => Root::File(file),
            None => Root::Nowhere,
        };
        let default_mode = if matches!(root, Root::System) {
            SslMode::VerifyFull
        } else {
            SslMode::Prefer
        };
        let mode = parsed(words, "sslmode", values::ssl_mode)?.unwrap_or(default_mode);
        if matches!(root, Root::System) && mode != SslMode::VerifyFull {
            let problem = "too weak for `sslrootcert=system`, expected verify-full";
            return Err(bad_value(words, "sslmode", problem));
        }
        let direct = parsed(words, "sslnegotiation", |text| {
            values::choice(text, &[("postgres", false), ("direct", true)])
        })?;
        if direct == Some(true) && mode.is_weak() {
            let problem = "`direct`, which needs `sslmode` to be require, verify-ca or verify-full";
            return Err(bad_value(words, "sslnegotiation", problem));
        }
        let cert_mode = |text: &str| values::choice(text, &[("allow", true), ("disable", false)]);
        let may_show = parsed(words, "sslcertmode", cert_mode)?.unwrap_or(true);
        let given_crl = file("sslcrl");
        let revoked_dir = file("sslcrldir");
        let default_crl = || in_home("root.crl").filter(|file| revoked_dir.is_none() && file.exists());
        let tls = TlsSettings {
            mode,
            direct: direct.unwrap_or(false),
            root,
            certificate: file("sslcert")
                .or_else(|| in_home("postgresql.crt"))
                .filter(|_| may_show),
            key: file("sslkey").or_else(|| in_home("postgresql.key")),
            revoked: given_crl.or_else(default_crl).into_iter().collect(),
            revoked_dir,
            names_server: words.filled("sslsni").is_none_or(|sni| sni.starts_with('1')),
            oldest: parsed(words, "ssl_min_protocol_version", version)?
                .unwrap_or(Version::Tls12)
                .max(Version::Tls12),
            newest: parsed(words, "ssl_max_protocol_version", version)?.unwrap_or(Version::Tls13),
        };
        if tls.oldest > tls.newest {
            return Err(bad_value(
                words,
                "ssl_max_protocol_version",
                "too old: TLSv1.2 is the oldest that is spoken",
            ));
        }
        Ok(tls)
    }

    pub(super) fn mode_word(&self) -> &'static str {
        match self.mode {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    /// Makes what the client needs for one try. `name` is the host as it was given, if one was; `used` becomes true
    /// when the server shows its certificate, that is, when TLS is really spoken.
    pub(super) fn connector(&self, name: Option<&str>, used: Arc<AtomicBool>) -> Result<MakeRustlsConnect, BadTls> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier {
            chain: self.chain(&provider)?,
            name: match (self.mode, name) {
                (SslMode::VerifyFull, None) => return Err(BadTls::NoName),
                (SslMode::VerifyFull, Some(name)) => Some(name.to_owned()),
                _ => None,
            },
            algorithms: provider.signature_verification_algorithms,
            used,
        };
        let versions: Vec<&'static SupportedProtocolVersion> = [
            (Version::Tls12, &rustls::version::TLS12),
            (Version::Tls13, &rustls::version::TLS13),
        ]
        .into_iter()
        .filter(|(version, _)| (self.oldest..=self.newest).contains(version))
        .map(|(_, supported)| supported)
        .collect();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.own_certificate()? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = self.names_server;
        // A resumed session would skip the verifier.
        config.resumption = rustls::client::Resumption::disabled();
        if self.direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(MakeRustlsConnect::new(config))
    }

    /// Returns what verifies the chain; none when there is nothing to verify it by and the mode lets that pass.
    fn chain(&self, provider: &Arc<CryptoProvider>) -> Result<Option<Chain>, BadTls> {
        let roots: Vec<CertificateDer<'static>> = match &self.root {
            Root::System => rustls_native_certs::load_native_certs().certs,
            Root::File(file) if file.exists() => pem_items(file)?,
            Root::File(file) if self.mode.verifies() => {
                return Err(BadTls::NoRoot {
                    file: file.clone(),
                    mode: self.mode_word(),
                });
            }
            Root::Nowhere if self.mode.verifies() => return Err(BadTls::NoRootPlace(self.mode_word())),
            Root::File(_) | Root::Nowhere => return Ok(None),
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        if store.is_empty() {
            return Err(match &self.root {
                Root::File(file) => unreadable(file, "it holds no certificate"),
                _ => BadTls::NoSystemRoots,
            });
        }
        let mut revocations: Vec<CertificateRevocationListDer<'static>> = Vec::new();
        for file in self.revocation_files()? {
            revocations.extend(pem_items(&file)?);
        }
        let web_pki = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
        Ok(Some(Chain {
            web_pki: web_pki.with_crls(revocations).build()?,
            roots,
        }))
    }

    fn revocation_files(&self) -> Result<Vec<PathBuf>, BadTls> {
        let mut files = self.revoked.clone();
        if let Some(dir) = &self.revoked_dir {
            let entries = fs::read_dir(dir).map_err(|error| unreadable(dir, error))?;
            for entry in entries {
                let file = entry.map_err(|error| unreadable(dir, error))?.path();
                files.extend(file.is_file().then_some(file));
            }
        }
        Ok(files)
    }

    /// Returns the client's certificate and key. Like libpq, a certificate file that is not there means none.
    fn own_certificate(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, BadTls> {
        let Some(file) = self.certificate.as_ref().filter(|file| file.exists()) else {
            return Ok(None);
        };
        let key_file = self.key.as_ref().filter(|key| key.exists());
        let key_file = key_file.ok_or_else(|| BadTls::NoKey {
            certificate: file.clone(),
            key: self.key.clone(),
        })?;
        let about = fs::metadata(key_file).map_err(|error| unreadable(key_file, error))?;
        // libpq lets a group read a key that root owns.
        let forbidden = if about.uid() == 0 { 0o037 } else { 0o077 };
        if about.permissions().mode() & forbidden != 0 {
            return Err(BadTls::OpenKey(key_file.clone()));
        }
        let text = fs::read(key_file).map_err(|error| unreadable(key_file, error))?;
        let is_encrypted = String::from_utf8_lossy(&text)
            .lines()
            .any(|line| line.contains("ENCRYPTED"));
        if is_encrypted {
            return Err(BadTls::EncryptedKey(key_file.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| unreadable(key_file, error))?;
        Ok(Some((pem_items(file)?, key)))
    }
}

fn version(text: &str) -> Result<Version, BadValue> {
    let list = [
        ("", Version::BeforeTls12),
        ("TLSv1", Version::BeforeTls12),
        ("TLSv1.1", Version::BeforeTls12),
        ("TLSv1.2", Version::Tls12),
        ("TLSv1.3", Version::Tls13),
    ];
    values::choice(text, &list)
}

fn pem_items<T: PemObject>(file: &Path) -> Result<Vec<T>, BadTls> {
    let items = T::pem_file_iter(file).map_err(|error| unreadable(file, error))?;
    items.collect::<Result<_, _>>().map_err(|error| unreadable(file, error))
}

fn unreadable(file: &Path, problem: impl ToString) -> BadTls {
    BadTls::Unreadable {
        file: file.to_owned(),
        problem: problem.to_string(),
    }
}
