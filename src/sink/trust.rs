//! Whom a TLS connection of a sink trusts: the authorities of `ca_file`, or those of the system; and what to do when there is none.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Fault;

/// Returns the certificates of the authorities.
///
/// # Errors
/// [`super::Verdict::Down`]: there is none, or the file cannot be read.
pub(super) fn authorities(ca_file: Option<&PathBuf>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    if let Some(file) = ca_file {
        return certificates(file, "ca_file");
    }
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return Err(Fault::down(
            "the system has no root certificates; install them (`ca-certificates`) or give `ca_file`",
        ));
    }
    Ok(found)
}

/// Returns the certificates of the file that `setting` names.
///
/// # Errors
/// As [`authorities`].
pub(super) fn certificates(file: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let shown = file.display();
    let unreadable =
        |error: &dyn std::fmt::Display| Fault::down(format!("`{shown}` (`{setting}`) cannot be read as PEM: {error}"));
    let found: Vec<_> = CertificateDer::pem_file_iter(file)
        .map_err(|error| unreadable(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(&error))?;
    match found.is_empty() {
        true => Err(Fault::down(format!("`{shown}` (`{setting}`) holds no certificate"))),
        false => Ok(found),
    }
}

/// Returns the settings of a client that shows no certificate of its own.
///
/// # Errors
/// As [`authorities`].
#[cfg(any(feature = "nats", feature = "kafka"))]
pub(super) fn client(ca_file: Option<&PathBuf>) -> Result<rustls::ClientConfig, Fault> {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(authorities(ca_file)?);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::down(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(store)
        .with_no_client_auth())
}

/// What is said where the other side speaks no TLS: it hangs up over what it cannot read, or answers in the clear.
const NO_TLS: [&str; 3] = ["tls handshake eof", "unexpected end of file", "corrupt message"];

/// Returns what a library `said` of a connection with TLS, and a hint where a setting would help; `no_tls` is what to look at where the other side
/// speaks none. (It goes by the words: some of the libraries hand on nothing else.)
pub(super) fn explained(said: &str, ca_file: Option<&PathBuf>, no_tls: &str) -> String {
    // (An authority that was made anew under its old name has signed what the old one has not.)
    let hint = if ["UnknownIssuer", "BadSignature"]
        .iter()
        .any(|words| said.contains(words))
    {
        match ca_file {
            None => "name the file of the authority that signed the server's certificate as `ca_file`".to_owned(),
            Some(file) => format!(
                "`{}` (`ca_file`) does not hold the authority that signed the server's certificate",
                file.display()
            ),
        }
    } else if said.contains("CaUsedAsEndEntity") {
        "the server shows an authority's own certificate: give it one that the authority has signed, and name the \
         authority's file as `ca_file`"
            .to_owned()
    } else if said.contains("UnsupportedCertVersion") {
        "the server's certificate is of version 1, and TLS here takes version 3: have it issued anew".to_owned()
    } else if NO_TLS.iter().any(|words| said.contains(words)) {
        no_tls.to_owned()
    } else {
        return said.to_owned();
    };
    format!("{said} (hint: {hint})")
}
